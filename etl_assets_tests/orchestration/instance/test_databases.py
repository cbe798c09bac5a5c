"""What a process needs for Dagster's databases is made once, whatever number of times it looks into them."""

import json
import subprocess
import sys
from pathlib import Path

from sqlalchemy.pool import NullPool, StaticPool

from etl_assets.orchestration.instance import databases
from etl_assets.orchestration.instance.opening import open_instance

PROGRAM = """
import json
import sys
from pathlib import Path

import sqlalchemy
from alembic.script import base
from alembic.util import pyfiles

read, made = [], []
load, create_engine = pyfiles.load_python_file, sqlalchemy.create_engine
base.util.load_python_file = lambda folder, name: (read.append(name), load(folder, name))[1]
sqlalchemy.create_engine = lambda address, **options: (made.append(address), create_engine(address, **options))[1]

from etl_assets.orchestration.instance.opening import open_instance

with open_instance(Path(sys.argv[1])) as instance:
    for run_id in ("one", "two", "one", "two"):
        with instance.event_log_storage.run_connection(run_id):
            pass
    for _ in range(3):
        assert instance.get_runs() == []
    print(json.dumps([read, made, instance.run_storage.alembic_version()]))
"""


def test_a_process_reads_each_migration_and_makes_each_engine_once(tmp_path: Path) -> None:
    """Fails: each of a thousand runs that a page shows, and each event of a run, costs far more than it needs."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
        )
        read, made, (has, newest) = json.loads(done.stdout)
        revisions = [name for name in read if name != "env.py"]
        assert len(revisions) == len(set(revisions)) > 50
        # Runs, schedules, and two of the runs' own; that of all runs' events when it is made.
        assert len(made) == len(set(made)) >= 4
        # The database has the newest form.
        assert has == newest


def test_a_process_that_looks_into_many_databases_keeps_few_engines(tmp_path: Path) -> None:
    """Fails: the webserver and the daemon grow with every run that they ever showed."""
    databases._engine_of.cache_clear()
    with open_instance(tmp_path) as instance:
        for number in range(3 * databases._MAX_ENGINES):
            with instance.event_log_storage.run_connection(f"run_{number}"):  # type: ignore[attr-defined]
                pass
    assert databases._engine_of.cache_info().currsize == databases._MAX_ENGINES


def test_an_engine_that_holds_connections_is_not_shared(tmp_path: Path) -> None:
    """Fails: a newer Dagster keeps connections, and one crosses a fork or two threads."""
    databases.reuse_engines_and_migrations()
    made = [
        databases.sqlite_run_storage.create_engine(f"sqlite:///{tmp_path}/x.db", poolclass=kind)  # type: ignore[attr-defined]
        for kind in (NullPool, NullPool, StaticPool, StaticPool)
    ]
    assert made[0] is made[1]
    assert made[2] is not made[3]
