"""Before anything is kept in a store: it can be written to, keeps two writers of one name apart, and has our time."""

import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.files.documents import Form, encoded
from etl_assets.engine.lake.store import MAX_SKEW_S, SETTING, Store, skewed
from etl_assets.errors import Action, Advice, ConfigError, shown

FOLDER = "probe"
# The object that says whose lake it is, and the folder of its table.
CLAIM, TABLE = "lake.json", "profiles"
FORMAT = 1


def probe(store: Store) -> None:
    """Create one object twice and replace it with a wrong tag; ConfigError unless both are refused.

    A store that ignores these conditions tells two merges at once that both have published, and loses one of them
    without a word. ConfigError, too, when this machine's clock is not the store's.
    """
    key = f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        first = store.create(key, b"first")
        faults.point("probe.put")
        second = store.create(key, b"second")
        third = store.replace(key, b"third", second.stat) if second.content == b"first" else None
        fourth = store.replace(key, b"fourth", first.stat) if third is not None else None
        is_sound = (first.content, second.content) == (b"first", b"first")
        is_swap = third is not None and fourth is not None and (third.content, fourth.content) == (b"third", b"third")
    finally:
        store.delete([key])
    if not is_sound or not is_swap:
        condition = "If-Match" if is_sound else "If-None-Match"
        raise ConfigError(
            f"{store.url}: this store ignores conditional puts ({condition}), so that two runs at once would lose a "
            "publication. Expected a store that has them, such as Amazon S3, MinIO, Cloudflare R2, Google Cloud "
            "Storage or Azure Blob Storage; or a proxy before it that passes the header on.",
            Advice(Action.SET, SETTING),
            subject=SETTING,
        )
    assert fourth is not None, "it is sound"
    ahead_s = time.time() - fourth.stat.modified_s
    if abs(ahead_s) > MAX_SKEW_S:
        side = "ahead of" if ahead_s > 0 else "behind"
        raise skewed(store.url, f"{abs(ahead_s) / 60:.0f} minutes {side} the store's")


@dataclass(frozen=True)
class _Claim:
    """Whose lake it is; `format` changes with the layout."""

    project: str
    format: int


_FORM = Form(_Claim)


def open_lake(store: Store, project: str) -> None:
    """Make sure that this project may write there; ConfigError that says why not, before anything else is put."""
    probe(store)
    mine = _Claim(project, FORMAT)
    content = encoded(Path(CLAIM), asdict(mine))
    found = store.get(CLAIM)
    if found is None:
        others = [key for key in store.list(TABLE) if key.endswith(".parquet") or "/_delta_log/" in key]
        if others:
            raise ConfigError(
                f"{store.url} has {others[0]}, and no {CLAIM}: the table is someone else's. Expected "
                "a prefix of its own.",
                Advice(Action.SET, SETTING),
                subject=SETTING,
            )
        found = store.create(CLAIM, content)
    theirs = _FORM.parse(found.content)
    if theirs != mine:
        of = f"the project '{shown(theirs.project)}', format {theirs.format}" if theirs else "something else"
        raise ConfigError(
            f"{store.url} is the lake of {of}. Expected one of '{project}', format {FORMAT}: each project has a prefix "
            "of its own.",
            Advice(Action.SET, SETTING),
            subject=SETTING,
        )
