"""State of another shape: whatever is in the JSON files of ETL_HOME, `status` and `run` work as ever.

A plain `pytest` plays every named case and a few random mutations; HARNESS_ALL=1 plays many more, HARNESS_SEED the same
ones again, HARNESS_RANDOM so many.
"""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from etl_assets.cli import status_command
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.engine.stopping import Stop
from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.reported import is_reported
from etl_assets.pipeline import overview, preflight
from etl_assets.pipeline.configuration import exports_of
from etl_assets_tests import factory
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.dagster_runs import settings_for

IS_ALL = os.environ.get("HARNESS_ALL") == "1"
SEED = int(os.environ.get("HARNESS_SEED") or (random.SystemRandom().randrange(10**6) if IS_ALL else 1))
RANDOM_COUNT = int(os.environ.get("HARNESS_RANDOM") or (2000 if IS_ALL else 12))
SHARD_COUNT = 2
# No case takes a second: one that waits for a pipe fails instead of hanging.
LIMIT_S = 60

KINDS = {
    "pointer": "staged/crm/current.json",
    "snapshot": "staged/crm/*/snapshot.json",
    "manifest": "shards/shard_00.json",
    "attempt": "attempts/shard_00/*.json",
}


def _nested(_: str) -> str:
    return "[" * 100_000


SHAPES: dict[str, Callable[[str], str | bytes]] = {
    "a number": lambda _: "5",
    "a text": lambda _: '"x"',
    "null": lambda _: "null",
    "a list": lambda _: "[]",
    "an empty object": lambda _: "{}",
    "nested lists": _nested,
    "nested objects": lambda _: '{"a":' * 100_000,
    "one key more": lambda text: text.replace("{", '{"newer": {"a": [1, null]}, ', 1),
    "one key less": lambda text: _changed(text, lambda document: document.pop(next(iter(document)))),
    "null fields": lambda text: json.dumps(dict.fromkeys(json.loads(text))),
    "lists for fields": lambda text: json.dumps({name: [value] for name, value in json.loads(text).items()}),
    "texts for numbers": lambda text: _with_numbers(text, str),
    "negative numbers": lambda text: _with_numbers(text, lambda number: -number - 1),
    "numbers one higher": lambda text: _with_numbers(text, lambda number: number + 1),
    "huge numbers": lambda text: _with_numbers(text, lambda _: 10**30),
    "NaN": lambda text: _with_numbers(text, lambda _: float("nan")),
    "fractions": lambda text: _with_numbers(text, lambda number: number + 0.5),
    "other texts": lambda text: _with_texts(text, lambda value: f"{value}x"),
    "broken times": lambda text: _with_texts(text, lambda value: re.sub(r"^(\d{4}-\d)(\d-)", r"\1}\2", value)),
    "paths for texts": lambda text: _with_texts(text, lambda _: "../../../x"),
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "binary": lambda _: bytes(range(256)) * 8,
    "large": lambda text: text + " " * (17 << 20),
}


def _changed(text: str, change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(text)
    change(document)
    return json.dumps(document)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _mapped(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return change(value)


def _with_numbers(text: str, change: Callable[[int], object]) -> str:
    return json.dumps(_mapped(json.loads(text), lambda value: change(value) if type(value) is int else value))


def _with_texts(text: str, change: Callable[[str], str]) -> str:
    return json.dumps(_mapped(json.loads(text), lambda value: change(value) if isinstance(value, str) else value))


class Place:
    """Exports and a home that a test may spoil."""

    def __init__(self, root: Path) -> None:
        self.site: Site = factory.site_at(Home(root / "home"), SHARD_COUNT)
        self.settings = settings_for(root / "sources", self.site.home, SHARD_COUNT)
        self.dagster_home = root / "dagster"

    def file(self, kind: str) -> Path:
        """The last state file of a kind."""
        return sorted(self.site.home.root.glob(KINDS[kind]))[-1]

    def status(self) -> overview.Facts:
        """What `etl-assets status` shows, as text and as JSON."""
        found = overview.collect(self.site, self.settings)
        json.dumps(status_command.document(found))
        status_command.show(Console(file=io.StringIO(), width=200), found)
        return found

    def run(self) -> str:
        """What `etl-assets run` does, without Dagster; returns the digest of what is published."""
        preflight.refuse_impossible(self.site, self.settings)
        if preflight.nothing_to_do(self.site, self.settings) is None:
            # Of its own: a run that fails stops what shares its stop.
            limits = replace(factory.LIMITS, stop=Stop())
            factory.stage_all(replace(factory.staging_request(exports_of(self.settings), self.site), limits=limits))
            request = ShardsRequest(self.site, limits, "run", 1)
            for entry in build_shards(request, self.site.shard_ids):
                if isinstance(entry, ShardResult) and entry.error is not None:
                    raise entry.error
            merge_shards(self.site, limits, run_id="run")
        publication = read_publication(self.site.home)
        assert publication is not None
        return publication.digest


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published home, and the exports it was made from."""
    root = tmp_path_factory.mktemp("state")
    rows = [factory.row(f"c{number}") for number in range(12)]
    factory.write_exports(root / "sources", crm=[*rows, factory.row("")], billing=rows[:5])
    Place(root).run()
    return root


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Place:
    """A copy of it. The exports are the same files, whose stamps are known."""
    shutil.copytree(template / "home", tmp_path / "home")
    (tmp_path / "sources").symlink_to(template / "sources", target_is_directory=True)
    return Place(tmp_path)


@pytest.fixture
def digest(template: Path) -> str:
    publication = read_publication(Home(template / "home"))
    assert publication is not None
    return publication.digest


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise TimeoutError("it waits for something")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", KINDS)
def test_status_copes_with_a_state_file_of_any_shape(place: Place, kind: str) -> None:
    """Fails: an accident, or a release that was rolled back, ends every `status` in a traceback."""
    path = place.file(kind)
    text = path.read_text()
    for shape in SHAPES:
        _write(path, shape, text)
        place.status()


def test_status_copes_with_a_note_of_a_refused_merge_of_any_shape(place: Place) -> None:
    """Fails: a note that another release wrote ends every `status` in a traceback."""
    note = {"set_hash": "x", "finding": "why", "kind": "check", "refused_at": "2100-01-01T00:00:00+00:00", "count": 1}
    path = place.site.home.refused_merge
    for shape in SHAPES:
        _write(path, shape, json.dumps(note))
        assert place.status().warehouse.refusal is None
    path.unlink()
    os.mkfifo(path)
    assert place.status().warehouse.refusal is None


# All kinds of files together by default, which takes a quarter of the time.
@pytest.mark.slow
@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] if IS_ALL else [list(KINDS)], ids=" ".join)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_heals_state_files_of_any_shape(place: Place, digest: str, kinds: list[str], shape: str) -> None:
    """Fails: until someone deletes the file, every run ends in a traceback, or publishes something else."""
    for kind in kinds:
        path = place.file(kind)
        _write(path, shape, path.read_text())
    assert place.run() == digest
    assert {shard.state for shard in place.status().shards} == {"published"}


def _write(path: Path, shape: str, text: str) -> None:
    content = SHAPES[shape](text)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_what_a_newer_release_wrote_is_used_as_it_is(place: Place) -> None:
    """Fails: after a rollback everything is read and built again, or nothing works."""
    for kind in KINDS:
        path = place.file(kind)
        _write(path, "one key more", path.read_text())
    found = place.status()
    assert {source.state for source in found.sources} == {"current"}
    assert {(shard.state, shard.attempt_count) for shard in found.shards} == {("published", 1)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["a pipe", "a dangling link", "a link"])
def test_what_is_no_file_is_replaced(place: Place, digest: str, tmp_path: Path, kind: str, what: str) -> None:
    """Fails: a command waits for ever, or takes the file of someone else for its own."""
    path, outside = place.file(kind), tmp_path / "outside"
    path.rename(outside)
    content = outside.read_bytes()
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(outside if what == "a link" else "nowhere")
    place.status()
    assert place.run() == digest
    assert outside.read_bytes() == content
    assert kind == "attempt" or not path.exists() or (path.is_file() and not path.is_symlink())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["warehouse.duckdb", "shards/shard_00.duckdb"])
@pytest.mark.parametrize("what", ["a pipe", "a dangling link", "a link", "binary"])
def test_a_database_that_is_none_is_replaced(place: Place, digest: str, tmp_path: Path, name: str, what: str) -> None:
    """Fails: `status` or `run` waits for ever, or shows what another file holds."""
    path, outside = place.site.home.root / name, tmp_path / "outside"
    path.rename(outside)
    content = outside.read_bytes()
    match what:
        case "a pipe":
            os.mkfifo(path)
        case "binary":
            path.write_bytes(bytes(range(256)) * (len(content) // 256))
        case _:
            path.symlink_to(outside if what == "a link" else "nowhere")
    place.status()
    assert place.run() == digest
    assert path.stat(follow_symlinks=False).st_nlink == 1
    assert path.is_file()
    assert not path.is_symlink()
    assert outside.read_bytes() == content


@pytest.mark.slow
@pytest.mark.parametrize("name", [*KINDS, "warehouse.duckdb", "shards/shard_00.duckdb"])
def test_a_folder_in_the_place_of_a_file_is_left_alone_and_named(place: Place, digest: str, name: str) -> None:
    """Fails: a traceback, or a run that removes a folder which is not its own."""
    path = place.file(name) if name in KINDS else place.site.home.root / name
    path.unlink()
    path.mkdir()
    (path / "precious").write_text("text")
    place.status()
    if name in ("snapshot", "attempt"):
        # These get other names.
        assert place.run() == digest
        return
    with pytest.raises(ConfigError, match=r"is a folder\. Expected a file") as caught:
        place.run()
    assert caught.value.subject == str(path)
    assert (path / "precious").read_text() == "text"
    path.rename(path.with_name("moved away"))
    assert place.run() == digest


def _mutated(value: Any, rng: random.Random) -> Any:
    """The document with one thing in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(sorted(value))
        match rng.randrange(6):
            case 0:
                return {key: item for key, item in value.items() if key != name}
            case 1:
                return {**{key: item for key, item in value.items() if key != name}, f"{name}2": value[name]}
            case _:
                return {**value, name: _mutated(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case _:
                return [*value[:place], _mutated(value[place], rng), *value[place + 1 :]]
    others: list[Any] = [None, True, -1, 0, 7, 10**30, 1.5, float("nan"), "", "x", "../x", "shard_01", [], {}, [{}]]
    if isinstance(value, str) and value:
        others += [value[:-1], value.upper(), value + "0", value[::-1], "\0" + value, value * 300]
    if type(value) is int:
        others += [value + 1, value - 1, -value, value << 40]
    return rng.choice(others)


def _damaged(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.7:
        return json.dumps(_mutated(json.loads(content), rng)).encode()
    place = rng.randrange(len(content))
    match rng.randrange(3):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
        case _:
            return content[:place] + rng.choice([b"[", b"{", b"}", b",", b'"', b"9"]) * 3 + content[place:]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RANDOM_COUNT))
def test_a_random_mutation_of_a_state_file_costs_nothing(place: Place, digest: str, number: int) -> None:
    """Fails: there is a document that stops the pipeline, or that changes what is published."""
    print(f"HARNESS_SEED={SEED}")
    rng = random.Random(f"{SEED} {number}")
    path = place.file(rng.choice(sorted(KINDS)))
    path.write_bytes(_damaged(path.read_bytes(), rng))
    print(path, path.read_bytes()[:4000])
    place.status()
    assert place.run() == digest
    place.status()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_marker_of_any_shape_says_nothing(place: Place, shape: str) -> None:
    """Fails: `run` ends in a traceback because of a file in DAGSTER_HOME that it needs for nothing else."""
    key = str(place.site.home.root)
    sound = json.dumps({key: {"stamp": "x", "materializations": {"crm": {"": 5}}}})
    place.dagster_home.mkdir()
    marker = place.dagster_home / "etl_assets_reported.json"
    for text in (sound, json.dumps({key: 5}), json.dumps({key: {"stamp": 5}}), json.dumps({key: {"stamp": "x"}})):
        content = SHAPES[shape](text)
        marker.write_bytes(content.encode() if isinstance(content, str) else content)
        assert not is_reported(place.site, place.dagster_home)
    marker.unlink()
    os.mkfifo(marker)
    assert not is_reported(place.site, place.dagster_home)


@pytest.mark.slow
def test_the_command_line_says_nothing_of_a_defect(template: Path, tmp_path: Path, digest: str) -> None:
    """Fails: what the engine can cope with ends in a traceback at the command line all the same."""
    place = Place(tmp_path)
    shutil.copytree(template / "home", place.site.home.root)
    env = {
        "ETL_SOURCES": str(template / "sources"),
        "ETL_HOME": str(place.site.home.root),
        "ETL_NUM_SHARDS": str(SHARD_COUNT),
        "ETL_MAX_REJECT_RATIO": "1",
        "DAGSTER_HOME": str(place.dagster_home),
    }
    place.dagster_home.mkdir()
    for kind, shape in {
        "pointer": "a number",
        "snapshot": "one key more",
        "manifest": "nested lists",
        "attempt": "an empty object",
        "marker": "a number",
        "pipe": "",
    }.items():
        if kind == "pipe":
            place.file("pointer").unlink()
            os.mkfifo(place.site.home.source_pointer("crm"))
        else:
            path = place.dagster_home / "etl_assets_reported.json" if kind == "marker" else place.file(kind)
            _write(path, shape, path.read_text())
        for name in ("status", "run", "status"):
            done = subprocess.run(
                command(name), env=environment(**env), capture_output=True, encoding="utf-8", timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr + done.stdout
            assert "defect" not in done.stderr + done.stdout
        publication = read_publication(place.site.home)
        assert publication is not None
        assert publication.digest == digest
