"""A Polars script: one lazy query over the four exports, the hash of each key from a comprehension."""

import sys
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import xxhash

TEXT, INT, FLOAT, DATE = pl.String, pl.Int64, pl.Float64, pl.Date
COLUMNS: Mapping[str, Mapping[str, type[pl.DataType]]] = {
    "crm": {
        "email": TEXT,
        "company_name": TEXT,
        "industry": TEXT,
        "employee_count": INT,
        "deal_stage": TEXT,
        "deal_value": FLOAT,
        "sales_owner": TEXT,
        "last_contact": DATE,
    },
    "billing": {
        "email": TEXT,
        "plan": TEXT,
        "mrr": FLOAT,
        "payment_status": TEXT,
        "subscription_start": DATE,
        "last_payment": DATE,
    },
    "product": {
        "email": TEXT,
        "signup_date": DATE,
        "last_active": DATE,
        "total_sessions": INT,
        "features_used": INT,
        "usage_pct": INT,
        "account_status": TEXT,
    },
    "support": {
        "email": TEXT,
        "total_tickets": INT,
        "open_tickets": INT,
        "avg_resolution_hrs": FLOAT,
        "last_ticket_date": DATE,
        "nps_score": INT,
        "csat_score": FLOAT,
    },
}


def read(folder: Path, source: str) -> pl.LazyFrame:
    """One export; its email gets a name of its own, and a column tells where the source has the customer."""
    frame = pl.scan_csv(folder / f"{source}.csv", schema={"customer_id": TEXT, **COLUMNS[source]})
    return frame.rename({"email": f"{source}_email"}).with_columns(pl.lit(source).alias(source))


def encoding() -> pl.Expr:
    """The JSON array that is hashed: `v1`, then the name and columns of every source."""
    parts: list[pl.Expr] = [pl.lit('["v1"')]
    for source, columns in COLUMNS.items():
        parts.append(quoted(pl.col(source)))
        for name, kind in columns.items():
            column = pl.col(f"{source}_email" if name == "email" else name)
            parts.append(quoted(escaped(column) if kind is TEXT else column.cast(TEXT)))
    return pl.concat_str(parts, separator=",") + "]"


def quoted(text: pl.Expr) -> pl.Expr:
    """A JSON string, or null."""
    return (pl.lit('"') + text + '"').fill_null("null")


def escaped(text: pl.Expr) -> pl.Expr:
    """What JSON must escape, as far as exports hold it."""
    return text.str.replace_many(["\\", '"', "\n", "\r", "\t"], ["\\\\", '\\"', "\\n", "\\r", "\\t"])


def hashes(texts: pl.Series) -> pl.Series:
    """xxh3_128 of each text; Polars has no such function itself."""
    return pl.Series([xxhash.xxh3_128_hexdigest(text.encode()) for text in texts], dtype=TEXT)


def word(name: str) -> pl.Expr:
    """A word as it is compared."""
    return pl.col(name).str.strip_chars().str.to_lowercase().str.replace_all("[ -]", "_").fill_null("")


def level(points: pl.Expr) -> pl.Expr:
    """Points to a level."""
    return pl.when(points >= 5).then(pl.lit("HIGH")).when(points >= 2).then(pl.lit("MEDIUM")).otherwise(pl.lit("LOW"))


def scores() -> list[pl.Expr]:
    """Health score, churn risk and expansion potential."""
    usage, tickets = pl.col("usage_pct").fill_null(50), pl.col("open_tickets").fill_null(0)
    nps, payment, plan = pl.col("nps_score"), word("payment_status"), word("plan")
    trouble = payment.is_in(["past_due", "failed"])
    health = (
        50
        + pl.when(usage >= 80).then(20).when(usage >= 60).then(10).when(usage < 30).then(-10).otherwise(0)
        + pl.when(payment == "active").then(15).when(trouble).then(-15).otherwise(0)
        + pl.when(nps >= 9).then(10).when(nps >= 7).then(5).when(nps <= 5).then(-10).otherwise(0)
        + pl.when(tickets == 0).then(5).when(tickets > 3).then(-5).otherwise(0)
    )
    churn = (
        pl.when(usage < 30).then(3).when(usage < 50).then(1).otherwise(0)
        + pl.when(trouble).then(3).otherwise(0)
        + pl.when(nps <= 6).then(2).otherwise(0)
        + pl.when(tickets > 3).then(1).otherwise(0)
    )
    small, middle = plan.is_in(["starter", "free", "basic"]), plan.is_in(["business", "professional"])
    expansion = (
        pl.when(usage >= 80).then(3).when(usage >= 60).then(1).otherwise(0)
        + pl.when(small).then(2).when(middle).then(1).otherwise(0)
        + pl.when(nps >= 9).then(2).otherwise(0)
        + pl.when(word("deal_stage") == "enterprise").then(1).otherwise(0)
    )
    return [
        health.clip(0, 100).alias("health_score"),
        level(churn).alias("churn_risk"),
        level(expansion).alias("expansion_potential"),
    ]


def main(sources: Path, out: Path) -> None:
    """Write the profiles to the new Parquet file `out`."""
    first, *others = (read(sources, source) for source in COLUMNS)
    joined = first
    for other in others:
        joined = joined.join(other, on="customer_id", how="full", coalesce=True)
    joined.select(
        "customer_id",
        pl.coalesce(f"{source}_email" for source in COLUMNS).alias("email"),
        *(name for columns in COLUMNS.values() for name in columns if name != "email"),
        *scores(),
        pl.concat_list(*COLUMNS).list.drop_nulls().alias("sources"),
        (pl.col("customer_id") + ":" + encoding().map_batches(hashes, return_dtype=TEXT)).alias("idempotency_key"),
    ).sink_parquet(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
