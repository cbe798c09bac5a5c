"""Back to a warehouse that was replaced: one rename, with the present one kept, so that this can be undone too."""

from dataclasses import dataclass

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.kept_warehouses import KeptWarehouse, chosen, keep, sweep_kept
from etl_assets.engine.published.restored import write_mark
from etl_assets.engine.published.warehouse import Publication, damage, publication_in, read_publication
from etl_assets.errors import ConfigError, WriteError


@dataclass(frozen=True)
class Restored:
    """What is published now, what it replaced (None when that could not be read), and where that is kept."""

    publication: Publication
    replaced: Publication | None
    is_kept: bool


def restore(home: Home, limits: duck.Limits, when: str | None, keep_count: int) -> Restored:
    """Publish a kept warehouse again and mark it; `when` as in `kept_warehouses.chosen`.

    Readers see the present one until the rename, and the other one from then on. A kill at any moment leaves one of
    both. Raises ConfigError when there is none to restore, WriteError when its rows are not those that were published.
    """
    target = chosen(home, when)
    present = read_publication(home)
    if target.is_present:
        raise ConfigError(f"The warehouse of {target.when} UTC is the one that is published.", subject=target.when)
    publication = _verified(home, target, limits)
    kept = keep(home, present) if present is not None else None
    faults.point("restore.kept")
    write_mark(home, publication, present)
    faults.point("restore.marked")
    with publishing.publish_file(home.warehouse, what=None) as temporary:
        publishing.link_published(target.path, temporary)
        faults.point("restore.before_swap")
    faults.point("restore.after_swap")
    sweep_kept(home, keep_count)
    return Restored(publication, present, kept is not None)


def _verified(home: Home, target: KeptWarehouse, limits: duck.Limits) -> Publication:
    fault = damage(home, limits, target.path)
    publication = publication_in(target.path)
    if fault is not None or publication is None:
        raise WriteError(
            f"The kept warehouse {target.path} is not restored: {fault or 'it cannot be read'}. The present one stays.",
            subject=str(target.path),
        )
    return publication
