"""Dagster's migrations are read once a process, whatever number of databases it looks into."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from alembic.util import pyfiles
from etl_assets.orchestration.instance.opening import open_instance
from pathlib import Path

read = []
load = pyfiles.load_python_file
from alembic.script import base
base.util.load_python_file = lambda folder, name: (read.append(name), load(folder, name))[1]
with open_instance(Path(sys.argv[1])) as instance:
    for run_id in ("one", "two"):
        with instance.event_log_storage.run_connection(run_id):
            pass
revisions = [name for name in read if name != "env.py"]
print(len(revisions), len(set(revisions)), instance.run_storage.alembic_version())
"""


def test_a_process_reads_each_migration_once_and_makes_the_newest_databases(tmp_path: Path) -> None:
    """Fails: each of a thousand runs that a page shows costs the time of a small shard."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
        )
        count, distinct, versions = done.stdout.strip().split(maxsplit=2)
        assert count == distinct
        assert int(count) > 50
        # What the database has, and what is the newest.
        has, newest = eval(versions)
        assert has == newest
