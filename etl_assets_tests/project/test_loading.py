"""Finding and loading a project folder: its files, what is missing or unreadable, and the shipped project."""

import os
from pathlib import Path

import pytest

from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.project.loading import find_project, load_project, shipped_folder
from etl_assets_tests.project.conftest import CONTRACT, write_project


def test_a_project_is_its_contract_and_its_sql(tmp_path: Path) -> None:
    write_project(
        tmp_path, profiles="SELECT 1 AS é", macros__b="-- b", macros__a="-- a", checks__z="-- z", checks__y="-- y"
    )
    (tmp_path / "sql" / "macros" / "notes.txt").write_text("not a statement")
    project = load_project(tmp_path)
    assert (project.contract.name, project.contract.source_names) == ("p", ("crm",))
    assert project.profiles_sql == "SELECT 1 AS é"
    assert list(project.macros.items()) == [("a", "-- a"), ("b", "-- b")]
    assert list(project.checks.items()) == [("y", "-- y"), ("z", "-- z")]
    assert project.folder == tmp_path


def test_macros_and_checks_may_be_left_out(tmp_path: Path) -> None:
    project = load_project(str(write_project(tmp_path)))
    assert (project.macros, project.checks) == ({}, {})


@pytest.mark.parametrize("name", ["etl_assets.yaml", "sql/profiles.sql"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_project(tmp_path) / name).unlink()
    path = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path)
    assert caught.value.finding == (
        f"{path} cannot be read (No such file or directory). Expected a file of the project in that place."
    )
    assert (caught.value.subject, caught.value.advice) == (str(path), (Advice(Action.EDIT, value=str(path)),))


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (write_project(tmp_path) / "sql" / "profiles.sql").unlink()
    (tmp_path / "sql" / "profiles.sql").mkdir()
    with pytest.raises(ConfigError, match=r"profiles\.sql cannot be read \(Is a directory\)"):
        load_project(tmp_path)


@pytest.mark.parametrize("name", ["etl_assets.yaml", "sql/profiles.sql", "sql/macros/a.sql", "sql/checks/b.sql"])
def test_a_file_that_is_not_utf8_is_named(tmp_path: Path, name: str) -> None:
    """Fails: a file that an old editor saved ends in a traceback, or its words change."""
    write_project(tmp_path, macros__a="-- a", checks__b="-- b")
    (tmp_path / name).write_bytes("name: Größe".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"cannot be read \(it is not UTF-8 text\)") as caught:
        load_project(tmp_path)
    assert caught.value.subject == str(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_the_contract(tmp_path: Path) -> None:
    assert load_project(write_project(tmp_path, b"\xef\xbb\xbf" + CONTRACT.encode())).contract.name == "p"


def test_a_project_is_found_in_the_folder_or_the_nearest_one_above(tmp_path: Path) -> None:
    """Fails: a command started in `sql/` works on the shipped project, and no one notices."""
    outer, inner = write_project(tmp_path / "outer"), write_project(tmp_path / "outer" / "deep" / "inner")
    assert find_project(inner) == inner
    assert find_project(inner / "sql") == inner
    assert find_project(outer / "deep") == outer
    assert find_project(outer) == outer
    (outer / "deep" / "etl_assets.yaml").mkdir()
    assert find_project(outer / "deep") == outer


def test_no_project_is_found_where_there_is_none() -> None:
    assert find_project(Path(os.sep)) is None


def test_without_a_folder_the_shipped_project_is_loaded() -> None:
    """Fails: `make run` on a fresh checkout has nothing to run."""
    shipped = load_project()
    assert shipped.folder == shipped_folder()
    assert shipped.contract.sources
    assert shipped.version == load_project(shipped_folder()).version
