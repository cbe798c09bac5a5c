"""The data contract: which sources exist, their columns, types and ranges.

To add a column or a source, add it here and use it in `sql/profiles.sql`; reading, validation, quarantine, routing and
the idempotency key follow from this declaration. How a value of a type is written in an export is defined by the
`sql/parse_*.sql` macros.
"""

from dataclasses import dataclass
from enum import StrEnum

MAX_CUSTOMER_ID_CHARS = 128
CUSTOMER_ID = "customer_id"


class ColumnType(StrEnum):
    """The value types of the contract; each names its DuckDB type."""

    TEXT = "VARCHAR"
    INT = "BIGINT"
    FLOAT = "DOUBLE"
    DATE = "DATE"


@dataclass(frozen=True)
class Column:
    """One column of a source besides `customer_id`; the bounds are inclusive, None means unbounded."""

    name: str
    description: str
    type: ColumnType = ColumnType.TEXT
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True)
class Source:
    """One system that exports customer records; `columns` is in contract order, without `customer_id`."""

    name: str
    title: str
    columns: tuple[Column, ...]

    @property
    def required(self) -> tuple[str, ...]:
        """Every column name the export must have."""
        return (CUSTOMER_ID, *(column.name for column in self.columns))


_INT, _FLOAT, _DATE = ColumnType.INT, ColumnType.FLOAT, ColumnType.DATE

SOURCES: tuple[Source, ...] = (
    Source(
        "crm",
        "CRM",
        (
            Column("email", "E-mail address"),
            Column("company_name", "Company as the sales team knows it"),
            Column("industry", "The company's industry"),
            Column("employee_count", "Employees of the company", _INT),
            Column("deal_stage", "Stage of the current deal"),
            Column("deal_value", "Value of the current deal, in account currency", _FLOAT),
            Column("sales_owner", "Who owns the account"),
            Column("last_contact", "Day of the last contact by sales", _DATE),
        ),
    ),
    Source(
        "billing",
        "Billing",
        (
            Column("email", "E-mail address"),
            Column("plan", "Subscription plan"),
            Column("mrr", "Monthly recurring revenue, in account currency", _FLOAT),
            Column("payment_status", "State of the payments: active, past due, failed, ..."),
            Column("subscription_start", "Day the subscription began", _DATE),
            Column("last_payment", "Day of the last payment", _DATE),
        ),
    ),
    Source(
        "product",
        "Product",
        (
            Column("email", "E-mail address"),
            Column("signup_date", "Day the account was opened", _DATE),
            Column("last_active", "Day of the last activity in the product", _DATE),
            Column("total_sessions", "Sessions since sign-up", _INT),
            Column("features_used", "Number of features used", _INT),
            Column("usage_pct", "Usage of the plan, in percent (0 to 100)", _INT, minimum=0, maximum=100),
            Column("account_status", "State of the product account"),
        ),
    ),
    Source(
        "support",
        "Support",
        (
            Column("email", "E-mail address"),
            Column("total_tickets", "Support tickets ever opened", _INT),
            Column("open_tickets", "Support tickets open now", _INT),
            Column("avg_resolution_hrs", "Mean time to resolve a ticket, in hours", _FLOAT),
            Column("last_ticket_date", "Day of the last ticket; null when there was none", _DATE),
            Column("nps_score", "Answer to the promoter question (0 to 10)", _INT, minimum=0, maximum=10),
            Column("csat_score", "Mean satisfaction rating (1 to 5)", _FLOAT, minimum=1, maximum=5),
        ),
    ),
)


def source_named(name: str) -> Source:
    """The source called `name`; KeyError when the contract has none."""
    return {source.name: source for source in SOURCES}[name]
