"""What the engine must publish, worked out a second time: the contract of the pipeline in plain Python.

Nothing here imports the engine or asks DuckDB, so a shared mistake is unlikely: columns, bounds, reading of CSV,
validation, quarantine, scores and keys are written down again. It reads whole files and is slow, on purpose. Left out
are Parquet and records above the size that any record may have.
"""

import gzip
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import xxhash

Value = str | int | float | Decimal | date | list[str] | None
Record = dict[str, Value]

# Column: type, least and greatest value.
_TEXT = ("text", None, None)
_INT = ("int", None, None)
_FLOAT = ("float", None, None)
_MONEY = ("money", None, None)
_DATE = ("date", None, None)
CONTRACT: Mapping[str, Mapping[str, tuple[str, int | None, int | None]]] = {
    "crm": {
        "email": _TEXT,
        "company_name": _TEXT,
        "industry": _TEXT,
        "employee_count": _INT,
        "deal_stage": _TEXT,
        "deal_value": _MONEY,
        "sales_owner": _TEXT,
        "last_contact": _DATE,
    },
    "billing": {
        "email": _TEXT,
        "plan": _TEXT,
        "mrr": _MONEY,
        "payment_status": _TEXT,
        "subscription_start": _DATE,
        "last_payment": _DATE,
    },
    "product": {
        "email": _TEXT,
        "signup_date": _DATE,
        "last_active": _DATE,
        "total_sessions": _INT,
        "features_used": _INT,
        "usage_pct": ("int", 0, 100),
        "account_status": _TEXT,
    },
    "support": {
        "email": _TEXT,
        "total_tickets": _INT,
        "open_tickets": _INT,
        "avg_resolution_hrs": _FLOAT,
        "last_ticket_date": _DATE,
        "nps_score": ("int", 0, 10),
        "csat_score": ("float", 1, 5),
    },
}

_BOM = b"\xef\xbb\xbf"
_WHITE_SPACE = " \t\n\v\f\r"
_MAX_ID_CHARS = 128
# Case counts in texts only.
_FOLDED_NULLS = {"null", "(null)", "<null>", "\\n", "none", "nan", "nat", "<na>", "n/a", "#n/a", "#nv", "(blank)", "-"}
_TEXT_NULLS = {
    *("NULL", "null", "(null)", "<null>", "\\N", "None", "nan", "NaN", "NaT", "<NA>", "N/A", "n/a", "#N/A", "#NV"),
    *("(blank)", "-", "#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"),
}
_DAMAGED_ID = re.compile(r"[+-]?[0-9]+([.,][0-9]*[eE][+-]?[0-9]+|[eE]\+[0-9]+)|#[¡¿]?[^\W\d_/ ]+(/0)?[!?]|#{2,}")
_INT_TEXT = re.compile(r"([+-]?[0-9]+)(\.0*)?")
_INT_WITH_EXPONENT = re.compile(r"[+-]?[0-9]{1,16}(\.[0-9]{0,17})?[eE][0-9]{1,2}")
_FLOAT_TEXT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE_TEXT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"([ T]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]+)?)?(?: ?(Z|UTC|([+-])([0-9]{2})(?::?([0-9]{2}))?))?)?"
)
# decimal(18,2): zeros may follow the second digit after the point, nothing else.
_MONEY_TEXT = re.compile(r"[+-]?([0-9]+(\.[0-9]{0,2}0*)?|\.[0-9]{1,2}0*)")
_NO_MONEY_FROM = Decimal(10**16)
# Half-way between the largest double and the next power of two.
_NO_FLOAT_FROM = Decimal(2**1024 - 2**970)
# JSON escapes no more than it must, and control characters without a short form in upper case.
_ESCAPES = {number: f"\\u{number:04X}" for number in range(32)} | {
    ord(char): f"\\{letter}" for char, letter in zip('\b\t\n\f\r"\\', 'btnfr"\\', strict=True)
}


class Rejected(NamedTuple):
    """One row of the quarantine: a rejected row, or one of its bad cells besides the reason."""

    source: str
    file: str
    line_number: int
    reason: str
    customer_id: str | None
    raw_text: str
    cell: str | None = None


class Account(NamedTuple):
    """The accounting of one source."""

    files: list[str]
    rows_in: int
    rows_accepted: int
    rows_quarantined: int


@dataclass(frozen=True)
class Expected:
    """What must be published: profiles by customer, every quarantined row, the accounts by source."""

    profiles: dict[str, Record]
    quarantine: list[Rejected]
    accounts: dict[str, Account]


def expect(sources: Path, shard_count: int) -> Expected:
    """Work out the publication from the CSV exports in `sources`."""
    records, quarantine, accounts = {}, [], {}
    for source in CONTRACT:
        records[source], rejected, accounts[source] = _read_source(source, sources)
        quarantine += rejected
    customers = sorted({customer_id for accepted in records.values() for customer_id in accepted})
    profiles = {
        customer_id: profile(
            customer_id, {source: records[source].get(customer_id) for source in CONTRACT}, shard_count
        )
        for customer_id in customers
    }
    return Expected(profiles, sorted(quarantine), accounts)


def profile(customer_id: str, records: Mapping[str, Record | None], shard_count: int) -> Record:
    """The enriched profile of one customer from its record in each source, None where it has none."""
    merged: Record = {"customer_id": customer_id, "email": None}
    for source, columns in CONTRACT.items():
        for column in columns:
            value = (records[source] or {}).get(column)
            if column != "email":
                merged[column] = value
            elif merged["email"] is None:
                merged["email"] = value
    return merged | {
        **_scores(merged),
        "sources": [source for source in CONTRACT if records[source] is not None],
        "shard_id": shard_id(customer_id, shard_count),
        "idempotency_key": idempotency_key(customer_id, records),
    }


def shard_id(customer_id: str, shard_count: int) -> str:
    """`shard_NN` by xxh3_64 of the id's UTF-8 bytes."""
    number = int.from_bytes(xxhash.xxh3_64_digest(customer_id.encode()), "big") % shard_count
    return f"shard_{number:03d}" if shard_count > 100 else f"shard_{number:02d}"


def idempotency_key(customer_id: str, records: Mapping[str, Record | None]) -> str:
    """The id, a colon and xxh3_128 over the encoding."""
    return f"{customer_id}:{xxhash.xxh3_128_hexdigest(encode(records).encode())}"


def encode(records: Mapping[str, Record | None]) -> str:
    """Encoding v1: a JSON array of strings and nulls, `v1` first, then name and columns of every source."""
    parts: list[str | None] = ["v1"]
    for source, columns in CONTRACT.items():
        record = records[source]
        parts.append(source if record is not None else None)
        parts += [None if record is None else _value_text(record[column]) for column in columns]
    return "[" + ",".join("null" if part is None else json_text(part) for part in parts) + "]"


def json_text(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _value_text(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date) else repr(value)


def _scores(merged: Mapping[str, Value]) -> Record:
    usage = merged["usage_pct"] if isinstance(merged["usage_pct"], int) else 50
    tickets = merged["open_tickets"] if isinstance(merged["open_tickets"], int) else 0
    nps = merged["nps_score"] if isinstance(merged["nps_score"], int) else None
    payment, plan, stage = (_word(merged[name]) for name in ("payment_status", "plan", "deal_stage"))
    trouble = payment in {"past_due", "failed"}

    health = 50
    health += 20 if usage >= 80 else 10 if usage >= 60 else -10 if usage < 30 else 0
    health += 15 if payment == "active" else -15 if trouble else 0
    if nps is not None:
        health += 10 if nps >= 9 else 5 if nps >= 7 else -10 if nps <= 5 else 0
    health += 5 if tickets == 0 else -5 if tickets > 3 else 0

    churn = 3 if usage < 30 else 1 if usage < 50 else 0
    churn += 3 * trouble + 2 * (nps is not None and nps <= 6) + (tickets > 3)

    expansion = 3 if usage >= 80 else 1 if usage >= 60 else 0
    expansion += 2 if plan in {"starter", "free", "basic"} else 1 if plan in {"business", "professional"} else 0
    expansion += 2 * (nps is not None and nps >= 9) + (stage == "enterprise")
    return {
        "health_score": min(100, max(0, health)),
        "churn_risk": _level(churn),
        "expansion_potential": _level(expansion),
    }


def _word(value: Value) -> str:
    return re.sub("[ -]", "_", value.strip(_WHITE_SPACE).lower()) if isinstance(value, str) else ""


def _level(points: int) -> str:
    return "HIGH" if points >= 5 else "MEDIUM" if points >= 2 else "LOW"


def _read_source(source: str, root: Path) -> tuple[dict[str, Record], list[Rejected], Account]:
    """The winning record of each customer, the rejected rows, the account."""
    paths = _files(source, root)
    names = [path.relative_to(root).as_posix() for path in paths]
    accepted: dict[str, tuple[Record, Rejected]] = {}
    rejected: list[Rejected] = []
    rows_in = rows_rejected = 0
    for path, name in zip(paths, names, strict=True):
        for line_number, raw, cells in _read_file(path):
            rows_in += 1
            reason, customer_id, record, others = _judge(source, cells)
            text = raw.decode("utf-8", errors="backslashreplace")
            if cells is None and text != raw.decode("utf-8", errors="ignore"):
                reason = "not_utf8"
            row = Rejected(source, name, line_number, reason or "superseded", customer_id, text)
            if reason or customer_id is None:
                rejected.append(row)
                rows_rejected += 1
                rejected += [row._replace(reason=f"invalid:{column}", cell=cell) for column, cell in others]
                continue
            if customer_id in accepted:
                rejected.append(accepted[customer_id][1])
                rows_rejected += 1
            accepted[customer_id] = (record, row)
    winners = {customer_id: record for customer_id, (record, _) in accepted.items()}
    return winners, rejected, Account(names, rows_in, len(winners), rows_rejected)


def _files(source: str, root: Path) -> list[Path]:
    folder = root / source
    if folder.is_dir():
        return sorted((path for path in folder.iterdir() if path.name[0] != "."), key=lambda path: path.name)
    return [path for path in (root / f"{source}.csv", root / f"{source}.csv.gz") if path.exists()]


def _read_file(path: Path) -> Iterator[tuple[int, bytes, dict[str, str] | None]]:
    """Line number, raw bytes and cells by column of each data record; no cells where the record is malformed."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = gzip.decompress(data)
    records = physical_records(data)
    header = _cells(next(records)[1])
    assert header is not None, "the header of a test file is sound"
    names = [name.strip().lower() for name in header]
    for line_number, raw, is_sound in records:
        if raw:
            cells = _cells(raw) if is_sound else None
            if cells is not None and not any(cell.strip(_WHITE_SPACE) for cell in cells):
                continue  # a blank line, as spreadsheets write it
            is_whole = cells is not None and len(cells) == len(names)
            yield line_number, raw, dict(zip(names, cells or (), strict=True)) if is_whole else None


def _cells(raw: bytes) -> list[str] | None:
    """The cells of a sound record; None when it is not UTF-8."""
    _, fields = _record(raw, 0) or (0, [])
    try:
        texts = [field.decode("utf-8") for field in fields]
    except UnicodeDecodeError:
        return None
    quoted = [text.removeprefix(" ") for text in texts]
    return [
        bare[1:-1].replace('""', '"') if bare.startswith('"') else text
        for bare, text in zip(quoted, texts, strict=True)
    ]


def physical_records(data: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Line number, bytes without line end, and soundness of every record; a damaged one is one physical line."""
    data = data.removeprefix(_BOM)
    start, line_number = 0, 1
    while start < len(data):
        record = _record(data, start)
        is_sound = record is not None
        stop = record[0] if record else _line_stop(data, start)
        raw = data[start:stop]
        if raw.endswith(b"\n"):
            raw = raw[:-1].removesuffix(b"\r")
        yield line_number, raw, is_sound
        line_number += data.count(b"\n", start, stop)
        start = stop


def _line_stop(data: bytes, start: int) -> int:
    return data.find(b"\n", start) + 1 or len(data)


def _record(data: bytes, start: int) -> tuple[int, list[bytes]] | None:
    """One past the record and its line end, and its fields as they stand; None when no sound record begins here."""
    stop = _line_stop(data, start)
    if not any(mark in data[start:stop] for mark in (b'"', b"\r", b"\0")):
        return stop, data[start:stop].removesuffix(b"\n").split(b",")
    fields = []
    at = start
    while True:
        end = _field_stop(data, at)
        if end < 0:
            return None
        fields.append(data[at:end])
        follows = data[end : end + 2]
        if not follows:
            return end, fields
        if follows.startswith(b"\n"):
            return end + 1, fields
        if follows == b"\r\n":
            return end + 2, fields
        if not follows.startswith(b","):
            return None
        at = end + 1


def _field_stop(data: bytes, at: int) -> int:
    """One past a field; -1 when it is damaged. A quote opens it at its start or behind one blank, not behind more."""
    opening = at
    while data[opening : opening + 1] == b" ":
        opening += 1
    if data[opening : opening + 1] == b'"':
        return _quoted_stop(data, opening) if opening - at <= 1 else -1
    while at < len(data) and data[at] not in b",\r\n\0":
        at += 1
    return at


def _quoted_stop(data: bytes, opening: int) -> int:
    """One past the closing quote of a field, -1 when there is none; a doubled quote closes nothing."""
    at = opening + 1
    while (quote := data.find(b'"', at)) >= 0:
        if data[quote + 1 : quote + 2] != b'"':
            return -1 if b"\0" in data[opening:quote] else quote + 1
        at = quote + 2
    return -1


def _judge(
    source: str, cells: Mapping[str, str] | None
) -> tuple[str | None, str | None, Record, list[tuple[str, str]]]:
    """The first rule that the row breaks, the customer, the typed record, and the bad cells besides the reason."""
    if cells is None:
        return "malformed_row", None, {}, []
    record, bad = _record_of(source, cells)
    customer_id = cells["customer_id"].strip(_WHITE_SPACE)
    if not customer_id or customer_id.lower() in _FOLDED_NULLS:
        return "missing_customer_id", None, {}, bad
    if len(customer_id) > _MAX_ID_CHARS or _DAMAGED_ID.fullmatch(customer_id):
        return "invalid:customer_id", customer_id, {}, bad
    if bad:
        return f"invalid:{bad[0][0]}", customer_id, {}, bad[1:]
    return None, customer_id, record, []


def _record_of(source: str, cells: Mapping[str, str]) -> tuple[Record, list[tuple[str, str]]]:
    """The typed record, and the columns and texts of its bad cells."""
    record: Record = {}
    bad = []
    for column, (kind, minimum, maximum) in CONTRACT[source].items():
        cell = cells[column]
        text = cell.strip(_WHITE_SPACE)
        if not text or (text in _TEXT_NULLS if kind == "text" else text.lower() in _FOLDED_NULLS):
            record[column] = None
            continue
        value = _PARSERS[kind](cell)
        if value is None or not _is_within(value, minimum, maximum):
            bad.append((column, cell))
        record[column] = value
    return record, bad


def _is_within(value: Value, minimum: int | None, maximum: int | None) -> bool:
    if not isinstance(value, int | float):
        return True
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _parse_text(cell: str) -> str:
    return cell


def _parse_int(cell: str) -> int | None:
    text = cell.strip(_WHITE_SPACE)
    match = _INT_TEXT.fullmatch(text)
    if match is None:
        number = Decimal(text) if _INT_WITH_EXPONENT.fullmatch(text) else None
        return int(number) if number is not None and number % 1 == 0 and number.copy_abs() < 2**53 else None
    value = int(match[1])
    return value if -(2**63) <= value < 2**63 else None


def _parse_float(cell: str) -> float | None:
    text = cell.strip(_WHITE_SPACE)
    if _FLOAT_TEXT.fullmatch(text) is None or Decimal(text).copy_abs() >= _NO_FLOAT_FROM:
        return None
    # Minus zero is zero.
    return float(text) or 0.0


def _parse_money(cell: str) -> Decimal | None:
    text = cell.strip(_WHITE_SPACE)
    if _INT_WITH_EXPONENT.fullmatch(text):
        number = Decimal(text)
        if number.copy_abs() >= 2**53 or number != number.quantize(Decimal("0.01")):
            return None
    elif _MONEY_TEXT.fullmatch(text) is None or Decimal(text).copy_abs() >= _NO_MONEY_FROM:
        return None
    # With two digits after the point, however it was written; minus zero is zero.
    return (Decimal(text) + 0).quantize(Decimal("0.01"))


def _parse_date(cell: str) -> date | None:
    match = _DATE_TEXT.fullmatch(cell.strip(_WHITE_SPACE))
    if match is None:
        return None
    try:
        day = date.fromisoformat(match[1])
        if not match[2]:
            return day
        hour, minute, second = int(match[3]), int(match[4]), int(match[5] or 0)
        if (hour, minute, second) == (24, 0, 0):
            moment = datetime(day.year, day.month, day.day) + timedelta(days=1)
        else:
            moment = datetime(day.year, day.month, day.day, hour, minute, second)
        offset = timedelta(hours=int(match[8] or 0), minutes=int(match[9] or 0))
        return (moment - offset if match[7] == "+" else moment + offset).date()
    except (ValueError, OverflowError):
        return None


_PARSERS: Mapping[str, Callable[[str], Value]] = {
    "text": _parse_text,
    "int": _parse_int,
    "float": _parse_float,
    "money": _parse_money,
    "date": _parse_date,
}
