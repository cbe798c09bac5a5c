"""From settings to the engine's parameters: the site, and the limits of each kind of work."""

from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.duck import Limits
from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.engine.steps.shrinking import ShrinkLimit
from etl_assets.engine.steps.stage import StagingRequest
from etl_assets.project.loading import Project, find_project, load_project
from etl_assets.project.settings import Settings

# Rows of all columns that each thread of a merge collects, and the pages that it reads and writes.
_MERGE_MB_A_THREAD = 150


def project_of(settings: Settings) -> Project:
    """The project that the settings name, else that of the nearest folder from here upwards, else the shipped one."""
    return load_project(settings.project or find_project(Path.cwd()))


def site_of(project: Project, settings: Settings) -> Site:
    """The project at work where the settings say."""
    return Site(project, home_of(settings), settings.num_shards, exports_of(settings), settings.lake)


def home_of(settings: Settings) -> Home:
    """The folder of what the pipeline makes, or of the copies of it that it works on."""
    home = Home(settings.home)
    return home.of_lake(settings.lake) if settings.lake else home


def exports_of(settings: Settings) -> Path:
    """The folder in which the exports are read: the one that is named, or the copy of what lies in an object store."""
    sources = settings.sources
    return sources if isinstance(sources, Path) else Home(settings.home).exports(sources)


def run_limits(settings: Settings) -> Limits:
    """The limits of a run, shared by all workers."""
    return Limits(memory_mb=settings.memory_limit, threads=settings.workers)


def merge_limits(settings: Settings) -> Limits:
    """The limits of the merge. It passes rows on; more memory would only cache pages that are read once."""
    enough_mb = max(settings.memory_limit // 3, _MERGE_MB_A_THREAD * settings.workers)
    return Limits(memory_mb=min(settings.memory_limit, enough_mb), threads=settings.workers)


def shrink_limit(settings: Settings, *, accept_shrunk: bool = False) -> ShrinkLimit:
    """How much of the last publication must still be there."""
    return ShrinkLimit(settings.min_rows_ratio, accept_shrunk)


def staging_request(site: Site, settings: Settings, *, accept_shrunk: bool = False) -> StagingRequest:
    """The parameters of staging, from these settings; its limits are those of each worker."""
    return StagingRequest(
        site,
        exports_of(settings),
        settings.max_reject_ratio,
        run_limits(settings).share(settings.workers),
        settings.max_unpacked,
        settings.source_timeout_s,
        settings.max_superseded_ratio,
        shrink_limit(settings, accept_shrunk=accept_shrunk),
    )


def arm_faults(settings: Settings) -> None:
    """Arm what `ETL_FAULT` and `CHAOS_FAIL_SHARD` name, in this process; ConfigError when that is refused."""
    faults.arm(
        settings.fault,
        settings.chaos_fail_shard,
        is_production=settings.is_production,
        shard_count=settings.num_shards,
    )
