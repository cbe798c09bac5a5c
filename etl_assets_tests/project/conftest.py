"""Project folders that tests write themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.errors import ConfigError
from etl_assets.project.loading import load_project

# Line 5 is the last.
CONTRACT = """\
name: p
sources:
  crm:
    columns:
      email: {pii: true}
"""

Finding = Callable[[str], list[str]]


def write_project(folder: Path, contract: str | bytes = CONTRACT, **files: str) -> Path:
    """Write a project: the contract, `sql/profiles.sql`, and `sql/<folder>/<name>.sql` for `folder__name`."""
    statements = {"profiles": "SELECT * FROM customers", **files}
    for name, text in statements.items():
        path = folder / "sql" / f"{name.replace('__', '/')}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    content = contract.encode() if isinstance(contract, str) else contract
    (folder / "etl_assets.yaml").write_bytes(content)
    return folder


@pytest.fixture
def findings_in(tmp_path: Path) -> Finding:
    """What loading a project with this contract says, without its first line, which names the file."""

    def load(contract: str) -> list[str]:
        write_project(tmp_path, contract)
        with pytest.raises(ConfigError) as caught:
            load_project(tmp_path)
        first, *rest = str(caught.value).splitlines()
        assert first == f"{tmp_path / 'etl_assets.yaml'} is not a sound contract:"
        return [line.strip() for line in rest]

    return load
