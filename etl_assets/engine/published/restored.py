"""The mark of a restored warehouse, `restored.json`: nothing is merged over it until that is asked for.

It is written before the warehouse is swapped, and names the publication that it is about. So a restore that was killed
in between marks nothing, and neither does one whose warehouse was replaced since.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.files.documents import Form, Moment
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.errors import Action, Advice, ConfigError


@dataclass(frozen=True)
class Mark:
    """One restored publication, when it was restored, and when that which it replaced was published."""

    run_id: str
    published_at: Moment
    restored_at: Moment
    replaced_published_at: Moment | None = None


@dataclass(frozen=True)
class _Marks:
    marks: tuple[Mark, ...]


_FORM = Form(_Marks)


def read_mark(home: Home, publication: Publication | None = None) -> Mark | None:
    """The mark of the published warehouse; None when it was not restored, or was released since."""
    found = _FORM.read(home.restored_mark)
    present = publication or (read_publication(home) if found else None)
    if found is None or present is None:
        return None
    return next((mark for mark in found.marks if _is_about(mark, present)), None)


def write_mark(home: Home, publication: Publication, replaced: Publication | None) -> None:
    """Mark a publication that is about to be restored; the mark of the present one stays until it is replaced."""
    present = read_mark(home, replaced) if replaced else None
    new = Mark(
        publication.run_id,
        publication.published_at.astimezone(UTC),
        datetime.now(UTC),
        replaced.published_at.astimezone(UTC) if replaced else None,
    )
    _write(home, [new] if present is None else [present, new])


def mark_restored(
    home: Home, publication: Publication, restored_at: datetime, replaced_published_at: datetime | None
) -> None:
    """Mark the published version of a lake, which says so itself."""
    _write(home, [Mark(publication.run_id, publication.published_at, restored_at, replaced_published_at)])


def release(home: Home) -> Mark | None:
    """Let the next merge replace the restored warehouse; returns its mark, None when it had none."""
    mark = read_mark(home)
    sweeping.remove(home.restored_mark)
    return mark


def refuse_restored(home: Home) -> None:
    """ConfigError when the published warehouse was restored and not released."""
    mark = read_mark(home)
    if mark is None:
        return
    raise ConfigError(
        f"{held_text(mark)} Nothing is merged over it.",
        Advice(Action.RELEASE),
        Advice(Action.RUN_FORCED),
        subject=str(home.warehouse),
    )


def held_text(mark: Mark) -> str:
    """What a person must know of it, as a sentence."""
    return (
        f"The warehouse of {mark.published_at:%Y-%m-%d %H:%M:%S} UTC was restored at "
        f"{mark.restored_at:%Y-%m-%d %H:%M:%S} UTC and is held."
    )


def _is_about(mark: Mark, publication: Publication) -> bool:
    return (mark.run_id, mark.published_at) == (publication.run_id, publication.published_at.astimezone(UTC))


def _write(home: Home, marks: Sequence[Mark]) -> None:
    document = asdict(_Marks(tuple(marks)))
    publishing.publish_json(
        home.restored_mark,
        {"marks": [{name: _text(value) for name, value in mark.items()} for mark in document["marks"]]},
    )


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
