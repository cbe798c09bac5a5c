"""Sample exports: believable customers in four systems, and on request the dirt that real exports hold.

Here belongs what the sample looks like; what an export must look like is the contract's business, and reading one is
the engine's. Everything is a function of (row number, seed): DuckDB computes it in SQL with an integer hash that is
spelled out here, so the same arguments give the same bytes on every machine, day and thread count. Nothing random,
no `hash()`, no floating-point arithmetic before the last division, and no date but a fixed one is used. (Two bytes
are not ours: a `.csv.gz` also follows the zlib version, a `.parquet` the DuckDB version that wrote it.)

A latent health between 0 and 999 is behind each customer's usage, payments, tickets and answers, so that scores have
something to find.
"""

import contextlib
import gzip
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import duckdb

from etl_assets.engine.files import publishing as storage
from etl_assets.project.contract import CUSTOMER_ID, MAX_CUSTOMER_ID_CHARS, SOURCES, ColumnType, Source

FileFormat = Literal["csv", "csv.gz", "parquet"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
MAX_DIRTY = 0.5
# The ids have eight digits.
MAX_ROWS = 100_000_000

# 50,000 rows keep a chunk's text below 10 MB; larger chunks were not faster, smaller ones pay more for planning.
_CHUNK_ROWS = 50_000
_ROW_GROUP_ROWS = 100_000
_MEMORY_LIMIT = "256MB"
# Fixed: the default may change with the Python version. 1 packs to a third in a fifth of the time that 9 takes.
_GZIP_LEVEL = 1
# The day the sample was "exported"; deliberately not today.
_EXPORT_DAY = "DATE '2026-06-30'"
# One customer in 50 is unknown to a source.
_MISSING_ONE_IN = 50
_PER_MILLION = 1_000_000
_BOM = b"\xef\xbb\xbf"
# These begin with a byte order mark when the data is dirty; the others show that one file's habit is not all files'.
_BOM_SOURCES = frozenset({"crm", "support"})
# Stands in SQL, where only text lives, for a byte that is not UTF-8: é in Latin-1, the usual accident.
_NOT_UTF8 = ("\ue000", b"\xe9")


def generate(
    out: Path,
    *,
    rows: int,
    seed: int = 42,
    dirty: float = 0.0,
    file_format: FileFormat = "csv",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write one export a source for `rows` customers into `out` and return the files in contract order.

    `dirty` is the share of each file's rows, 0 to 0.5, that show one of the flaws of `_flaws`; about three in five of
    these rows break the contract. The files are built aside and swapped in together at the end: a failure or a kill
    leaves what was there. `on_progress` gets the customers done so far and `rows`: after each chunk for CSV, after each
    file for Parquet. Raises ValueError for arguments out of range, and when `out` holds a source in another format.
    """
    _check(rows, dirty, file_format)
    _refuse_other_formats(out, file_format)
    storage.sweep(storage.ensure_directory(out))
    targets = [out / f"{source.name}.{file_format}" for source in SOURCES]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(storage.publish_file(target)) for target in targets]
        connection = stack.enter_context(contextlib.closing(_connect()))
        job = _Job(rows, zlib.crc32(str(seed).encode()), max(1, round(dirty * _PER_MILLION)) if dirty else 0)
        write = _write_parquet if file_format == "parquet" else _write_csv
        for rows_done in write(connection, job, files, file_format):
            if on_progress is not None:
                on_progress(rows_done, rows)
    return targets


def _check(rows: int, dirty: float, file_format: str) -> None:
    if not 1 <= rows <= MAX_ROWS:
        raise ValueError(f"rows must be from 1 to {MAX_ROWS}, found {rows}")
    if not 0 <= dirty <= MAX_DIRTY:
        raise ValueError(f"dirty must be a share from 0 to {MAX_DIRTY}, found {dirty}")
    if file_format not in FORMATS:
        raise ValueError(f"file_format must be one of {', '.join(FORMATS)}, found {file_format!r}")


def _refuse_other_formats(out: Path, file_format: FileFormat) -> None:
    """A source that is there twice stops the pipeline; somebody's files are not ours to remove."""
    endings = ["", *(f".{other}" for other in FORMATS if other != file_format)]
    found = [name for source in SOURCES for end in endings if (out / (name := f"{source.name}{end}")).exists()]
    if found:
        raise ValueError(
            f"{out} already holds {', '.join(found)}, and a source may be there only once. "
            f"Remove what you do not need or write the {file_format} files to another folder."
        )


@dataclass(frozen=True)
class _Job:
    """What decides the bytes, but the format; `dirty_ppm` is 0 for clean data."""

    rows: int
    seed: int
    dirty_ppm: int


def _connect() -> duckdb.DuckDBPyConnection:
    # One thread: it keeps the order of the rows, and 50,000 rows are less than what DuckDB gives a second one.
    connection = duckdb.connect(config={"threads": 1, "memory_limit": _MEMORY_LIMIT, "temp_directory": ""})
    for macro in _MACROS:
        connection.execute(macro)
    return connection


def _write_csv(
    connection: duckdb.DuckDBPyConnection, job: _Job, files: Sequence[Path], file_format: FileFormat
) -> Iterator[int]:
    """Write the files side by side, chunk by chunk; yields the customers done."""
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_opened(file, file_format)) for file in files]
        for source, write in zip(SOURCES, writers, strict=True):
            write(_header(source, job))
        for first in range(0, job.rows, _CHUNK_ROWS):
            for source, write in zip(SOURCES, writers, strict=True):
                write(_csv_chunk(connection, job, source, first))
            yield min(first + _CHUNK_ROWS, job.rows)


@contextlib.contextmanager
def _opened(path: Path, file_format: FileFormat) -> Iterator[Callable[[bytes], object]]:
    with path.open("wb") as plain:
        if file_format == "csv":
            yield plain.write
            return
        # Without name and time in its header, equal data is an equal file.
        with gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=plain, mtime=0) as packed:
            yield packed.write


def _header(source: Source, job: _Job) -> bytes:
    mark = _BOM if job.dirty_ppm and source.name in _BOM_SOURCES else b""
    return mark + ",".join(source.required).encode() + b"\n"


def _csv_chunk(connection: duckdb.DuckDBPyConnection, job: _Job, source: Source, first: int) -> bytes:
    """The lines of the customers from `first` on, up to a chunk's worth of them."""
    last = min(first + _CHUNK_ROWS, job.rows)
    lines = _lines_sql(job, source, f"SELECT range AS position FROM range({first}, {last})")
    row = connection.execute(
        f"SELECT encode(string_agg(line, chr(10) ORDER BY position, version) || chr(10)) FROM ({lines})"
    ).fetchone()
    text: bytes | None = row[0] if row else None
    # None: a chunk whose every customer is unknown to the source.
    return (text or b"").replace(_NOT_UTF8[0].encode(), _NOT_UTF8[1])


def _write_parquet(
    connection: duckdb.DuckDBPyConnection, job: _Job, files: Sequence[Path], file_format: FileFormat
) -> Iterator[int]:
    """Write one file after the other (a Parquet file cannot be added to); yields the customers done, in effect."""
    for number, (source, file) in enumerate(zip(SOURCES, files, strict=True), start=1):
        columns = ", ".join(source.required)
        numbers = f"SELECT range AS position FROM range({job.rows})"
        # Deliberately without ORDER BY: one thread streams the rows in the order of their numbers, a sort holds all.
        connection.execute(
            f"COPY (SELECT {columns} FROM ({_cells_sql(job, source, numbers, _parquet_flaws(source))})) TO $file "
            f"(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})",
            {"file": str(file)},
        )
        yield job.rows * number // len(SOURCES)


_MACROS = (
    # murmur3's 32-bit finaliser: a bijection that mixes every bit into every other. UBIGINT holds its products.
    "CREATE MACRO fold(x, bits) AS xor(x, x >> bits)",
    """CREATE MACRO mix(x) AS
        fold((fold((fold(x, 16) * 2246822507::UBIGINT) & 4294967295::UBIGINT, 13) * 3266489909::UBIGINT)
            & 4294967295::UBIGINT, 16)""",
    # One mixed key throws many dice: each die is a multiplier modulo the largest prime below 2^32, a universal family
    # of hashes. Deliberately not mix() again: DuckDB pastes a macro's text in, and planning 30 mixes for each chunk
    # took 0.07 s (dirty 0.3 s), as long as running them over 50,000 rows.
    "CREATE MACRO roll(key, die, sides) AS (key * die::UBIGINT % 4294967291::UBIGINT % sides::UBIGINT)::BIGINT",
    """CREATE MACRO title(word) AS
        array_to_string(list_transform(string_split(word, '_'), lambda part: upper(part[1]) || part[2:]), ' ')""",
    # 'past_due' as different systems spell it; most spell it right.
    """CREATE MACRO spelled(word, die) AS CASE die
        WHEN 0 THEN replace(word, '_', '-')
        WHEN 1 THEN upper(word)
        WHEN 2 THEN title(word)
        WHEN 3 THEN title(word)
        ELSE word END""",
    """CREATE MACRO csv_field(cell) AS
        CASE WHEN contains(cell, ',') OR contains(cell, '"') OR contains(cell, chr(10))
        THEN '"' || replace(cell, '"', '""') || '"' ELSE cell END""",
)


def _roll(what: str, sides: int | str) -> str:
    """SQL for a number from 0 up to `sides`; each `what` is a die of its own, so a new one changes no other."""
    return f"roll(key, {_die(what)}, {sides})"


def _die(what: str) -> int:
    return max(1, zlib.crc32(what.encode()) % 4294967291)


def _pick(what: str, values: Sequence[str]) -> str:
    """SQL for one of the values; one that stands twice comes twice as often."""
    return f"{_list(values)}[1 + {_roll(what, len(values))}]"


def _mostly(what: str, one_in: int, value: str) -> str:
    """SQL for the value, or null for one customer in so many."""
    return f"CASE WHEN {_roll(what, one_in)} > 0 THEN {value} END"


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(_literal(value) for value in values)}]"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# Names. The domains end in .example, which nobody can own (RFC 2606): no mail ever reaches a stranger.


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


_FIRST_NAMES = _names("""
    Aisha, Alan, Amara, Ana, Anton, Aylin, Ben, Carla, Carlos, Chloe, Daniel, David, Diego, Elena, Elif, Emma,
    Erik, Fatima, Felix, Grace, Hana, Hugo, Ines, Ivan, Jack, James, Jana, Jin, Jonas, Julia, Karim, Katja,
    Kofi, Laura, Leo, Liam, Lina, Lucas, Maria, Marta, Maya, Mei, Mila, Nadia, Nina, Noah, Olga, Omar, Oscar,
    Paula, Priya, Rafael, Ravi, Rosa, Sara, Sofia, Tariq, Tom, Vera, Yuki
""")
_LAST_NAMES = _names("""
    Abbott, Adeyemi, Ahmed, Almeida, Andersen, Baker, Bauer, Bianchi, Brown, Campbell, Chen, Costa, Cruz,
    Diallo, Dubois, Evans, Ferrari, Fischer, Fraser, Garcia, Gupta, Haddad, Hansen, Hughes, Ito, Jansen,
    Johnson, Kaya, Keller, Kim, Kowalski, Larsen, Lee, Lopez, Martin, Mensah, Meyer, Moore, Moreau, Murphy,
    Nakamura, Nguyen, Novak, Okafor, Olsen, Patel, Peters, Popov, Quinn, Reyes, Rossi, Sato, Schmidt, Silva,
    Singh, Smith, Tanaka, Torres, Walker, Weber, Wilson, Wright, Young, Zhang
""")
_COMPANY_NAMES = _names("""
    Aldgate, Alpine, Amber, Apex, Arbor, Ashford, Aurora, Beacon, Birch, Blue Ridge, Bramble, Brightwater,
    Cedar, Cobalt, Copperfield, Crestline, Eastgate, Elmwood, Ember, Evergreen, Fairview, Falcon, Fjord,
    Foxglove, Granite, Harbor, Hawthorn, Highland, Horizon, Indigo, Ironwood, Juniper, Keystone, Kingfisher,
    Lakeside, Lantern, Linden, Lumen, Maple, Meridian, Müller & Voß, Northfield, Oakhurst, Orchard, Pinnacle,
    Polaris, Quarry, Redwood, Riverbend, Saffron, São Bento, Sierra, Silverline, Skåne, Sterling, Summit,
    Tidewater, Tōwa 東和, Umbra, Vertex, Westbrook, Willow, Zephyr
""")
_COMPANY_TRADES = {
    "Software": ("Software", "Systems", "Labs", "Cloud"),
    "Manufacturing": ("Industries", "Works", "Tooling", "Components"),
    "Healthcare": ("Health", "Clinics", "Care", "Medical"),
    "Financial Services": ("Capital", "Finance", "Partners", "Insurance"),
    "Retail": ("Stores", "Trading", "Goods", "Market"),
    "Logistics": ("Logistics", "Freight", "Shipping", "Transport"),
    "Education": ("Learning", "Academy", "Schools", "Press"),
    "Media": ("Media", "Studios", "Publishing", "Games"),
    "Energy": ("Energy", "Power", "Solar", "Grid"),
    "Hospitality": ("Hotels", "Resorts", "Catering", "Travel"),
}
_COMPANY_FORMS = (*("",) * 7, " Inc", " LLC", " Ltd", " GmbH", " Group", ", Inc.", " AG", " & Sons", " S.A.")
_SALES_OWNERS = (
    *("Alice Morgan", "Bob Tanner", "Carmen Ruiz", "Dmitri Volkov", "Esther Boateng", "Farid Nasser", "Greta Holm"),
    *("Henry Walsh", "Isabel Duarte", "Jamal Price", "Kirsten Bach", "Liang Wei", "Mona Sayed", "Niamh O'Connor"),
    *("Owen Pritchard", "Zoë Lindqvist"),
)


def _domains() -> list[str]:
    """Each company name as the first label of a domain: plain ASCII letters."""
    plain = (unicodedata.normalize("NFKD", name.replace("ß", "ss")) for name in _COMPANY_NAMES)
    return [re.sub(r"[^a-z]", "", name.lower()) for name in plain]


# Customers. Each block of columns may use those of the blocks before it.

_KEYED = f"""
    printf('cust_%08d', customer) AS customer_id,
    -- The better of two dice: most customers are well, one in ten is below 300.
    greatest({_roll("health", 1000)}, {_roll("health again", 1000)}) AS health,
    {_roll("size", 1000)} AS size,
    30 + {_roll("tenure", 2400)} AS tenure_days,
    {_roll("company", len(_COMPANY_NAMES))} AS company,
    {_roll("industry", len(_COMPANY_TRADES))} AS industry_number"""

_LATENT = f"""
    lower({_pick("first name", _FIRST_NAMES)} || '.' || {_pick("last name", _LAST_NAMES)}) || '@'
        || {_list(_domains())}[1 + company] || '.example' AS person_email,
    size * 7 // 10 + health * 3 // 10 + {_roll("plan", 150)} AS plan_score,
    health + {_roll("churn", 120)} < 150 AS is_churned,
    least(100, greatest(0, health // 10 - 12 + {_roll("usage", 25)})) AS usage,
    {_roll("tickets", "3 + (1000 - health) // 60")} AS tickets,
    {_roll("payment", 1000)} AS payment_die"""

_DERIVED = f"""
    CASE WHEN plan_score < 300 THEN 'free' WHEN plan_score < 450 THEN 'starter' WHEN plan_score < 570 THEN 'basic'
        WHEN plan_score < 760 THEN 'professional' WHEN plan_score < 930 THEN 'business' ELSE 'enterprise'
    END AS plan_word,
    CASE WHEN plan_score < 300 THEN 0 WHEN plan_score < 450 THEN 2900 + 1000 * {_roll("starter price", 4)}
        WHEN plan_score < 570 THEN 7900 + 2000 * {_roll("basic price", 4)}
        WHEN plan_score < 760 THEN 19900 + 100 * {_roll("professional price", 300)}
        WHEN plan_score < 930 THEN 59900 + 100 * {_roll("business price", 900)}
        ELSE 249900 + 100 * {_roll("enterprise price", 7500)}
    END * (100 - 5 * {_roll("discount", 4)}) // 100 AS mrr_cents,
    CASE WHEN is_churned THEN 'canceled' WHEN tenure_days < 60 THEN 'trialing' WHEN plan_score < 300 THEN 'active'
        WHEN payment_die < greatest(15, 550 - health) THEN 'past_due'
        WHEN payment_die >= 1000 - greatest(5, 300 - health) THEN 'failed' ELSE 'active'
    END AS payment_word,
    {_EXPORT_DAY} - tenure_days::INTEGER AS signup,
    CASE WHEN is_churned THEN 45 + {_roll("gone for", 120)} ELSE 0 END AS gone_days"""


def _days_ago(days: str) -> str:
    """SQL for a day before the export, never before the sign-up; a newer version of a record is a week younger."""
    return f"greatest(signup, {_EXPORT_DAY} - ({days})::INTEGER) + 7 * version"


def _email(what: str) -> str:
    """The person's address, now and then the company's, a shouted one or none."""
    return f"""CASE {_roll(what, 60)} WHEN 0 THEN NULL WHEN 1 THEN upper(person_email)
        WHEN 2 THEN '{what}@' || split_part(person_email, '@', 2) ELSE person_email END"""


def _company_name() -> str:
    trades = f"[{', '.join(_list(trades) for trades in _COMPANY_TRADES.values())}]"
    name = f"""{_list(_COMPANY_NAMES)}[1 + company] || ' ' || {trades}[1 + industry_number][1 + {_roll("trade", 4)}]
        || {_pick("company form", _COMPANY_FORMS)}"""
    # One in 500 goes by a name in quotation marks, which CSV must double.
    return f"""CASE WHEN {_roll("nickname", 500)} = 0 THEN 'The "' || ({name}) || '" Company' ELSE {name} END"""


def _values() -> dict[str, dict[str, str]]:
    """SQL of every contract column, by source; one that the contract gains is empty until it is added here."""
    spelling = _roll("spelling", 20)
    stages = ("prospecting", "qualified", "proposal", "negotiation", "renewal", *("closed_won",) * 4)
    return {
        "crm": {
            "email": _email("office"),
            "company_name": _company_name(),
            "industry": f"{_list(list(_COMPANY_TRADES))}[1 + industry_number]",
            "employee_count": f"""CASE WHEN size < 400 THEN 1 + {_roll("micro", 10)}
                WHEN size < 700 THEN 11 + {_roll("small", 40)} WHEN size < 880 THEN 51 + {_roll("medium", 150)}
                WHEN size < 960 THEN 201 + {_roll("large", 800)} ELSE 1001 + {_roll("huge", 19_000)} END""",
            "deal_stage": f"""spelled(CASE WHEN is_churned THEN 'closed_lost' WHEN plan_score >= 930 THEN 'enterprise'
                ELSE {_pick("stage", stages)} END, {spelling})""",
            "deal_value": _mostly(
                "deal", 12, f"greatest(mrr_cents * 12, 60000) * (80 + {_roll('deal size', 60)}) // 5000 / 2.0"
            ),
            "sales_owner": _mostly("owner", 40, _pick("sales owner", _SALES_OWNERS)),
            "last_contact": _mostly(
                "contact", 30, _days_ago(f"{_roll('contact day', '15 + (1000 - health) // 5')} + gone_days")
            ),
        },
        "billing": {
            "email": _email("billing"),
            "plan": f"spelled(plan_word, {_roll('plan spelling', 20)})",
            "mrr": "mrr_cents / 100.0",
            "payment_status": f"spelled(payment_word, {_roll('payment spelling', 8)})",
            "subscription_start": f"least({_EXPORT_DAY}, signup + {_roll('trial', 30)}::INTEGER)",
            "last_payment": f"""CASE WHEN plan_score >= 300 AND payment_word <> 'trialing' THEN {
                _days_ago(
                    f"{_roll('payment day', 30)} + gone_days + CASE payment_word WHEN 'active' THEN 0 ELSE 31 END"
                )
            } END""",
        },
        "product": {
            "email": _email("admin"),
            "signup_date": "signup",
            "last_active": _days_ago(f"{_roll('active day', '2 + (1000 - health) // 12')} + gone_days"),
            "total_sessions": f"""1 + tenure_days * (health + 20) // 2000 * (1 + {_roll("sessions", 4)})
                + 5 * version""",
            "features_used": f"usage * 24 // 100 + {_roll('features', 4)}",
            "usage_pct": "usage",
            "account_status": f"""spelled(CASE WHEN is_churned THEN 'churned' WHEN tenure_days < 60 THEN 'trial'
                WHEN payment_word = 'failed' THEN 'suspended' ELSE 'active' END, {_roll("account spelling", 20)})""",
        },
        "support": {
            "email": _email("helpdesk"),
            "total_tickets": "tickets + version",
            "open_tickets": f"least(tickets, {_roll('open tickets', '1 + (1000 - health) // 110')})",
            "avg_resolution_hrs": f"""CASE WHEN tickets > 0
                THEN (20 + {_roll("resolution", 200)} + (1000 - health) // 4) / 10.0 END""",
            "last_ticket_date": f"""CASE WHEN tickets + version > 0
                THEN {_days_ago(_roll("ticket day", "30 + health // 3"))} END""",
            "nps_score": _mostly(
                "nps", 4, f"least(10, greatest(0, health * 11 // 1000 - 1 + {_roll('nps answer', 4)}))"
            ),
            "csat_score": f"""CASE WHEN tickets > 0 AND {_roll("csat", 5)} > 0
                THEN least(50, greatest(10, 12 + health * 32 // 1000 + {_roll("csat answer", 9)})) / 10.0 END""",
        },
    }


_VALUES = _values()


def _present_sql(source: Source) -> str:
    """Which customers a source knows; the first one takes in whom no other does, so nobody is lost."""
    misses = {other.name: f"{_roll(f'missing in {other.name}', _MISSING_ONE_IN)} = 0" for other in SOURCES}
    if source == SOURCES[0]:
        others = " AND ".join(misses[other.name] for other in SOURCES[1:])
        return f"(NOT {misses[source.name]} OR ({others}))"
    return f"NOT {misses[source.name]}"


def _records_sql(job: _Job, source: Source, numbers: str, flaws: Sequence["_Flaw"]) -> str:
    """Typed records of the customers that `numbers` selects as `position`, with version and flaw."""
    values = _VALUES.get(source.name, {})
    columns = ", ".join(
        f"CAST({values.get(column.name, 'NULL')} AS {column.type.value}) AS {column.name}" for column in source.columns
    )
    return f"""
        WITH wanted AS ({_wanted_sql(job, source, numbers, flaws)}),
        mixed AS (SELECT *, mix(customer::UBIGINT) AS number FROM wanted),
        -- The seed goes between two rounds: a nearby seed must not give the same customers in another order.
        keyed AS (SELECT *, mix(xor(number, {job.seed}::UBIGINT)) AS key FROM mixed),
        rolled AS (SELECT *, {_KEYED} FROM keyed WHERE {_present_sql(source)} OR flaw IS NOT NULL OR version > 0),
        latent AS (SELECT *, {_LATENT} FROM rolled),
        derived AS (SELECT *, {_DERIVED} FROM latent)
        SELECT position, version, flaw, {CUSTOMER_ID}, {columns} FROM derived"""


# Dirt. The rows are cut into blocks of 1/dirty rows; dice choose a block's dirty row, its flaw is the next of the
# schedule. Everything follows from the row number, so no chunk needs to know of another.


@dataclass(frozen=True)
class _Flaw:
    """One kind of dirt: what a cell (or, with no column, the whole CSV line) becomes, as SQL over the sound one."""

    name: str
    column: str | None
    sql: str


# A sound row itself; the next block brings a newer version of it.
_SUPERSEDED = "superseded"

_CUSTOMER_ID_FLAWS = (
    _Flaw("missing_id", CUSTOMER_ID, "NULL"),
    _Flaw("blank_id", CUSTOMER_ID, "'   '"),
    _Flaw("long_id", CUSTOMER_ID, f"rpad({CUSTOMER_ID}, {MAX_CUSTOMER_ID_CHARS + 72}, '0')"),
    # Valid: the id is trimmed.
    _Flaw("spaced_id", CUSTOMER_ID, f"'  ' || {CUSTOMER_ID} || ' '"),
)
_LINE_FLAWS = (
    _Flaw("too_few_fields", None, "regexp_replace(line, ',[^,]*$', '')"),
    _Flaw("too_many_fields", None, "line || ',surplus'"),
    _Flaw("open_quote", None, r"""regexp_replace(line, ',([^,]*)$', ',"note: \1')"""),
    _Flaw("text_after_quote", None, r"""regexp_replace(line, ',([^,]*)$', ',"note: \1"x')"""),
    _Flaw("not_utf8", None, f"regexp_replace(line, ',', ',Andr{_NOT_UTF8[0]} ')"),
    _Flaw("nul", None, "regexp_replace(line, ',', ',' || chr(0))"),
    _Flaw("lone_cr", None, "regexp_replace(line, ',', ',' || chr(13))"),
    # Valid: a line may end in CRLF, and a blank one is no row.
    _Flaw("crlf", None, "line || chr(13)"),
    _Flaw("blank_line", None, "chr(10) || line"),
)
# Values that their column cannot hold, by source.
_BAD_CELLS: Mapping[str, Sequence[tuple[str, str]]] = {
    "crm": (
        *(("employee_count", "n/a"), ("employee_count", "12.7")),
        *(("deal_value", "1.234,50"), ("last_contact", "2024-02-30")),
    ),
    "billing": (("mrr", "n/a"), ("subscription_start", "03/31/2025"), ("last_payment", "2024-02-30")),
    "product": (
        *(("total_sessions", "n/a"), ("features_used", "12.7")),
        *(("usage_pct", "130"), ("last_active", "2024-02-30")),
    ),
    "support": (
        *(("total_tickets", "12.7"), ("open_tickets", "n/a"), ("last_ticket_date", "2024-02-30")),
        *(("nps_score", "11"), ("csat_score", "9.9")),
    ),
}


def _flaws(source: Source) -> list[_Flaw]:
    """The schedule of a source, every kind in it: at most 40 entries, so that 2,000 rows at 2 % show each."""
    twice = [_Flaw(_SUPERSEDED, None, "line"), *_note_flaws(source)]
    bad = [_Flaw(f"{column}={text}", column, _literal(text)) for column, text in _BAD_CELLS.get(source.name, ())]
    return [*twice, *_CUSTOMER_ID_FLAWS, *bad, *twice, *_LINE_FLAWS]


def _parquet_flaws(source: Source) -> list[_Flaw]:
    """Those that Parquet can hold: it has cells, but no lines."""
    return [flaw for flaw in _flaws(source) if flaw.column is not None or flaw.name == _SUPERSEDED]


def _note_flaws(source: Source) -> list[_Flaw]:
    """Valid all of them: what people type into a text cell."""
    texts = [column.name for column in source.columns if column.type is ColumnType.TEXT]
    if not texts:
        return []
    column = texts[1] if len(texts) > 1 else texts[0]
    known = f"coalesce({column}, 'unknown')"
    return [
        _Flaw("quoted_newline", column, f"{known} || chr(10) || '(see note)'"),
        _Flaw("unicode", column, f"{known} || ' – Zoë, Łódź, 東京 🚀'"),
    ]


def _wanted_sql(job: _Job, source: Source, numbers: str, flaws: Sequence[_Flaw]) -> str:
    """Which record of whom stands at each position: the customer of that number, after a superseded one a newer too."""
    if not job.dirty_ppm:
        return f"SELECT position, position AS customer, 0 AS version, NULL::VARCHAR AS flaw FROM ({numbers})"
    names = _list([flaw.name for flaw in flaws])
    # Sources start at different flaws, so that no customer is unlucky everywhere.
    shift = SOURCES.index(source) * 7
    return f"""
        WITH numbers AS ({numbers}),
        blocks AS (SELECT position, position * {job.dirty_ppm} // {_PER_MILLION} AS block FROM numbers),
        -- A block begins at the first position that divides into it.
        bounds AS (
            SELECT position, block, {_block_start_sql(job, "block - 1")} AS start_before,
                {_block_start_sql(job, "block")} AS start, {_block_start_sql(job, "block + 1")} AS start_after
            FROM blocks
        ),
        throws AS (
            SELECT position, block, start + {_throw_sql(job, source, "start", "start_after")} AS dirty_position,
                start_before + {_throw_sql(job, source, "start_before", "start")} AS dirty_position_before
            FROM bounds
        ),
        versions AS (
            SELECT *, {names}[1 + (block + {shift}) % {len(flaws)}] AS block_flaw,
                {names}[1 + (block + {shift + len(flaws) - 1}) % {len(flaws)}] AS block_flaw_before,
                unnest(CASE WHEN position = dirty_position AND block > 0 AND block_flaw_before = '{_SUPERSEDED}'
                    THEN [0, 1] ELSE [0] END) AS version
            FROM throws
        )
        SELECT position, CASE version WHEN 0 THEN position ELSE dirty_position_before END AS customer, version,
            CASE WHEN position = dirty_position AND version = 0 THEN block_flaw END AS flaw
        FROM versions"""


def _block_start_sql(job: _Job, block: str) -> str:
    return f"greatest(0, (({block}) * {_PER_MILLION} + {job.dirty_ppm - 1}) // {job.dirty_ppm})"


def _throw_sql(job: _Job, source: Source, start: str, end: str) -> str:
    """SQL for how far into its block the dirty row is; the block before the first has no rows and counts as one."""
    key = f"mix(xor({start}::UBIGINT, {job.seed}::UBIGINT))"
    return f"roll({key}, {_die(f'dirt in {source.name}')}, greatest(1, {end} - {start}))"


def _cells_sql(job: _Job, source: Source, numbers: str, flaws: Sequence[_Flaw]) -> str:
    """The records as they go into a file: typed when clean; as text, flaws in place, when dirty."""
    records = _records_sql(job, source, numbers, flaws)
    if not job.dirty_ppm:
        return records
    columns = ", ".join(f"{_flawed_sql(name, f'CAST({name} AS VARCHAR)', flaws)} AS {name}" for name in source.required)
    return f"SELECT position, version, flaw, {columns} FROM ({records})"


def _lines_sql(job: _Job, source: Source, numbers: str) -> str:
    """Position, version and CSV line (without its end) of each record."""
    flaws = _flaws(source)
    texts = {CUSTOMER_ID, *(column.name for column in source.columns if column.type is ColumnType.TEXT)}
    # Numbers and dates need no quotes, unless they are none.
    fields = ", ',', ".join(
        f"csv_field({name})" if job.dirty_ppm or name in texts else name for name in source.required
    )
    return f"""
        SELECT position, version, {_flawed_sql(None, "line", flaws)} AS line
        FROM (
            SELECT position, version, flaw, concat({fields}) AS line
            FROM ({_cells_sql(job, source, numbers, flaws)})
        )"""


def _flawed_sql(column: str | None, sound: str, flaws: Sequence[_Flaw]) -> str:
    """SQL for a cell (or, with no column, the line) with the row's flaw, if it has one there."""
    whens = dict.fromkeys(f"WHEN '{flaw.name}' THEN {flaw.sql}" for flaw in flaws if flaw.column == column)
    return f"CASE flaw {' '.join(whens)} ELSE {sound} END" if whens else sound
