"""What `import etl_assets` offers."""

import subprocess
import sys

import pytest

import etl_assets


@pytest.mark.parametrize("name", etl_assets.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(etl_assets, name).__name__ == name


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_projects'"):
        _ = etl_assets.load_projects


def test_reading_a_project_imports_neither_dagster_nor_duckdb() -> None:
    """Fails: a script that only reads a contract waits for Dagster."""
    code = "import sys, etl_assets; etl_assets.load_project(); print(sorted({'dagster', 'duckdb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
