"""Who the sample's customers are, and what each source says of them.

The SQL goes from the hidden to the visible. Each customer has a latent health from 0 to 999 that no file shows; usage,
payments, tickets and answers follow from it, so that scores have something to find. `_VALUES` then derives every column
of the contract, and `records_sql` selects the records of one source. Flaws come later, in `flaws`.
"""

from collections.abc import Mapping, Sequence

from etl_assets.project.contract import Column, Source
from etl_assets.samples.dice import literal, mostly, pick, roll, text_list
from etl_assets.samples.words import (
    COMPANY_FORMS,
    COMPANY_NAMES,
    COMPANY_TRADES,
    FIRST_NAMES,
    LAST_NAMES,
    SALES_OWNERS,
    company_domains,
)

KEY = "customer_id"
# The ids have eight digits.
MAX_CUSTOMERS = 100_000_000

MACROS = (
    """CREATE MACRO title(word) AS
        array_to_string(list_transform(string_split(word, '_'), lambda part: upper(part[1]) || part[2:]), ' ')""",
    # 'past_due' as different systems spell it; most spell it right.
    """CREATE MACRO spelled(word, die) AS CASE die
        WHEN 0 THEN replace(word, '_', '-')
        WHEN 1 THEN upper(word)
        WHEN 2 THEN title(word)
        WHEN 3 THEN title(word)
        ELSE word END""",
)
# The day the sample was "exported". Deliberately not today, so that every day gives the same bytes.
_EXPORT_DAY = "DATE '2026-06-30'"
# A source does not know one customer in 50.
_MISSING_ONE_IN = 50
_OPEN_STAGES = ("prospecting", "qualified", "proposal", "negotiation", "renewal", *("closed_won",) * 4)

# The hidden columns, in three blocks. Each block may use the columns of those before it.

_KEYED = f"""
    printf('cust_%08d', customer) AS {KEY},
    -- The better of two dice: most customers are healthy, one in ten is below 300.
    greatest({roll("health", 1000)}, {roll("health again", 1000)}) AS health,
    {roll("size", 1000)} AS size,
    30 + {roll("tenure", 2400)} AS tenure_days,
    {roll("company", len(COMPANY_NAMES))} AS company,
    {roll("industry", len(COMPANY_TRADES))} AS industry_number"""

_LATENT = f"""
    lower({pick("first name", FIRST_NAMES)} || '.' || {pick("last name", LAST_NAMES)}) || '@'
        || {text_list(company_domains())}[1 + company] AS person_email,
    size * 7 // 10 + health * 3 // 10 + {roll("plan", 150)} AS plan_score,
    health + {roll("churn", 120)} < 150 AS is_churned,
    least(100, greatest(0, health // 10 - 12 + {roll("usage", 25)})) AS usage,
    {roll("tickets", "3 + (1000 - health) // 60")} AS tickets,
    {roll("payment", 1000)} AS payment_die"""

_DERIVED = f"""
    CASE WHEN plan_score < 300 THEN 'free' WHEN plan_score < 450 THEN 'starter' WHEN plan_score < 570 THEN 'basic'
        WHEN plan_score < 760 THEN 'professional' WHEN plan_score < 930 THEN 'business' ELSE 'enterprise'
    END AS plan_word,
    CASE WHEN plan_score < 300 THEN 0 WHEN plan_score < 450 THEN 2900 + 1000 * {roll("starter price", 4)}
        WHEN plan_score < 570 THEN 7900 + 2000 * {roll("basic price", 4)}
        WHEN plan_score < 760 THEN 19900 + 100 * {roll("professional price", 300)}
        WHEN plan_score < 930 THEN 59900 + 100 * {roll("business price", 900)}
        ELSE 249900 + 100 * {roll("enterprise price", 7500)}
    END * (100 - 5 * {roll("discount", 4)}) // 100 AS mrr_cents,
    CASE WHEN is_churned THEN 'canceled' WHEN tenure_days < 60 THEN 'trialing' WHEN plan_score < 300 THEN 'active'
        WHEN payment_die < greatest(15, 550 - health) THEN 'past_due'
        WHEN payment_die >= 1000 - greatest(5, 300 - health) THEN 'failed' ELSE 'active'
    END AS payment_word,
    {_EXPORT_DAY} - tenure_days::INTEGER AS signup,
    CASE WHEN is_churned THEN 45 + {roll("gone for", 120)} ELSE 0 END AS gone_days"""


def _days_ago(days: str) -> str:
    """SQL for a day before the export, but never before the sign-up; a newer version of a record is a week younger."""
    return f"greatest(signup, {_EXPORT_DAY} - ({days})::INTEGER) + 7 * version"


def _email(mailbox: str) -> str:
    """SQL for the person's address; now and then for the company's mailbox, an address in capitals, or none."""
    return f"""CASE {roll(mailbox, 60)} WHEN 0 THEN NULL WHEN 1 THEN upper(person_email)
        WHEN 2 THEN {literal(mailbox + "@")} || split_part(person_email, '@', 2) ELSE person_email END"""


def _company_name() -> str:
    """SQL for the company's name. One in 500 holds quotation marks, which CSV must double."""
    trades = f"[{', '.join(text_list(trades) for trades in COMPANY_TRADES.values())}]"
    name = f"""{text_list(COMPANY_NAMES)}[1 + company] || ' ' || {trades}[1 + industry_number][1 + {roll("trade", 4)}]
        || {pick("company form", COMPANY_FORMS)}"""
    return f"""CASE WHEN {roll("nickname", 500)} = 0 THEN 'The "' || ({name}) || '" Company' ELSE {name} END"""


# SQL of every column of the contract, by source. A column or source that the contract gains is empty until it is added.
_VALUES: Mapping[str, Mapping[str, str]] = {
    "crm": {
        "email": _email("office"),
        "company_name": _company_name(),
        "industry": f"{text_list(list(COMPANY_TRADES))}[1 + industry_number]",
        "employee_count": f"""CASE WHEN size < 400 THEN 1 + {roll("micro", 10)}
            WHEN size < 700 THEN 11 + {roll("small", 40)} WHEN size < 880 THEN 51 + {roll("medium", 150)}
            WHEN size < 960 THEN 201 + {roll("large", 800)} ELSE 1001 + {roll("huge", 19_000)} END""",
        "deal_stage": f"""spelled(CASE WHEN is_churned THEN 'closed_lost' WHEN plan_score >= 930 THEN 'enterprise'
            ELSE {pick("stage", _OPEN_STAGES)} END, {roll("spelling", 20)})""",
        "deal_value": mostly(
            "deal", 12, f"greatest(mrr_cents * 12, 60000) * (80 + {roll('deal size', 60)}) // 5000 / 2.0"
        ),
        "sales_owner": mostly("owner", 40, pick("sales owner", SALES_OWNERS)),
        "last_contact": mostly(
            "contact", 30, _days_ago(f"{roll('contact day', '15 + (1000 - health) // 5')} + gone_days")
        ),
    },
    "billing": {
        "email": _email("billing"),
        "plan": f"spelled(plan_word, {roll('plan spelling', 20)})",
        "mrr": "mrr_cents / 100.0",
        "payment_status": f"spelled(payment_word, {roll('payment spelling', 8)})",
        "subscription_start": f"least({_EXPORT_DAY}, signup + {roll('trial', 30)}::INTEGER)",
        "last_payment": f"""CASE WHEN plan_score >= 300 AND payment_word <> 'trialing' THEN {
            _days_ago(f"{roll('payment day', 30)} + gone_days + CASE payment_word WHEN 'active' THEN 0 ELSE 31 END")
        } END""",
    },
    "product": {
        "email": _email("admin"),
        "signup_date": "signup",
        "last_active": _days_ago(f"{roll('active day', '2 + (1000 - health) // 12')} + gone_days"),
        "total_sessions": f"""1 + tenure_days * (health + 20) // 2000 * (1 + {roll("sessions", 4)})
            + 5 * version""",
        "features_used": f"usage * 24 // 100 + {roll('features', 4)}",
        "usage_pct": "usage",
        "account_status": f"""spelled(CASE WHEN is_churned THEN 'churned' WHEN tenure_days < 60 THEN 'trial'
            WHEN payment_word = 'failed' THEN 'suspended' ELSE 'active' END, {roll("account spelling", 20)})""",
    },
    "support": {
        "email": _email("helpdesk"),
        "total_tickets": "tickets + version",
        "open_tickets": f"least(tickets, {roll('open tickets', '1 + (1000 - health) // 110')})",
        "avg_resolution_hrs": f"""CASE WHEN tickets > 0
            THEN (20 + {roll("resolution", 200)} + (1000 - health) // 4) / 10.0 END""",
        "last_ticket_date": f"""CASE WHEN tickets + version > 0
            THEN {_days_ago(roll("ticket day", "30 + health // 3"))} END""",
        "nps_score": mostly("nps", 4, f"least(10, greatest(0, health * 11 // 1000 - 1 + {roll('nps answer', 4)}))"),
        "csat_score": f"""CASE WHEN tickets > 0 AND {roll("csat", 5)} > 0
            THEN least(50, greatest(10, 12 + health * 32 // 1000 + {roll("csat answer", 9)})) / 10.0 END""",
    },
}


def knows(source: Source) -> bool:
    """Whether there are values here for every column of the source."""
    return {column.name for column in source.columns} <= _VALUES.get(source.name, {}).keys()


def duckdb_type(column: Column) -> str:
    """The name of the DuckDB type that holds the column."""
    return column.duckdb


def records_sql(sources: Sequence[Source], source: Source, seed: int, wanted: str) -> str:
    """SQL for typed records: position, version, flaw, key and the columns of the source.

    `wanted` is a query that says which record stands where: position, customer (a number), version and flaw, as
    `flaws.wanted_sql` makes it. A customer whom the source does not know is left out, except for a record with a flaw
    or a newer version.
    """
    values = _VALUES.get(source.name, {})
    columns = ", ".join(
        f"CAST({values.get(column.name, 'NULL')} AS {duckdb_type(column)}) AS {column.name}"
        for column in source.columns
    )
    return f"""
        WITH wanted AS ({wanted}),
        mixed AS (SELECT *, mix(customer::UBIGINT) AS number FROM wanted),
        -- The seed goes between two rounds: a nearby seed must not give the same customers in another order.
        keyed AS (SELECT *, mix(xor(number, {seed}::UBIGINT)) AS key FROM mixed),
        rolled AS (
            SELECT *, {_KEYED} FROM keyed WHERE {_present_sql(sources, source)} OR flaw IS NOT NULL OR version > 0
        ),
        latent AS (SELECT *, {_LATENT} FROM rolled),
        derived AS (SELECT *, {_DERIVED} FROM latent)
        SELECT position, version, flaw, {KEY}, {columns} FROM derived"""


def _present_sql(sources: Sequence[Source], source: Source) -> str:
    """SQL for whether a source knows the customer; the first source knows everyone whom no other knows."""
    misses = {other.name: f"{roll(f'missing in {other.name}', _MISSING_ONE_IN)} = 0" for other in sources}
    if source != sources[0]:
        return f"NOT {misses[source.name]}"
    others = " AND ".join(misses[other.name] for other in sources[1:]) or "true"
    return f"(NOT {misses[source.name]} OR ({others}))"
