"""Back to an earlier publication of a lake: one more version of the table, with its files, which is held."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from etl_assets.engine import faults
from etl_assets.engine.lake.delta import Version
from etl_assets.engine.lake.store import Store
from etl_assets.engine.published.lake_names import PROFILES_FOLDER, PUBLICATIONS, profiles_key
from etl_assets.engine.published.lake_versions import Document, fetch_publication, lake_table, read_document
from etl_assets.engine.published.restored import Mark, read_mark
from etl_assets.engine.published.warehouse import Publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps.restoring import Restored
from etl_assets.errors import Action, Advice, ConfigError


@dataclass(frozen=True)
class KeptVersion:
    """A version of the table that is kept whole."""

    number: int
    document: Document

    @property
    def publication(self) -> Publication:
        """What it published."""
        return self.document.publication

    @property
    def when(self) -> str:
        """Its time as a person reads and types it."""
        return f"{self.publication.published_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def kept_versions(site: Site, count: int) -> tuple[KeptVersion | None, list[KeptVersion]]:
    """The present version, and the publications before it that are kept, the last first, each once."""
    store, now = _store(site), lake_table(site).current()
    if now is None:
        return None, []
    present = KeptVersion(now.number, read_document(store, now.document))
    seen = {_identity(present)}
    found = []
    for one in _versions(site, store, now, count):
        if _identity(one) not in seen:
            seen.add(_identity(one))
            found.append(one)
    return present, found


def restore_version(site: Site, when: str | None, count: int) -> Restored:
    """Publish an earlier publication again and hold it; `when` is the beginning of its time, None the one before.

    ConfigError when there is none, or its files are gone; ShardSetError when a merge has published meanwhile.
    """
    store, before = _store(site), lake_table(site).current()
    present, kept = kept_versions(site, count)
    matching = kept if when is None else [one for one in kept if _begins(one, when)]
    if before is None or present is None or not matching or (when is not None and len(matching) > 1):
        listed = ", ".join(one.when for one in kept) or "none"
        what = f"'{when}' (UTC)" if when else "before the present one"
        raise ConfigError(f"Not one kept version was published {what}. Kept are: {listed}.", Advice(Action.LIST_KEPT))
    target = matching[0]
    files = store.list(PROFILES_FOLDER)
    gone = [one.name for one in target.document.table_files if profiles_key(one.name) not in files]
    if gone:
        raise ConfigError(
            f"The version of {target.when} UTC is not restored: {len(gone)} of its files are gone, such as {gone[0]}.",
            Advice(Action.LIST_KEPT),
        )
    replaced = present.publication
    held = replace(
        target.document,
        restored_at=datetime.now(UTC).isoformat(),
        replaced_published_at=replaced.published_at.astimezone(UTC).isoformat(),
    )
    _publish(site, before, held)
    return Restored(target.publication, replaced, is_kept=True)


def release_version(site: Site) -> Mark | None:
    """Let the next merge replace a restored version; returns its mark, None when it has none."""
    before = lake_table(site).current()
    fetch_publication(site.home, _store(site), site.contract)
    mark = read_mark(site.home)
    if mark is not None and before is not None:
        document = read_document(_store(site), before.document)
        _publish(site, before, replace(document, restored_at=None, replaced_published_at=None))
    return mark


def _publish(site: Site, before: Version, document: Document) -> None:
    store = _store(site)
    key = f"{PUBLICATIONS}/{document.publication.set_hash}-{uuid.uuid4().hex[:8]}.json"
    store.put(key, document.encoded())
    faults.point("restore.before_swap")
    lake_table(store).commit(before, document.columns, document.table_files, key, site.contract.name)
    faults.point("restore.after_swap")
    fetch_publication(site.home, store, site.contract)


def _versions(site: Site, store: Store, now: Version, count: int) -> Iterator[KeptVersion]:
    table = lake_table(site)
    for number in range(now.number - 1, max(-1, now.number - 1 - count), -1):
        name = table.document_of(number)
        if name is not None and store.head(name) is not None:
            yield KeptVersion(number, read_document(store, name))


def _identity(one: KeptVersion) -> tuple[str, datetime]:
    return one.publication.run_id, one.publication.published_at


def _begins(one: KeptVersion, when: str) -> bool:
    digits = "".join(filter(str.isdigit, when))
    return bool(digits) and f"{one.publication.published_at.astimezone(UTC):%Y%m%d%H%M%S%f}".startswith(digits)


def _store(site: Site) -> Store:
    assert site.lake is not None, "only for a lake"
    return site.lake
