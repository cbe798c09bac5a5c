"""The JSON schema of a project's file: what the loader accepts it accepts, and it knows the same words."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from etl_assets.project.contract import Contract
from etl_assets.project.loading import shipped_folder
from etl_assets.project.schema import SCHEMA_FILE, contract_schema

ROOT = Path(__file__).parent.parent.parent
FILES = [
    shipped_folder() / "etl_assets.yaml",
    *sorted((ROOT / "etl_assets_tests" / "projects").rglob("etl_assets.yaml")),
]
VALIDATOR = jsonschema.Draft202012Validator(contract_schema())


def test_the_shipped_file_is_what_the_models_say() -> None:
    """Fails: editors complete words that are refused. `make docs` writes it again."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert SCHEMA_FILE.read_text(encoding="utf-8") == generator.schema_text(), "run: make docs"
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == contract_schema()


def test_it_is_a_sound_schema() -> None:
    VALIDATOR.check_schema(contract_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_project_of_this_checkout_is_sound(path: Path) -> None:
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [error.message for error in VALIDATOR.iter_errors(value)] == []


ACCEPTED: list[dict[str, Any]] = [
    {"sources": {"crm": {"columns": ["email", {"name": "plan", "from": "Plan"}]}}},
    {"sources": [{"name": "crm", "columns": {"email": None, "mrr": {"type": "decimal(12, 2)"}}}]},
    {"sources": {"crm": {"files": "crm-*.csv", "key": ["A", "B"], "columns": {"a": {"from": ["x", "y"]}}}}},
    {"sources": {"crm": {"columns": ["a"]}}, "settings": {"num_shards": 3, "memory_limit": "1GB", "home": "x"}},
    {"sources": {"crm": {"columns": ["a"]}}, "profile": {"a": {"min": None}}},
]
REFUSED: list[dict[str, Any]] = [
    {},
    {"sources": {"crm": {"columns": ["email"], "colums": []}}},
    {"sources": {"crm": {"columns": {"mrr": {"type": "money"}}}}},
    {"sources": {"Crm": {"columns": ["a"]}}},
    {"sources": {"crm": None}},
    {"sources": {"crm": {"columns": {"a": {"name": "b"}}}}},
    {"sources": {"crm": {"columns": ["a"]}}, "settings": {"shards": 3}},
    {"sources": {"crm": {"columns": ["a"]}}, "settings": {"num_shards": "many"}},
]


def _loads(value: dict[str, Any]) -> bool:
    try:
        Contract.model_validate(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("value", [*ACCEPTED, *REFUSED])
def test_it_accepts_what_the_loader_accepts(value: dict[str, Any]) -> None:
    """Fails: an editor marks a sound file as wrong, or a wrong one as sound."""
    whole = {"name": "p", **value}
    assert VALIDATOR.is_valid(whole) == _loads(whole) == (value in ACCEPTED)
