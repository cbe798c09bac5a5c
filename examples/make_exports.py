"""Writes the made-up exports of the examples again, the same each time: `python examples/make_exports.py`.

No one and nothing in them exists. The layouts are those of the systems: headers, delimiters, encodings, forms of dates.
"""

import csv
import gzip
import io
import random
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from etl_assets.samples.writing import generate

Row = Sequence[object]
EXAMPLES = Path(__file__).parent
_COMPANIES = (
    *("Nordlicht", "Müller & Söhne", "Käfer Logistik", "Blauwal", "Zürcher Werke", "Alpenglühn", "Hafenkante"),
    *("Löwenherz", "Grünspan", "Bäckerei Öz", "Señor Café", "Fährhaus", "Steinmetz", "Weißgerber", "Rheinblick"),
    *("Kupfer", "Taubenschlag", "Mühlrad", "Silberpfeil", "Ostwind"),
)
_FORMS = ("GmbH", "AG", "KG", "SE")
_FIRST_NAMES = ("Ana", "Björn", "Chloé", "Dilek", "Emre", "Françoise", "Greta", "Håkon", "Inês", "Jürgen")
_LAST_NAMES = ("Berger", "Çelik", "García", "Jørgensen", "Łoś", "Müller", "Nguyễn", "O'Brien", "Papadopoulos", "Smith")
_SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ø": "oe", "ü": "ue", "ß": "ss", "ł": "l"})


def main() -> None:
    """Write the files of all three."""
    software_company(EXAMPLES / "software_company" / "exports")
    web_shop(EXAMPLES / "web_shop" / "exports")
    generate(EXAMPLES / "customer360" / "exports", rows=80, seed=4, dirty=0.04)


def write(path: Path, rows: Iterable[Row], *, encoding: str = "utf-8", delimiter: str = ",", end: str = "\n") -> None:
    """Write rows as CSV; a name that ends in .gz is packed."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    data = text.getvalue().encode(encoding)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def software_company(folder: Path) -> None:
    """Accounts of a CRM that went through a German Excel, subscriptions, tickets, and product events by month.

    Subscriptions know an account by an id of their own; another report of the CRM says which account that is.
    """
    dice = random.Random(15)
    names = [f"{company} {form}" for form in _FORMS for company in _COMPANIES]
    emails = [f"einkauf@{_slug(name)}.example" for name in names]
    write(folder / "Accounts.csv", _accounts(dice, names, emails), encoding="cp1252", delimiter=";", end="\r\n")
    subscriptions = list(_subscriptions(dice, emails))
    write(folder / "subscriptions.csv", subscriptions)
    customers = {email: customer for _, customer, email, *_ in subscriptions[1:]}
    pairs = [(_salesforce_id(number), customers[email]) for number, email in enumerate(emails) if email in customers]
    report = [("Account ID", "Stripe Customer"), *pairs]
    write(folder / "Stripe Customers.csv", report, encoding="cp1252", delimiter=";", end="\r\n")
    for month in (5, 6):
        write(folder / "product events" / f"2026-{month:02d}.csv.gz", _events(dice, emails, month))
    write(folder / "tickets.csv", _tickets(dice, emails))


def _accounts(dice: random.Random, names: list[str], emails: list[str]) -> Iterable[Row]:
    header = ("Account ID", "Account Name", "Email", "Industry", "Employees", "Annual Revenue", "Account Owner")
    yield (*header, "Created Date", "Last Activity")
    for number, (name, email) in enumerate(zip(names, emails, strict=True)):
        revenue = f"€ {_german(dice.randrange(80_000, 90_000_000))},{dice.randrange(100):02d}"
        yield (
            _salesforce_id(number),
            name,
            email,
            dice.choice(("Handel", "Industrie", "Logistik", "Öffentlicher Dienst", "Software")),
            _german(dice.randrange(5, 4_000)),
            revenue if number % 11 else "",
            dice.choice(("Anke Schäfer", "Tomás Núñez", "Zoë Weiß")),
            f"{dice.randrange(1, 29):02d}.{dice.randrange(1, 13):02d}.{dice.randrange(2019, 2026)}",
            # One that a person typed.
            "gestern" if number == 33 else f"{dice.randrange(1, 29):02d}.{dice.randrange(1, 7):02d}.2026",
        )


def _subscriptions(dice: random.Random, emails: list[str]) -> Iterable[Row]:
    header = ("id", "Customer ID", "Customer Email", "Plan", "Quantity", "Currency", "Interval", "Amount", "Status")
    yield (*header, "Created (UTC)", "Canceled At (UTC)")
    for email in emails[:74]:
        customer = f"cus_{_base62(dice.randrange(62**14), 14)}"
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            plan, price = dice.choice((("basic", 29), ("team", 99), ("business", 249)))
            seats, interval = dice.randrange(1, 30), dice.choice(("month", "month", "year"))
            status = dice.choice(("active",) * 6 + ("past_due", "canceled", "canceled"))
            yield (
                f"sub_{dice.randrange(16**14):014x}",
                customer,
                email,
                f"{plan}_{interval}ly",
                seats,
                "eur",
                interval,
                f"{seats * (price * 10 if interval == 'year' else price)}.{dice.choice(('00', '00', '50'))}",
                status,
                f"{dice.randrange(2022, 2026)}-{dice.randrange(1, 13):02d}-{dice.randrange(1, 29):02d} "
                f"{dice.randrange(24):02d}:{dice.randrange(60):02d}",
                f"2026-0{dice.randrange(1, 7)}-{dice.randrange(1, 29):02d} 09:30" if status == "canceled" else "",
            )


def _events(dice: random.Random, emails: list[str], month: int) -> Iterable[Row]:
    yield ("message_id", "event", "user_email", "timestamp")
    zones = [timezone(timedelta(hours=hours)) for hours in (2, 2, 2, 1, -4)]
    for number, email in enumerate(emails[6:]):
        # Every fifth account has stopped in June.
        for _ in range(0 if month == 6 and number % 5 == 0 else dice.choice((2, 8, 15, 30))):
            at = datetime(
                2026, month, dice.randrange(1, 30), dice.randrange(24), dice.randrange(60), dice.randrange(60)
            )
            yield (
                f"{dice.randrange(16**16):016x}",
                dice.choice(("report_viewed", "report_viewed", "report_created", "user_invited", "export_downloaded")),
                email,
                at.replace(tzinfo=dice.choice(zones)).isoformat(),
            )


def _tickets(dice: random.Random, emails: list[str]) -> Iterable[Row]:
    header = ("ID", "Subject", "Requester", "Requester email", "Status", "Priority", "Created at", "Solved at")
    yield (*header, "Satisfaction Score")
    for number in range(140):
        status = dice.choice(("Open", "Pending", "Solved", "Closed", "Closed", "Closed"))
        solved = status in ("Solved", "Closed")
        month, day = dice.randrange(3, 7), dice.randrange(1, 27)
        yield (
            20_000 + number,
            dice.choice(("Log-in fails", "Invoice, please", 'Report "Q2" is empty', "How do I invite\ncolleagues?")),
            f"{dice.choice(_FIRST_NAMES)} {dice.choice(_LAST_NAMES)}",
            # Some come by telephone, and one from a private address.
            "" if number % 45 == 44 else "jana@privat.example" if number == 9 else dice.choice(emails[3:70]),
            status,
            dice.choice(("Low", "Normal", "High", "Urgent")),
            f"2026-{month:02d}-{day:02d} {dice.randrange(8, 18):02d}:{dice.randrange(60):02d}:07 +0200",
            f"2026-{month:02d}-{day + dice.randrange(1, 3):02d} 16:{dice.randrange(60):02d}:41 +0200" if solved else "",
            dice.choice(("Good", "Good", "Bad", "Offered")) if solved else "Unoffered",
        )


def web_shop(folder: Path) -> None:
    """Customers and orders of a shop, the members of its newsletter, reviews."""
    dice = random.Random(51)
    people = [(dice.choice(_FIRST_NAMES), dice.choice(_LAST_NAMES)) for _ in range(90)]
    emails = [f"{_slug(first)}.{_slug(last)}{number}@mail.example" for number, (first, last) in enumerate(people)]
    write(folder / "customers_export.csv", _customers(dice, people[:80], emails))
    orders = list(_order_lines(dice, emails))
    header, first, rest = orders[0], orders[1:201], orders[201:]
    # A shop packs long exports in several files.
    write(folder / "orders_export_1.csv", [header, *first])
    write(folder / "orders_export_2.csv", [header, *rest])
    write(folder / "subscribed_email_audience_export_7f3a9c.csv", _members(dice, people, emails), end="\r\n")
    write(folder / "reviews.csv", _reviews(dice, people, emails))


def _customers(dice: random.Random, people: list[tuple[str, str]], emails: list[str]) -> Iterable[Row]:
    header = ("Customer ID", "First Name", "Last Name", "Email", "Accepts Email Marketing", "Default Address Zip")
    yield (*header, "Default Address Country Code", "Total Spent", "Tags")
    for number, ((first, last), email) in enumerate(zip(people, emails, strict=False)):
        yield (
            f"'{7_000_000_000_000 + number * 131_072}",
            first,
            last,
            email,
            dice.choice(("yes", "no")),
            f"{dice.randrange(1_000, 99_999):05d}",
            dice.choice(("DE", "AT", "CH", "NL")),
            f"{dice.randrange(900)}.{dice.randrange(100):02d}",
            dice.choice(("", "", "vip", "vip, wholesale")),
        )


_GOODS = (("MUG-1", "Mug", 1_250), ("TEA-G", "Tea, green", 480), ("POT-2", "Teapot", 3_900), ("SPN-4", "Spoon", 295))


def _order_lines(dice: random.Random, emails: list[str]) -> Iterable[Row]:
    """A row for each line of an order; what concerns the whole order is in the first one only."""
    header = ("Name", "Email", "Financial Status", "Paid at", "Currency", "Subtotal", "Shipping", "Total", "Created at")
    yield (*header, "Lineitem quantity", "Lineitem name", "Lineitem price", "Lineitem sku")
    start = datetime(2026, 1, 2, 8, 0, 11, tzinfo=timezone(timedelta(hours=2)))
    for number in range(190):
        at = start + timedelta(minutes=number * 1_370 + dice.randrange(1_000))
        lines = [(dice.randrange(1, 5), *goods) for goods in dice.sample(_GOODS, dice.randrange(1, 4))]
        cents, shipping = sum(count * price for count, _, _, price in lines), dice.choice((0, 490))
        status = dice.choice(("paid",) * 8 + ("refunded", "pending"))
        name, email = f"#{1_001 + number}", dice.choice((str, str, str.upper))(dice.choice(emails[8:]))
        whole = (
            *(status, "" if status == "pending" else _moment(at), "EUR", _money(cents), _money(shipping)),
            _money(cents + shipping),
        )
        for line, (count, sku, goods, price) in enumerate(lines):
            first = ("",) * len(whole) if line else whole
            yield (name, email, *first, _moment(at), count, goods, _money(price), sku)


def _members(dice: random.Random, people: list[tuple[str, str]], emails: list[str]) -> Iterable[Row]:
    yield ("Email Address", "First Name", "Last Name", "MEMBER_RATING", "OPTIN_TIME", "LAST_CHANGED", "TAGS")
    for number, ((first, last), email) in enumerate(zip(people, emails, strict=True)):
        if number % 3:
            # One is beyond the five stars.
            rating = 11 if number == 31 else dice.randrange(1, 6)
            joined = f"2025-{dice.randrange(1, 13):02d}-{dice.randrange(1, 29):02d} {dice.randrange(24):02d}:14:09"
            changed = f"2026-0{dice.randrange(1, 7)}-{dice.randrange(1, 29):02d} {dice.randrange(24):02d}:00:00"
            tags = dice.choice(("", '"tea"', '"tea","offers"'))
            yield (email, first, last, rating, joined, changed, tags)


def _reviews(dice: random.Random, people: list[tuple[str, str]], emails: list[str]) -> Iterable[Row]:
    yield ("title", "body", "rating", "review_date", "reviewer_name", "reviewer_email", "product_handle")
    texts = (("Lovely", "Bought it twice."), ("Broken", 'The lid says "oven-proof".\nIt is not.'), ("", "ok"))
    for _ in range(110):
        number = dice.randrange(20, len(emails))
        yield (
            *dice.choice(texts),
            dice.choice((1, 3, 4, 5, 5, 5)),
            f"2026-0{dice.randrange(1, 7)}-{dice.randrange(1, 29):02d} {dice.randrange(24):02d}:05:30 UTC",
            " ".join(people[number]),
            emails[number],
            dice.choice(("mug", "tea-green", "teapot", "spoon")),
        )


def _slug(name: str) -> str:
    """The name as it may stand in an address."""
    spelled = name.lower().translate(_SPELLED)
    plain = unicodedata.normalize("NFKD", spelled)
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())


def _german(number: int) -> str:
    return f"{number:,}".replace(",", ".")


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S %z")


def _base62(number: int, length: int) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(digits[number // 62**place % 62] for place in reversed(range(length)))


def _salesforce_id(number: int) -> str:
    """An id of 18 characters; the last three tell which of the others are capitals."""
    short = f"001Ws00000{_base62(900_000_000 - number * 4_321_987, 5)}"
    parts = [short[start : start + 5] for start in (0, 5, 10)]
    bits = [sum(letter.isupper() << place for place, letter in enumerate(part)) for part in parts]
    return short + "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[value] for value in bits)


if __name__ == "__main__":
    main()
