"""A source, staged and then sent to the lake: what makes it current there is the pointer, which is sent last."""

from etl_assets.engine.published.mirroring import fetch_source, fetch_whole, send_source
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.steps.stage import StagingRequest, stage
from etl_assets.project.contract import Source


def stage_and_send(source: Source, request: StagingRequest, *, force: bool = False) -> tuple[Snapshot, bool]:
    """As `stage`; with a lake, from its current snapshot and to the lake.

    Deliberately around `stage`: an error of the store is no reason to note that the exports were refused. Raises
    StoreError too, and SourceChangedError when another run has staged the source meanwhile.
    """
    site = request.site
    if site.lake is None:
        return stage(source, request, force=force)
    before = fetch_source(site, source.name)
    snapshot, reused = stage(source, request, force=force)
    if reused:
        # Another machine may have made it, and the rows of a source are counted again where it is staged.
        fetch_whole(site, [snapshot])
    send_source(site, source.name, before)
    return snapshot, reused
