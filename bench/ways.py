"""The ways that are measured: the command of each, its result, and the reference to compare the result with.

Each run of a way gets a new scratch folder. Everything that the run needs (for the pipeline, an `ETL_HOME` with a
publication) is put there before the clock starts.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench import data
from etl_assets.engine.routing import shard_key
from etl_assets.project.loading import shipped_folder

CHECKOUT = Path(__file__).resolve().parent.parent
# The project whose profiles the peers compute, too.
PROJECT = shipped_folder()
FLOOR = "duckdb_query"
COLD = "run_cold"


class Kind(StrEnum):
    """The role of a way in the comparison."""

    FLOOR = "floor"
    PEER = "peer"
    OURS = "ours"


@dataclass(frozen=True)
class Case:
    """A set of exports and a number of shards. `home` holds what the pipeline published from them, the reference.

    `changed_sources` and `changed_home` are the same for the changed exports; None when no measured way needs them.
    """

    rows: int
    shards: int
    sources: Path
    home: Path
    peer_python: Path
    changed_sources: Path | None = None
    changed_home: Path | None = None


@dataclass(frozen=True)
class Start:
    """A command ready to start, the result that it will write, and the reference that the result must equal."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    result: Path
    reference: Path


@dataclass(frozen=True)
class Way:
    """One line of the table."""

    name: str
    title: str
    kind: Kind
    prepare: Callable[[Case, Path], Start]
    needs_peer_python: bool = False
    needs_change: bool = False


class PreparationError(Exception):
    """The pipeline's own run, whose result is the reference of all ways, failed."""


def publish(sources: Path, home: Path, shards: int, log: Path) -> None:
    """Let the pipeline publish these exports, unmeasured. Raises PreparationError when it does not.

    This also brings the exports and the program into memory, so that the first way has no disadvantage.
    """
    with log.open("wb") as output:
        done = subprocess.run(
            etl_assets("run"), env=settings(sources, home, shards), stdout=output, stderr=output, cwd=home, check=False
        )
    if done.returncode != 0:
        raise PreparationError(f"etl-assets run ended with {done.returncode}; see {log}")


def etl_assets(subcommand: str, *arguments: str) -> tuple[str, ...]:
    """A command of the pipeline, from the Python environment of this process."""
    return (str(Path(sys.executable).with_name("etl-assets")), subcommand, *arguments)


def environment() -> dict[str, str]:
    """This process's environment variables, without those that configure the pipeline, Dagster or Python's path."""
    prefixes = ("ETL_", "CHAOS_", "DAGSTER_", "BENCH_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def settings(sources: Path, home: Path, shards: int) -> dict[str, str]:
    """The environment variables with which the pipeline reads these exports and keeps all its files below `home`."""
    return environment() | {
        "ETL_PROJECT": str(PROJECT),
        "ETL_SOURCES": str(sources),
        "ETL_HOME": str(home / "etl"),
        "DAGSTER_HOME": str(home / "dagster"),
        "ETL_NUM_SHARDS": str(shards),
    }


def warehouse(home: Path) -> Path:
    """The warehouse that the pipeline publishes below `home`."""
    return home / "etl" / "warehouse.duckdb"


def _peer(module: str, suffix: str, *, own_python: bool = True, with_shards: bool = False) -> Callable[..., Start]:
    def prepare(case: Case, scratch: Path) -> Start:
        result = scratch / f"profiles{suffix}"
        python = str(case.peer_python) if own_python else sys.executable
        command = [python, "-m", f"bench.peers.{module}", str(case.sources), str(result)]
        if with_shards:
            command.append(str(case.shards))
        return Start(tuple(command), environment() | {"PYTHONPATH": str(CHECKOUT)}, result, warehouse(case.home))

    return prepare


def _cold(case: Case, scratch: Path) -> Start:
    return Start(
        etl_assets("run"), settings(case.sources, scratch, case.shards), warehouse(scratch), warehouse(case.home)
    )


def _unchanged(case: Case, scratch: Path) -> Start:
    shutil.copytree(case.home, scratch, dirs_exist_ok=True)
    # The copied files have other stamps than the published ones, so the first run on them verifies everything once.
    publish(case.sources, scratch, case.shards, scratch / "settled.log")
    return _cold(case, scratch)


def _one_shard(case: Case, scratch: Path) -> Start:
    shutil.copytree(case.home, scratch, dirs_exist_ok=True)
    start = _cold(case, scratch)
    command = etl_assets("run", "--shards", shard_key(min(3, case.shards - 1), case.shards), "--force")
    return Start(command, start.environment, start.result, start.reference)


def _few_changed(case: Case, scratch: Path) -> Start:
    assert case.changed_sources is not None, "the case has changed exports when a way needs them"
    assert case.changed_home is not None, "the case has changed exports when a way needs them"
    shutil.copytree(case.home, scratch, dirs_exist_ok=True)
    changed = settings(case.changed_sources, scratch, case.shards)
    return Start(etl_assets("run"), changed, warehouse(scratch), warehouse(case.changed_home))


WAYS: tuple[Way, ...] = (
    Way(FLOOR, "one DuckDB query (the floor)", Kind.FLOOR, _peer(FLOOR, ".duckdb", own_python=False)),
    Way("polars_script", "Polars script", Kind.PEER, _peer("polars_script", ".parquet"), needs_peer_python=True),
    Way("pandas_loop", "pandas and a Python loop", Kind.PEER, _peer("pandas_loop", ".parquet"), needs_peer_python=True),
    Way(
        "filter_all_workers",
        "workers that filter all files",
        Kind.PEER,
        _peer("filter_all_workers", ".parquet", with_shards=True),
        needs_peer_python=True,
    ),
    Way(
        "idiomatic_dagster",
        "Dagster with its DuckDB IO manager",
        Kind.PEER,
        _peer("idiomatic_dagster", ".duckdb", with_shards=True),
        needs_peer_python=True,
    ),
    Way(COLD, "etl-assets run, empty home", Kind.OURS, _cold),
    Way("run_unchanged", "etl-assets run, nothing changed", Kind.OURS, _unchanged),
    Way("run_one_shard", "etl-assets run --shards, one shard", Kind.OURS, _one_shard),
    Way(
        "run_few_changed",
        f"etl-assets run, 1 customer in {data.CHANGED_ONE_IN} changed",
        Kind.OURS,
        _few_changed,
        needs_change=True,
    ),
)
