"""What the three pandas peers share: reading an export, and joining and scoring customers in a Python loop."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import xxhash

from bench.peers.columns import COLUMNS, DATES, FIELDS, Kind, joined_name

TEXT = "string"
# Dates stay the ISO texts that they are in the exports, until the end.
_TYPES: Mapping[Kind, str] = {"text": TEXT, "int": "Int64", "float": "Float64", "money": "Float64", "date": TEXT}


def types(source: str) -> dict[str, str]:
    """The pandas type of each column of an export."""
    return {"customer_id": TEXT} | {name: _TYPES[kind] for name, kind in COLUMNS[source].items()}


def read(folder: Path, source: str) -> pd.DataFrame:
    """One export, typed; only an empty cell counts as missing, because a customer may be called NA."""
    return pd.read_csv(folder / f"{source}.csv", dtype=types(source), keep_default_na=False, na_values=[""])


def in_shard(export: pd.DataFrame, shard: int, shard_count: int) -> list[bool]:
    """Whether the customer of each row is routed to this shard."""
    hashes = (xxhash.xxh3_64_intdigest(customer_id.encode()) for customer_id in export["customer_id"])
    return [number % shard_count == shard for number in hashes]


def profiles(exports: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The enriched profiles of all customers in these exports, by source."""
    joined = pd.DataFrame({"customer_id": pd.Series(dtype=TEXT)})
    for source in COLUMNS:
        export = exports[source].rename(columns={"email": joined_name(source, "email")}).assign(**{source: source})
        joined = joined.merge(export, on="customer_id", how="outer")
    names = joined.columns
    rows = zip(*(_with_none(joined[name]) for name in names), strict=True)
    scored = pd.DataFrame([_score(dict(zip(names, row, strict=True))) for row in rows])
    result = pd.concat([joined[["customer_id", *FIELDS]], scored], axis="columns")
    for name in DATES:
        result[name] = pd.to_datetime(result[name]).dt.date
    for name in ("email", "churn_risk", "expansion_potential", "idempotency_key"):
        result[name] = result[name].astype(TEXT)
    return result


def _with_none(column: pd.Series) -> list[Any]:
    """A column as Python values, with None for a missing one."""
    return list(column.astype(object).where(column.notna(), None))


def _score(customer: dict[str, Any]) -> dict[str, Any]:
    """The computed columns of one customer's profile."""
    usage = 50 if customer["usage_pct"] is None else customer["usage_pct"]
    tickets, nps = customer["open_tickets"] or 0, customer["nps_score"]
    payment, plan, stage = (_word(customer[name]) for name in ("payment_status", "plan", "deal_stage"))
    trouble = payment in ("past_due", "failed")

    health = 50
    health += 20 if usage >= 80 else 10 if usage >= 60 else -10 if usage < 30 else 0
    health += 15 if payment == "active" else -15 if trouble else 0
    if nps is not None:
        health += 10 if nps >= 9 else 5 if nps >= 7 else -10 if nps <= 5 else 0
    health += 5 if tickets == 0 else -5 if tickets > 3 else 0

    churn = 3 if usage < 30 else 1 if usage < 50 else 0
    churn += 3 * trouble + 2 * (nps is not None and nps <= 6) + (tickets > 3)

    expansion = 3 if usage >= 80 else 1 if usage >= 60 else 0
    expansion += 2 if plan in ("starter", "free", "basic") else 1 if plan in ("business", "professional") else 0
    expansion += 2 * (nps is not None and nps >= 9) + (stage == "enterprise")

    emails = (customer[joined_name(source, "email")] for source in COLUMNS)
    return {
        "email": next((email for email in emails if email is not None), None),
        "health_score": min(100, max(0, health)),
        "churn_risk": _level(churn),
        "expansion_potential": _level(expansion),
        "sources": [source for source in COLUMNS if customer[source] is not None],
        "idempotency_key": f"{customer['customer_id']}:{_hash(customer)}",
    }


def _hash(customer: dict[str, Any]) -> str:
    """xxh3_128 of a JSON array of texts: `v1`, then the name and the columns of every source."""
    parts: list[str | None] = ["v1"]
    for source, columns in COLUMNS.items():
        parts.append(customer[source])
        for name, kind in columns.items():
            value = customer[joined_name(source, name)]
            parts.append(None if value is None else f"{value:.2f}" if kind == "money" else str(value))
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())


def _word(text: str | None) -> str:
    return "" if text is None else text.strip().lower().replace(" ", "_").replace("-", "_")


def _level(points: int) -> str:
    return "HIGH" if points >= 5 else "MEDIUM" if points >= 2 else "LOW"
