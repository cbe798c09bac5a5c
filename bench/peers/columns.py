"""The columns of the exports, as the peers that are written in Python declare them to their libraries."""

from collections.abc import Mapping
from typing import Literal

# Money is a decimal in the profiles. The peers keep it as they keep other numbers, and hash two digits after its point.
Kind = Literal["text", "int", "float", "money", "date"]

# By source, in the order in which the idempotency key takes them; without the key, `customer_id`.
COLUMNS: Mapping[str, Mapping[str, Kind]] = {
    "crm": {
        "email": "text",
        "company_name": "text",
        "industry": "text",
        "employee_count": "int",
        "deal_stage": "text",
        "deal_value": "money",
        "sales_owner": "text",
        "last_contact": "date",
    },
    "billing": {
        "email": "text",
        "plan": "text",
        "mrr": "money",
        "payment_status": "text",
        "subscription_start": "date",
        "last_payment": "date",
    },
    "product": {
        "email": "text",
        "signup_date": "date",
        "last_active": "date",
        "total_sessions": "int",
        "features_used": "int",
        "usage_pct": "int",
        "account_status": "text",
    },
    "support": {
        "email": "text",
        "total_tickets": "int",
        "open_tickets": "int",
        "avg_resolution_hrs": "float",
        "last_ticket_date": "date",
        "nps_score": "int",
        "csat_score": "float",
    },
}
# Every source has an e-mail address, and a profile has one; all other columns go into the profile as they are.
FIELDS = [name for columns in COLUMNS.values() for name in columns if name != "email"]
DATES = [name for columns in COLUMNS.values() for name, kind in columns.items() if kind == "date"]


def joined_name(source: str, name: str) -> str:
    """The name of a source's column once all sources are joined: the e-mail addresses need one each."""
    return f"{source}_email" if name == "email" else name
