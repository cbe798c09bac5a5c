"""Small JSON documents under `ETL_HOME`, read as the dataclass they were written from, or as not there.

A document is state, not trust: it may be of a newer release, damaged, or put there by someone else. A file of another
shape counts as missing, and every reader can recover from that. Keys that the dataclass does not have are ignored, so
that an older release can go on with what a newer one wrote.
"""

import errno
import json
import os
import stat
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from etl_assets.errors import Action, Advice, ConfigError

_Document = TypeVar("_Document")

# Beyond any document of this pipeline: a snapshot of 1,000 shards is 0.1 MB.
MAX_BYTES = 16 << 20
# No file, a file where a folder should be, a link, a socket.
_NOT_OURS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.ENXIO)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time outside of the calendar") from error


def _text_in_utc(text: str) -> str:
    """The one form of a moment: Python reads weeks (`2026-W48-4`) and dates without hyphens, which DuckDB refuses."""
    return _in_utc(datetime.fromisoformat(text)).isoformat(timespec="microseconds")


def _second_in_utc(text: str) -> str:
    return _in_utc(datetime.fromisoformat(text)).isoformat(timespec="seconds")


# Types of fields. Databases hold no larger numbers, and a size or a count below zero is no count.
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
SmallCount = Annotated[int, Field(ge=0, lt=1 << 31)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
MomentText = Annotated[str, AfterValidator(_text_in_utc)]
SecondText = Annotated[str, AfterValidator(_second_in_utc)]


class Form(Generic[_Document]):
    """How the documents of one dataclass are read; made once, at import, and compiled at the first use."""

    def __init__(self, document: type[_Document]) -> None:
        self._document = document

    @cached_property
    def _adapter(self) -> TypeAdapter[_Document]:
        return TypeAdapter(self._document)

    def read(self, path: Path) -> _Document | None:
        """The document in a file; None when there is none of this shape."""
        content = read_own(path)
        return None if content is None else self.parse(content)

    def parse(self, content: bytes | str) -> _Document | None:
        """The document in a JSON text; None when it is anything else."""
        try:
            # Strict: no text is taken for a number, no 1 for true. JSON mode: a list is a tuple, a text a time.
            return self._adapter.validate_json(content, strict=True)
        except ValidationError:
            return None

    def shaped(self, value: Any) -> _Document | None:
        """The document in plain values that were a part of a larger one; None when they are anything else."""
        try:
            return self._adapter.validate_python(value, strict=False)
        except ValidationError:
            return None


def encoded(target: Path, value: Any) -> bytes:
    """A document as its file holds it; ConfigError for one that is too large for the readers."""
    content = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{target} would have {len(content):,} bytes; expected at most {MAX_BYTES:,}. It lists the files of a "
            "source or the parts of an ETL_HOME: put the rows of many small files into fewer.",
            Advice(Action.EXPORT_AGAIN),
            subject=str(target),
        )
    return content


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a small file; None if there is none, or anything else. `Form` checks fields too."""
    content = read_own(path)
    if content is None:
        return None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_own(path: Path) -> bytes | None:
    """The bytes of a small file that this pipeline wrote; None when there is none, or anything else.

    Deliberately not through a link: the pipeline makes no links here, and one could show it a file of someone else.
    A pipe is opened without waiting for a writer. Raises OSError for a file that is there and cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            return None
        return os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
