"""A Polars script: one lazy query over the four exports, with the hash of each key computed in a comprehension."""

import sys
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import xxhash

from bench.peers.columns import COLUMNS, FIELDS, Kind, joined_name

TEXT = pl.String
_TYPES: Mapping[Kind, type[pl.DataType]] = {
    "text": TEXT,
    "int": pl.Int64,
    "float": pl.Float64,
    "money": pl.Float64,
    "date": pl.Date,
}


def read(folder: Path, source: str) -> pl.LazyFrame:
    """One export. Its column `email` is renamed, and a column named like the source marks the customers that it has."""
    columns = {name: _TYPES[kind] for name, kind in COLUMNS[source].items()}
    frame = pl.scan_csv(folder / f"{source}.csv", schema={"customer_id": TEXT, **columns})
    return frame.rename({"email": joined_name(source, "email")}).with_columns(pl.lit(source).alias(source))


def encoding() -> pl.Expr:
    """The JSON array that is hashed: `v1`, then the name and columns of every source."""
    parts: list[pl.Expr] = [pl.lit('["v1"')]
    for source, columns in COLUMNS.items():
        parts.append(quoted(pl.col(source)))
        for name, kind in columns.items():
            column = pl.col(joined_name(source, name))
            exact = column.cast(pl.Decimal(18, 2)) if kind == "money" else column
            parts.append(quoted(escaped(column) if kind == "text" else exact.cast(TEXT)))
    return pl.concat_str(parts, separator=",") + "]"


def quoted(text: pl.Expr) -> pl.Expr:
    """A JSON string, or null."""
    return (pl.lit('"') + text + '"').fill_null("null")


def escaped(text: pl.Expr) -> pl.Expr:
    """The text with the characters escaped that JSON does not allow in a string, as far as the sample holds them."""
    return text.str.replace_many(["\\", '"', "\n", "\r", "\t"], ["\\\\", '\\"', "\\n", "\\r", "\\t"])


def hashes(texts: pl.Series) -> pl.Series:
    """xxh3_128 of each text, a function that Polars lacks."""
    return pl.Series([xxhash.xxh3_128_hexdigest(text.encode()) for text in texts], dtype=TEXT)


def word(name: str) -> pl.Expr:
    """A word in the one spelling in which words are compared."""
    return pl.col(name).str.strip_chars().str.to_lowercase().str.replace_all("[ -]", "_").fill_null("")


def level(points: pl.Expr) -> pl.Expr:
    """The level of a number of points."""
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
        pl.coalesce(joined_name(source, "email") for source in COLUMNS).alias("email"),
        *FIELDS,
        *scores(),
        pl.concat_list(*COLUMNS).list.drop_nulls().alias("sources"),
        (pl.col("customer_id") + ":" + encoding().map_batches(hashes, return_dtype=TEXT)).alias("idempotency_key"),
    ).sink_parquet(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
