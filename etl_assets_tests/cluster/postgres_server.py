"""A PostgreSQL server of the tests' own, in a temporary folder and on a free port."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

# What a shell, a URL or a YAML file might take for something else.
PASSWORD = "it's 100%: a#secret"
_USER = "dagster"
# PostgreSQL refuses to run as root. Debian's package makes this user.
_SERVANT = "postgres"
_PLACES = "/usr/lib/postgresql/*/bin", "/usr/local/bin", "/opt/homebrew/opt/postgresql*/bin"
_MISSING = (
    "The tests of the cluster need PostgreSQL's initdb and pg_ctl, and there are none: apt-get install -y postgresql"
)


@dataclass(frozen=True)
class PostgresServer:
    """A server that can be stopped, as a host that goes down stops it, and started again."""

    folder: Path
    host: str
    port: int

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses={self.host} -c fsync=off"
        self._control("start", "-w", "-t", "120", "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        """End it at once, with every connection."""
        self._control("stop", "-m", "immediate", "-w")

    def _control(self, *arguments: str) -> None:
        _run("pg_ctl", "-D", str(self.folder / "data"), *arguments)

    def new_database(self) -> dict[str, str]:
        """An empty database, as the variables that deploy/ray/dagster.yaml reads."""
        name = f"dagster_{uuid.uuid4().hex[:12]}"
        # No transaction: a database cannot be created in one.
        with closing(psycopg2.connect(self.address("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{name}"')
        return {
            "DAGSTER_PG_HOST": self.host,
            "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_DATABASE": name,
            "DAGSTER_PG_USER": _USER,
            "DAGSTER_PG_PASSWORD": PASSWORD,
        }

    def size_bytes(self, database: str) -> int:
        """What a database takes on disk."""
        with closing(psycopg2.connect(self.address("postgres"))) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(%s)", [database])
            return int(cursor.fetchone()[0])

    def address(self, database: str) -> str:
        """As libpq reads it."""
        secret = PASSWORD.replace("'", r"\'")
        return f"host={self.host} port={self.port} dbname={database} user={_USER} password='{secret}'"


@contextmanager
def postgres_server(host: str = "127.0.0.1") -> Iterator[PostgresServer]:
    """Make a server at this address, and remove it at the end. AssertionError where PostgreSQL is not installed."""
    _program("initdb")
    with socket.socket() as free:
        free.bind((host, 0))
        port = int(free.getsockname()[1])
    # Not in the tests' folder: another user cannot pass through root's.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, secret):
                shutil.chown(path, _SERVANT)
        _run("initdb", "-D", str(folder / "data"), "-U", _USER, "-A", "scram-sha-256", "-N", f"--pwfile={secret}")
        with (folder / "data" / "pg_hba.conf").open("a") as access:
            access.write("host all all samenet scram-sha-256\n")
        server = PostgresServer(folder, host, port)
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str:
    """The newest that is installed; Debian keeps them out of PATH."""
    folders = sorted(
        (path for place in _PLACES for path in Path("/").glob(place[1:])),
        key=lambda path: int("".join(filter(str.isdigit, path.parent.name)) or 0),
    )
    for folder in reversed(folders):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    assert found, _MISSING
    return found


def _run(name: str, *arguments: str) -> None:
    user = _SERVANT if os.geteuid() == 0 else None
    # The server keeps what it inherits open: a pipe would not end.
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [_program(name), *arguments], user=user, group=user, cwd="/", stdout=log, stderr=log, check=False
        )
        log.seek(0)
        assert done.returncode == 0, log.read().decode()
