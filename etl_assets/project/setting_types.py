"""How a folder, a whole number, a share and a size are written, in the environment and in a project's file."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

# Also with a slash too few, which would be a folder's name.
_SCHEME = re.compile(r"(s3|gs|az|file|https?|abfss?|wasbs?|gcs):/")
_LAKE = re.compile(r"((s3|gs|az)://[a-z0-9][a-z0-9._-]+(/[A-Za-z0-9_.=-]+)*|file://(/[A-Za-z0-9_.=-]+)+)/?")


def setting(meaning: str, expected: str, shown: str, **options: Any) -> Any:
    """A field with what the documentation and the messages say: `shown` is the default as one would write it."""
    return Field(description=meaning, json_schema_extra={"expected": expected, "shown": shown}, **options)


def _path(value: Any) -> Any:
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


def _whole(value: Any) -> Any:
    """Digits only: pydantic would take 1e1 and 10.0 as well."""
    if isinstance(value, str):
        if not re.fullmatch(r"\s*[0-9]+\s*", value):
            raise ValueError("not a whole number")
        return int(value)
    return value


def _share(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\s*[0-9]*\.?[0-9]+\s*", value):
        raise ValueError("not a share")
    return value


def _megabytes(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+)\s*(MB|GB)\s*", value, re.IGNORECASE)
        if match is None:
            raise ValueError("not a size")
        return int(match[1]) * (1024 if match[2].upper() == "GB" else 1)
    return value


def has_url(value: Any) -> bool:
    """Whether it is meant as a URL, or as several places of which one is, and not as a folder."""
    return isinstance(value, str) and any(_SCHEME.match(part) for part in places_of(value))


def places_of(exports: str) -> list[str]:
    """The places in a setting for exports of which at least one is in a store."""
    return [part.strip() for part in exports.split(",")]


def _exports(value: Any) -> Any:
    """A folder, or the URLs of several places of which at least one is in a store; folders among them become URLs."""
    if not has_url(value):
        return _path(value)
    urls = [_lake(part) if has_url(part) else _path(_named(part)).as_uri() for part in places_of(value)]
    if all(url.startswith("file://") for url in urls):
        if len(urls) > 1:
            raise ValueError("several folders and no store")
        return Path(urls[0].removeprefix("file://"))
    if len(set(urls)) < len(urls):
        raise ValueError("one place twice")
    return ",".join(urls)


def _named(folder: str) -> str:
    if not folder:
        raise ValueError("a place without a name")
    return folder


def _lake(value: Any) -> Any:
    """A store, a bucket and a prefix of plain characters: the addresses of a Delta table's files are URL-encoded."""
    if not isinstance(value, str) or not _LAKE.fullmatch(value.strip()) or {".", ".."} & {*value.strip().split("/")}:
        raise ValueError("not the URL of a store")
    return value.strip().rstrip("/")


Folder = Annotated[Path, BeforeValidator(_path)]
Whole = Annotated[int, BeforeValidator(_whole)]
Share = Annotated[float, BeforeValidator(_share)]
Megabytes = Annotated[int, BeforeValidator(_megabytes)]
Lake = Annotated[str, BeforeValidator(_lake)]
Exports = Annotated[Path | str, BeforeValidator(_exports)]
