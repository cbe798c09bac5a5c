"""Documents of state: the dataclass they were written from, or nothing, whatever is in the file."""

import errno
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from etl_assets.engine.files import documents
from etl_assets.engine.files.documents import Count, Form, Moment, MomentText, read_json
from etl_assets.engine.files.publishing import publish_json
from etl_assets.errors import ConfigError

SOUND = '{"name": "a", "count": 1, "at": "2026-11-01T05:00:00+00:00", "text": "2026-11-01T05:00:00+00:00", "more": [1]}'


@dataclass(frozen=True)
class _Document:
    name: str
    count: Count
    at: Moment
    text: MomentText
    more: tuple[int, ...]


FORM = Form(_Document)


def test_a_document_is_read_as_what_it_was_written_from(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(SOUND)
    found = FORM.read(tmp_path / "file.json")
    assert found is not None
    assert (found.name, found.count, found.at.isoformat(), found.more) == ("a", 1, "2026-11-01T05:00:00+00:00", (1,))


def test_a_key_of_a_newer_release_is_ignored() -> None:
    """Fails: after a rollback, nothing that the newer release wrote can be used, and everything is made again."""
    assert FORM.parse(SOUND.replace("{", '{"newer": {"x": [1]}, ')) == FORM.parse(SOUND) is not None


@pytest.mark.parametrize(
    ("found", "other"),
    [
        ('"count": 1', '"count": -1'),
        ('"count": 1', '"count": "1"'),
        ('"count": 1', '"count": true'),
        ('"count": 1', '"count": 1.0'),
        ('"count": 1', '"count": NaN'),
        ('"count": 1', '"count": null'),
        ('"count": 1', f'"count": {1 << 63}'),
        ('"count": 1', '"count": ' + "9" * 5000),
        ('"count": 1', '"counts": 1'),
        ('"name": "a"', '"name": "\\ud800"'),
        ('"name": "a"', '"name": ["a"]'),
        ('"at": "2026-11-01T05:00:00+00:00"', '"at": "2026-11-01T05:00:00"'),
        ('"at": "2026-11-01T05:00:00+00:00"', '"at": "0001-01-01T00:00:00+14:00"'),
        ('"at": "2026-11-01T05:00:00+00:00"', '"at": 5'),
        ('"text": "2026-11-01T05:00:00+00:00"', '"text": "yesterday"'),
        ('"text": "2026-11-01T05:00:00+00:00"', '"text": "9999-12-31T23:59:59-14:00"'),
        ("[1]", "{}"),
        ("[1]", '"1"'),
        ("[1]", "[" * 100_000),
    ],
)
def test_a_value_of_another_type_is_no_document(found: str, other: str) -> None:
    """Fails: a value that no one checked ends a command in a traceback, or is published."""
    assert found in SOUND
    assert FORM.parse(SOUND.replace(found, other)) is None


@pytest.mark.parametrize(
    "text",
    ["2026-11-01T05:00:00Z", "2026-11-01T06:00:00+01:00", "20261101T050000Z", "2026-W44-7T05:00:00+00:00"],
)
def test_a_moment_has_one_form_however_it_was_written(text: str) -> None:
    """Fails: DuckDB does not read all that Python reads, and one file of an attempt stops every merge."""
    found = FORM.parse(SOUND.replace('"text": "2026-11-01T05:00:00+00:00"', f'"text": "{text}"'))
    assert found is not None
    assert found.text == "2026-11-01T05:00:00.000000+00:00"


@pytest.mark.parametrize("content", [b"5", b'"x"', b"[]", b"{}", b"null", b"", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_object_of_that_form_is_no_document(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.json").write_bytes(content)
    assert FORM.read(tmp_path / "file.json") is None
    assert not read_json(tmp_path / "file.json")


def test_only_a_file_of_its_own_is_read(tmp_path: Path) -> None:
    """Fails: a link shows another user's file, or a pipe lets every command wait for ever."""
    (tmp_path / "file.json").write_text(SOUND)
    (tmp_path / "link.json").symlink_to("file.json")
    (tmp_path / "dangling.json").symlink_to("nowhere")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    names = ["link.json", "dangling.json", "folder.json", "pipe.json", "nowhere.json", "file.json/below.json"]
    found: list[object] = []
    reading = threading.Thread(target=lambda: found.extend(FORM.read(tmp_path / name) for name in names), daemon=True)
    reading.start()
    reading.join(20)
    assert found == [None] * len(names)


def test_a_document_beyond_any_of_this_pipeline_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a file of some gigabytes takes all of the memory."""
    (tmp_path / "file.json").write_text(SOUND)
    monkeypatch.setattr(documents, "MAX_BYTES", len(SOUND) - 1)
    assert FORM.read(tmp_path / "file.json") is None
    assert read_json(tmp_path / "file.json") is None


def test_a_document_that_could_not_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: what was staged counts as missing, and is staged again with every run."""
    path = tmp_path / "current.json"
    publish_json(path, {"files": []})
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
    with pytest.raises(ConfigError, match=r"current\.json would have \d+ bytes; expected at most 100\."):
        publish_json(path, {"files": ["x" * 100]})
    assert read_json(path) == {"files": []}
    assert [found.name for found in tmp_path.iterdir()] == ["current.json"]
    longest = {"files": ["x" * 76]}
    publish_json(path, longest)
    assert (path.stat().st_size, read_json(path)) == (100, longest)


def test_a_file_that_may_not_be_read_is_an_error_and_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a wrong mode looks like a home in which nothing was published, and everything is built again."""

    def refused(path: Path, _: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError):
        FORM.read(tmp_path / "file.json")
