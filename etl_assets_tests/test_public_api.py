"""What `import etl_assets` offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import etl_assets


@pytest.mark.parametrize("name", etl_assets.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(etl_assets, name).__name__ == name


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_projects'"):
        _ = etl_assets.load_projects


def test_type_checkers_see_the_names_where_they_come_from() -> None:
    """Fails: a public function has the type Any, or that of another function."""
    tree = ast.parse(Path(etl_assets.__file__).read_text(encoding="utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == etl_assets._HOMES
    assert sorted(etl_assets.__all__) == sorted(etl_assets._HOMES)


def test_dg_and_editors_find_every_public_name() -> None:
    """Fails: `dg list components` does not show the component."""
    assert set(dir(etl_assets)) > {*etl_assets.__all__, "__all__", "__doc__"}


def _imported(code: str) -> str:
    """Which of Dagster and DuckDB a process has imported after this."""
    shown = "import sys; print(*sorted({'dagster', 'duckdb'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import etl_assets; {code}; {shown}"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_reading_a_project_imports_neither_dagster_nor_duckdb() -> None:
    """Fails: a script that only reads a contract waits for Dagster."""
    assert _imported("etl_assets.load_project()") == ""


def test_reading_the_result_does_not_import_dagster() -> None:
    """Fails: a notebook or a web page that only queries waits a second longer."""
    assert _imported("etl_assets.status, etl_assets.open_warehouse, etl_assets.Report, etl_assets.Facts") == "duckdb"


def test_a_run_imports_dagster_when_there_is_something_to_do() -> None:
    """Fails: a wrong setting is reported a second later than it could be."""
    assert _imported("etl_assets.run") == "duckdb"
