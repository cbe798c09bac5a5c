"""Before a run: refuse impossible requests, and recognise a run that would change nothing.

No Dagster import: it takes a second, which a wrong setting or a run with nothing to do should not cost.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

import duckdb

from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.lake.probing import open_lake
from etl_assets.engine.published import warehouse
from etl_assets.engine.published.attempts import latest_attempts, unlisted_attempts
from etl_assets.engine.published.holding import sweep_unused
from etl_assets.engine.published.inspecting import fetch_state, inspect
from etl_assets.engine.published.kept_warehouses import sweep_kept
from etl_assets.engine.published.restored import refuse_restored
from etl_assets.engine.published.shards import ShardSet
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.engine.reading.header_checks import refuse_shared_files
from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.mapping import find_inputs
from etl_assets.engine.reading.strays import refuse_strays, unread_names
from etl_assets.engine.site import Site
from etl_assets.engine.steps.binding import refusals
from etl_assets.engine.steps.build_many import damaged
from etl_assets.engine.steps.refusing import refusing
from etl_assets.engine.steps.stage import is_current, open_inputs
from etl_assets.errors import Action, Advice, ConfigError, InputError, all_in_one
from etl_assets.pipeline.configuration import exports_of, merge_limits, staging_request
from etl_assets.pipeline.fetching import fetch_exports
from etl_assets.pipeline.report import Report, ShardReport, source_report
from etl_assets.project.settings import Settings


def refuse_impossible(
    site: Site, settings: Settings, *, shards: Sequence[str] | None = None, force: bool = False
) -> None:
    """Refuse what cannot work before anything is written but the reason why a source is refused.

    ConfigError for unknown shard names, an ETL_HOME that cannot be written to or whose warehouse has another shard
    count; InputError for exports that are missing or break the contract as a whole.
    """
    known = site.shard_ids
    unknown = [name for name in shards or () if name not in known]
    if unknown:
        raise ConfigError(
            f"No such shard: {', '.join(unknown)}. With ETL_NUM_SHARDS={site.shard_count} the shards are {known[0]} to "
            f"{known[-1]}.",
            subject=unknown[0],
        )
    prepare_lake(site)
    fetch_exports(settings)
    _refuse_bad_exports(site, settings)
    files = {source.name: find_files(source, exports_of(settings)) for source in site.contract.sources}
    refuse_shared_files(files, exports_of(settings))
    publishing.require_writable(site.home)
    refuse_other_shard_count(site, force=force)
    if not force:
        refuse_restored(site.home)


def prepare_lake(site: Site) -> None:
    """With a lake: make sure that this project may work in it, and fetch what it says; ConfigError says why not."""
    if site.lake is not None:
        publishing.require_writable(site.home)
        open_lake(site.lake, site.contract.name)
        fetch_state(site)


def _refuse_bad_exports(site: Site, settings: Settings) -> None:
    """InputError with what is wrong with the files and headers of all sources."""
    errors: list[InputError] = []
    for source in site.contract.sources:
        with _collecting(errors), refusing(site.home, source.name):
            found: list[InputError] = []
            with _collecting(found):
                # Those of a current snapshot have been read.
                if not is_current(source, staging_request(site, settings)):
                    open_inputs(source, exports_of(settings), find_inputs(source, exports_of(settings)))
            with _collecting(found):
                refuse_strays(site.contract, source, exports_of(settings))
            if found:
                raise all_in_one(found)
    if errors:
        raise all_in_one(errors)


@contextlib.contextmanager
def _collecting(errors: list[InputError]) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        errors.append(error)


def refuse_bad_sql(site: Site) -> None:
    """ConfigError for SQL of the project that DuckDB refuses, with file and line; every shard would fail of it."""
    found = refusals(site)
    if not found:
        return
    places = [f"{one.file}, line {one.line}" if one.line else one.file for one in found]
    lines = [f"{place}: {one.text}" for place, one in zip(places, found, strict=True)]
    raise ConfigError(
        "The project's SQL cannot be run; nothing was changed.\n  " + "\n  ".join(lines),
        Advice(Action.EDIT, value=found[0].file),
        subject=found[0].file,
    )


def refuse_other_shard_count(site: Site, *, force: bool = False) -> None:
    """ConfigError when the published warehouse was made of another number of shards; `force` lets it be replaced."""
    publication = read_publication(site.home)
    if publication is None or force or publication.shard_count == site.shard_count:
        return
    raise ConfigError(
        f"{site.home.warehouse} was published from {publication.shard_count} shards, but ETL_NUM_SHARDS is "
        f"{site.shard_count}.",
        Advice(Action.SET, "ETL_NUM_SHARDS", str(publication.shard_count)),
        Advice(Action.SET, "ETL_HOME"),
        Advice(Action.RUN_FORCED),
        subject=str(site.home.warehouse),
    )


def sweep_unmerged(site: Site, settings: Settings) -> None:
    """Remove what a merge would remove, where there is nothing to merge."""
    sweeping.sweep_home(site.home)
    # A merge of these shards would not be refused any more.
    sweeping.discard(site.home.refused_merge)
    sweep_unused(site)
    sweep_kept(site.home, settings.keep_warehouses)


def nothing_to_do(site: Site, settings: Settings) -> Report | None:
    """The report of a run that would change nothing; None when there may be something to do.

    Everything a run would verify is verified: exports by their stats, shards and warehouse by their whole content.
    Whether Dagster has the events of this publication is for the caller to ask.
    """
    started_s = time.perf_counter()
    fetch_exports(settings)
    request = staging_request(site, settings)
    if not all(is_current(source, request) for source in site.contract.sources):
        return None
    fetch_state(site)
    found = inspect(site)
    publication = current_publication(site, found)
    if publication is None or _is_damaged(site, settings, found):
        return None
    for name in site.contract.source_names:
        sweeping.discard(site.home.refused_pointer(name))
    sweep_unmerged(site, settings)
    return Report(
        sources=[
            source_report(site.home, site.contract.source(name), snapshot, None, reused=True)
            for name, snapshot in found.snapshots.items()
        ],
        shards=[ShardReport(m.shard_id, Status.REUSED, m.record_count) for m in found.manifests],
        publication=publication,
        unread_files=unread_names(site.contract, exports_of(settings)),
        is_unchanged=True,
        elapsed_ms=round((time.perf_counter() - started_s) * 1000),
    )


def _is_damaged(site: Site, settings: Settings, found: ShardSet) -> bool:
    """Whether shards or warehouse do not hold what they say; a lake's files were compared by size and tag just now."""
    if site.lake is not None:
        return False
    is_bad = damaged(site.home, found.manifests, settings.workers)
    return bool(is_bad or warehouse.damage(site.home, merge_limits(settings)))


def current_publication(site: Site, found: ShardSet) -> Publication | None:
    """The published warehouse if it is of this very set, which is complete and at rest, and lists what went wrong.

    An attempt that failed, or was killed, after the merge is not in the warehouse yet, also when a later one reused
    the shard.
    """
    publication = read_publication(site.home)
    if found.obstacles or publication is None or publication.set_hash != found.set_hash:
        return None
    try:
        since = unlisted_attempts(site.home, site.shard_ids, warehouse.listed_attempts(site.home))
    except (duckdb.Error, OSError):
        return None
    latest = latest_attempts(site.home, site.shard_ids)
    # A cancelled one is listed with the next merge: it is no reason for one.
    is_complete = not any(attempt.status in (Status.FAILED, Status.KILLED) for attempt in since)
    return publication if is_complete and all(attempt.status.is_done for attempt in latest) else None
