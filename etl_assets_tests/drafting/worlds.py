"""Made-up sets of exports in layouts that real systems write: those of `examples/`, and two that are made here."""

import csv
import gzip
import io
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from etl_assets_tests.projects.example_folders import EXAMPLES, NAMES

CUSTOMERS = 120
_NAMES = ("Müller", "Çelik", "O'Brien", "Łoś", "García", "Smith", "Nguyễn", "Jörgensen")
_WESTERN = ("Müller", "García", "Smith", "Jörgensen", "O'Brien")


def write_table(
    path: Path,
    rows: Iterable[Sequence[object]],
    *,
    encoding: str = "utf-8",
    delimiter: str = ",",
    quote_all: bool = False,
    end: str = "\r\n",
) -> Path:
    """Write rows as a program writes them; a name that ends in .gz is packed."""
    text = io.StringIO(newline="")
    csv.writer(
        text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    ).writerows(rows)
    data = text.getvalue().encode(encoding)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def american_accounts(root: Path) -> Path:
    """Accounts of a CRM, subscriptions of a payment system, tickets of a help desk that went through a spreadsheet.

    Accounts: labels as headers, BOM, all quoted, dollars, American dates. Subscriptions: a row each, UTC. Tickets: `;`,
    cp1252, times with a zone.
    """
    dice = random.Random(1)
    emails = [f"ops{number}@Client{number % 40}.example" for number in range(CUSTOMERS)]
    accounts: list[Sequence[object]] = [
        ["Account ID", "Account Name", "Email", "Annual Revenue", "Employees", "Active", "Created Date", "Description"],
        *(
            [
                f"0015g0{dice.randrange(10**9):09d}AAB",
                f"{dice.choice(_NAMES)} & Sons, Inc. {number}",
                email,
                f"${dice.randrange(1000, 9_000_000):,}.{dice.randrange(100):02d}" if number % 7 else "N/A",
                dice.randrange(1, 5_000),
                dice.choice(["true", "false"]),
                f"{dice.randrange(1, 13)}/{dice.randrange(1, 29)}/20{dice.randrange(18, 26)}",
                f'said "hello"\non line {number}' if number % 9 == 0 else "",
            ]
            for number, email in enumerate(emails)
        ),
    ]
    write_table(root / "accounts_export.csv", accounts, encoding="utf-8-sig", quote_all=True)
    subscriptions: list[Sequence[object]] = [
        ["id", "Customer Email", "Plan", "Quantity", "Amount", "Status", "Created (UTC)", "Canceled At (UTC)"],
        *(
            [
                f"sub_{dice.randrange(16**12):012x}",
                emails[dice.randrange(CUSTOMERS - 10)].lower(),
                dice.choice(["price_basic", "price_pro"]),
                dice.randrange(1, 30),
                f"{dice.randrange(5, 900)}.{dice.randrange(100):02d}",
                dice.choice(["active", "past_due", "canceled"]),
                f"2026-0{dice.randrange(1, 6)}-{dice.randrange(10, 29)} 14:{dice.randrange(10, 60)}",
                "" if number % 3 else f"2026-05-{dice.randrange(10, 29)} 09:00",
            ]
            for number in range(200)
        ),
    ]
    write_table(root / "subscriptions.csv", subscriptions, end="\n")
    tickets: list[Sequence[object]] = [
        ["Ticket ID", "Requester", "Subject", "Priority", "Created at", "Hours to solve", "Satisfaction Score"],
        *(
            [
                4000 + number,
                emails[dice.randrange(20, CUSTOMERS)] if number % 40 else "",
                f"Größe; Preis – {dice.choice(_WESTERN)} fragt",
                dice.choice(["low", "normal", "urgent"]),
                f"2026-04-{dice.randrange(10, 31)} {dice.randrange(10, 24)}:05:09 +0200",
                f"{dice.randrange(1, 90)},{dice.randrange(10)}",
                dice.choice(["1", "3", "5", "-"]),
            ]
            for number in range(300)
        ),
    ]
    write_table(root / "tickets 2026-04.csv", tickets, encoding="cp1252", delimiter=";")
    return root


def club(root: Path) -> Path:
    """Members, payments and visits as spreadsheets save `Unicode text`: UTF-16 with tabs; German numbers, dates."""
    dice = random.Random(3)
    numbers = [f"{10_000 + number}" for number in range(CUSTOMERS)]

    def write(name: str, rows: Iterable[Sequence[object]]) -> None:
        write_table(root / name, rows, encoding="utf-16", delimiter="\t")

    def day() -> str:
        return f"{dice.randrange(1, 29):02d}.{dice.randrange(1, 13):02d}.20{dice.randrange(15, 26)}"

    def member(number: str) -> Sequence[object]:
        name = (dice.choice(["Jörg", "Zoë"]), dice.choice(_NAMES), f"m{number}@verein.example")
        return [number, *name, day(), day(), f"1.{dice.randrange(1_000):03d},50", dice.choice(["ja", "nein"])]

    def payment(month: int, number: int) -> Sequence[object]:
        amount = f"{dice.randrange(9, 90)},00"
        return [f"Z{month}{number:04d}", dice.choice(numbers), amount, day(), dice.choice("SB")]

    def visit() -> Sequence[object]:
        at = f"{day()} {dice.randrange(8, 22):02d}:15:00"
        return [dice.choice(numbers[:90]), at, f"Halle {dice.randrange(1, 4)}", dice.randrange(20, 180)]

    header = [
        "Mitgliedsnummer",
        "Vorname",
        "Nachname",
        "E-Mail",
        "Geburtsdatum",
        "Eintritt",
        "Jahresbeitrag",
        "Trainer",
    ]
    write("Mitglieder.txt", [header, *(member(number) for number in numbers)])
    for month in (4, 5):
        header = ["Zahlung Nr", "Mitglied", "Betrag", "Datum", "Art"]
        write(f"Zahlungen-2026-0{month}.txt", [header, *(payment(month, number) for number in range(150))])
    write("Besuche.txt", [["Mitglied Nr.", "Zeitpunkt", "Halle", "Dauer (min)"], *(visit() for _ in range(400))])
    return root


def _of_example(name: str) -> Callable[[Path], Path]:
    return lambda root: Path(shutil.copytree(EXAMPLES / name / "exports", root))


WORLDS = {"american_accounts": american_accounts, "club": club} | {name: _of_example(name) for name in NAMES}
# How many keys are in all sources together.
KEY_COUNTS = {"american_accounts": 120, "club": 120, "software_company": 81, "web_shop": 90, "customer360": 80}
