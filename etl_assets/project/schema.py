"""The JSON schema of `etl_assets.yaml`, for editors that complete and check it while it is written.

It follows from the models. What they accept beyond their fields is added: entries by name or as a list, one text in the
place of a list of texts, `type: decimal(12,2)`. `make docs` writes it to `etl_assets.schema.json`, which is shipped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl_assets.project.columns import ColumnType
from etl_assets.project.contract import Contract
from etl_assets.project.settings import DECLARABLE, Settings

SCHEMA_FILE = Path(__file__).with_name("etl_assets.schema.json")
_NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"}
_DECIMAL = {"type": "string", "pattern": r"^\s*decimal\(\s*[0-9]+\s*,\s*[0-9]+\s*\)\s*$"}
_SIZE = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^ *[0-9]+ *([mM]|[gG])[bB] *$"}]}
_SIZES = ("memory_limit", "max_unpacked")


def contract_schema() -> dict[str, Any]:
    """The schema as a JSON value."""
    schema = Contract.model_json_schema(by_alias=True)
    models = schema["$defs"]
    models["ColumnType"] = {"anyOf": [{"enum": [kind.value for kind in ColumnType]}, _DECIMAL]}
    nameless = {f"Named{name}": _nameless(model) for name, model in models.items() if _has_name(model)}
    models.update(nameless)
    for model in [schema, *models.values()]:
        model.pop("title", None)
        properties = model.get("properties", {})
        model |= (
            {"properties": {name: _property(one, models) for name, one in properties.items()}} if properties else {}
        )
    schema["properties"]["settings"] = _settings(schema["properties"]["settings"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "etl_assets.yaml", **schema}


def _has_name(model: Mapping[str, Any]) -> bool:
    return "name" in model.get("required", ())


def _nameless(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model whose name is the word before the colon."""
    properties = {name: one for name, one in model["properties"].items() if name != "name"}
    required = [name for name in model["required"] if name != "name"]
    return {**model, "properties": properties, "required": required}


def _property(one: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, Any]:
    """A property without pydantic's own words, in every form that may be written."""
    kept = {name: value for name, value in one.items() if name not in ("title", "default")}
    default = one.get("default")
    if isinstance(default, str | int | float) and default != "":
        kept["default"] = default
    items = kept.get("items", {})
    if items.get("minLength"):
        return {"description": kept.get("description", ""), "anyOf": [items, {"type": "array", "items": items}]}
    name = items.get("$ref", "").removeprefix("#/$defs/")
    if name and _has_name(models[name]):
        return {"description": kept.get("description", ""), "anyOf": _named(name, models)}
    return kept


def _named(name: str, models: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries by their names, or as a list; those that need no word but their name may be just that."""
    whole, rest = {"$ref": f"#/$defs/{name}"}, {"$ref": f"#/$defs/Named{name}"}
    needs_no_word = models[name]["required"] == ["name"]
    value = {"anyOf": [rest, {"type": "null"}]} if needs_no_word else rest
    entry = {"anyOf": [_NAME, whole]} if needs_no_word else whole
    return [
        {"type": "object", "propertyNames": {"pattern": _NAME["pattern"]}, "additionalProperties": value},
        {"type": "array", "items": entry},
    ]


def _settings(one: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: Settings.model_fields[name] for name in DECLARABLE}
    kinds: dict[Any, dict[str, str]] = {int: {"type": "integer"}, float: {"type": "number"}}
    properties = {
        name: {
            "description": field.description or "",
            **(_SIZE if name in _SIZES else kinds.get(field.annotation or str, {"type": "string"})),
        }
        for name, field in fields.items()
    }
    return {**one, "additionalProperties": False, "properties": properties}
