"""A project whose systems share no id: its tickets and payments have ids of their own, which maps lead to the keys."""

from pathlib import Path

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project

PROFILES = """
WITH totals AS (SELECT client, count(*) AS tickets, sum(minutes) AS minutes FROM tickets GROUP BY client)
SELECT base.client, crm.name, payments.plan, totals.tickets, totals.minutes, base.sources, base.issues,
    base.shard_id, base.idempotency_key
FROM clients LEFT JOIN totals ON totals.client = base.client
"""
MAP = {"files": "ids/*.csv", "from": "Desk ID", "to": "Client"}
CRM = "Account,name,Payer\nA1,Ada,p1\nA2,Bo,p2\nA3,Cy,\n"
IDS = "Desk ID,Client,Comment\n1,A1,\n2,A2,\n3,A3,\n"


def contract(
    tickets: dict[str, object] | None = None, payments: dict[str, object] | None = None, **key: object
) -> Contract:
    """The contract; the words change the sources and the key."""
    columns = {"number": {}, "minutes": {"type": "int"}}
    return Contract.model_validate(
        {
            "name": "desk",
            "entity": "clients",
            "key": {"name": "client", **key},
            "sources": {
                "crm": {"key": "Account", "columns": ["name"]},
                "tickets": {"key": "Requester", "key_map": MAP, "rows": "many", "columns": columns, **(tickets or {})},
                "payments": {
                    "key": "Payer",
                    "key_map": {"files": "crm.csv", "from": "Payer", "to": "Account"},
                    "columns": ["plan"],
                    **(payments or {}),
                },
            },
        }
    )


def exports(
    folder: Path,
    tickets: str = "",
    ids: str = IDS,
    crm: str = CRM,
    payments: str = "",
) -> Path:
    """The exports, each with the rows that are given after its header."""
    (folder / "ids").mkdir(parents=True, exist_ok=True)
    (folder / "crm.csv").write_text(crm)
    (folder / "ids" / "desk.csv").write_text(ids)
    (folder / "tickets.csv").write_text("Requester,number,minutes\n" + tickets)
    (folder / "payments.csv").write_text("Payer,plan\n" + payments)
    return folder


def site_at(root: Path, made: Contract | None = None, shard_count: int = 3) -> Site:
    """The project at work."""
    return Site(Project(made or contract(), PROFILES), Home(root), shard_count)
