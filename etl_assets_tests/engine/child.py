"""The engine in a process of its own, which a fault may kill.

    python -m etl_assets_tests.engine.child PROJECT SOURCES HOME SHARD_COUNT FAULT STEP…

Steps are `stage`, `build`, `rebuild` (of unchanged shards too), `merge` and `restore`; an empty fault arms none.
"""

import subprocess
import sys
from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.engine.steps.restoring import restore
from etl_assets.project.loading import load_project
from etl_assets_tests.factory import LIMITS, stage_all, staging_request

# As the setting's default.
KEEP_COUNT = 3


def run(site: Site, sources: Path, fault: str, *steps: str) -> int:
    """Do these steps in a child; returns its exit code, which is -9 when it was killed."""
    assert site.project.folder is not None, "a child loads the project from its folder"
    facts = [site.project.folder, sources, site.home.root, site.shard_count, fault, *steps]
    command = [sys.executable, "-m", __name__, *map(str, facts)]
    return subprocess.run(command, check=False, timeout=120).returncode


def do(site: Site, sources: Path, *steps: str, run_id: str = "run") -> None:
    """Do these steps in this process; an error of any shard is raised."""
    for step in steps:
        if step == "stage":
            stage_all(staging_request(sources, site))
        elif step in ("build", "rebuild"):
            request = ShardsRequest(site, LIMITS, run_id, 1, force=step == "rebuild")
            for news in build_shards(request, site.shard_ids):
                if isinstance(news, ShardResult) and news.error is not None:
                    raise news.error
        elif step == "restore":
            restore(site.home, LIMITS, None, KEEP_COUNT)
        else:
            merge_shards(site, LIMITS, run_id=run_id, keep_count=KEEP_COUNT)


def main(project: str, sources: str, home: str, shard_count: str, fault: str, *steps: str) -> None:
    """Arm the fault and do the steps."""
    site = Site(load_project(project), Home(Path(home)), int(shard_count))
    faults.arm(fault, "", is_production=False, shard_count=site.shard_count)
    do(site, Path(sources), *steps, run_id="child")


if __name__ == "__main__":
    main(*sys.argv[1:])
