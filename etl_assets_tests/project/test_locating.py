"""Which project is meant: upwards, else the only one below; and what its file says of settings."""

from pathlib import Path

import pytest

from etl_assets.errors import ConfigError
from etl_assets.project.loading import load_project
from etl_assets.project.locating import declared_settings, find_project, located
from etl_assets.project.settings import load_settings

CONTRACT = "name: p\nsources: {crm: {columns: [email]}}\n"


def make(folder: Path, text: str = CONTRACT) -> Path:
    (folder / "sql").mkdir(parents=True)
    (folder / "sql" / "profiles.sql").write_text("SELECT 1")
    (folder / "etl_assets.yaml").write_text(text)
    return folder


def test_the_nearest_project_upwards_comes_first_then_the_only_one_below(tmp_path: Path) -> None:
    """Fails: `etl-assets run` beside the folder that `init` made runs another project."""
    assert find_project(tmp_path) is None
    below = make(tmp_path / "work" / "mine")
    assert find_project(tmp_path / "work") == below
    assert find_project(below / "sql") == below
    assert find_project(tmp_path) is None
    above = make(tmp_path / "above")
    (above / "inner").mkdir()
    make(above / "inner" / "own")
    assert find_project(above / "inner") == above


def test_several_projects_below_are_refused_by_name(tmp_path: Path) -> None:
    """Fails: one of them is run at random, or the shipped one in their place."""
    make(tmp_path / "a")
    make(tmp_path / "b")
    make(tmp_path / ".hidden")
    with pytest.raises(ConfigError, match=r"Several projects are in .*: a, b\."):
        find_project(tmp_path)


def test_the_environment_names_a_project_before_any_that_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert located({}) == tmp_path / "mine"
    assert located({"ETL_PROJECT": "other"}) == tmp_path / "other"
    assert located({"ETL_PROJECT": " "}) == tmp_path / "mine"


def test_settings_come_from_the_environment_then_the_projects_file_then_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a project works only for the person who exports the same variables."""
    settings = (
        "settings: {sources: ../exports, home: data, num_shards: 3, memory_limit: 900MB, dagster_home: .dagster}\n"
    )
    mine = make(tmp_path / "mine", CONTRACT + settings)
    monkeypatch.chdir(tmp_path)
    found = load_settings({"ETL_NUM_SHARDS": "5"})
    assert (found.sources, found.home) == (tmp_path / "exports", mine / "data")
    assert (found.num_shards, found.memory_limit, found.max_reject_ratio) == (5, 900, 0.05)
    assert found.dagster_home == mine / ".dagster"
    assert load_settings({"ETL_PROJECT": str(tmp_path / "mine")}).num_shards == 3
    # Nothing stays behind for the next one.
    monkeypatch.chdir(mine.parent.parent)
    assert load_settings({"ETL_PROJECT": str(make(tmp_path / "plain"))}).num_shards == 10


def test_settings_of_a_file_are_checked_with_their_lines_and_change_no_shard(tmp_path: Path) -> None:
    text = f"{CONTRACT}settings:\n  num_shard: 3\n  workers: 0\n  project: x\n  home: true\n"
    with pytest.raises(ConfigError) as caught:
        load_project(make(tmp_path / "bad", text))
    assert caught.value.finding.splitlines()[1:] == [
        "  line 4: settings.num_shard: unknown word; did you mean 'num_shards'?",
        "  line 5: settings.workers: expected a whole number from 1 to 64, found 0",
        "  line 6: settings.project: unknown word; known are sources, home, dagster_home, lake, num_shards, "
        "max_reject_ratio, max_superseded_ratio, min_rows_ratio, workers, memory_limit, shard_timeout_s, "
        "source_timeout_s, max_unpacked, keep_warehouses",
        "  line 7: settings.home: expected a folder, found True",
    ]
    # What is wrong is not used either.
    assert load_settings({"ETL_PROJECT": str(tmp_path / "bad")}).num_shards == 10
    plain, other = make(tmp_path / "plain"), make(tmp_path / "other", f"{CONTRACT}settings: {{num_shards: 3}}\n")
    assert load_project(plain).version == load_project(other).version


@pytest.mark.parametrize("text", ["settings: [", "settings: 3\n", "settings:\n", "x: 1\n", "\xff"])
def test_a_file_that_cannot_be_read_has_no_settings_here(tmp_path: Path, text: str) -> None:
    """Its loading says what is wrong with it."""
    (tmp_path / "etl_assets.yaml").write_bytes(text.encode("latin-1"))
    assert declared_settings(tmp_path) == {}
