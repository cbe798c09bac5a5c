"""The report at the end of `etl-assets run`: the numbers, and on failure what failed, why and how to recover."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from etl_assets.cli import terminal
from etl_assets.cli.output import printable, printable_lines
from etl_assets.cli.program import program, spell
from etl_assets.pipeline import status as facts
from etl_assets.pipeline.report import Report, ShardReport, SourceReport
from etl_assets.project.settings import Settings

# With more shards than this, only those in trouble have a row.
_SHARD_ROWS = 40
_REASONS_SHOWN = 3
_STYLES = {"published": "green", "reused": "green", "failed": "red", "skipped": "yellow"}
_SAMPLE_QUERY = "SELECT churn_risk, count(*) AS customers FROM merged_profiles GROUP BY ALL"


def show(console: Console, report: Report, settings: Settings) -> None:
    """The tables of sources and shards, and the publication."""
    _show_sources(console, report.sources)
    if report.shards:
        console.print()
        _show_shards(console, report.shards)
    if report.publication:
        console.print()
        _show_publication(console, report, settings)


def show_failure(console: Console, report: Report, settings: Settings) -> None:
    """What failed and why, what is kept, and the command that recovers."""
    for source in report.sources:
        if source.error:
            _print_error(console, "" if source.source in source.error else source.source, source.error)
    for shard in report.shards:
        if shard.status != "failed":
            continue
        attempts = f" after {terminal.count(shard.attempts, 'attempt')}" if shard.attempts > 1 else ""
        _print_error(console, f"{shard.shard_id} failed{attempts}", shard.error or "no error was reported")
    if report.merge_error:
        _print_error(console, "merge", report.merge_error)
    if not report.publication:
        console.print(f"{_warehouse_now(report, settings)} Finished work is kept and will be reused.", soft_wrap=True)
    first = "fix the cause, then " if report.failed_shards or any(source.error for source in report.sources) else ""
    console.print(Text.assemble(f"Recover: {first}", (recovery(report), "bold")), soft_wrap=True)


def _warehouse_now(report: Report, settings: Settings) -> str:
    if report.is_warehouse_replaced:
        return "The warehouse was replaced before the run failed; run again before you rely on it."
    if settings.home.warehouse.exists():
        return "The published warehouse is unchanged."
    return "Nothing is published yet."


def recovery(report: Report) -> str:
    """The command that does what is left."""
    failed = report.failed_shards
    is_shards_only = failed and not any(source.error for source in report.sources)
    # A plain run reuses the others, so it does the same as a list too long to read.
    if is_shards_only and len(failed) <= _SHARD_ROWS:
        return f"{program()} run --shards {','.join(failed)}"
    return f"{program()} run"


def _show_sources(console: Console, sources: Sequence[SourceReport]) -> None:
    shown = terminal.table(
        ("source", "left"), ("rows in", "right"), ("accepted", "right"), ("quarantined", "right"), ("took", "right")
    )
    for source in sources:
        numbers = (
            ("-", "-", "-")
            if source.error
            else map(terminal.number, (source.rows_in, source.rows_accepted, source.rows_quarantined))
        )
        shown.add_row(terminal.plain(source.source), *numbers, _took(source.elapsed_ms, reused=source.reused))
    console.print(shown)
    reasons: Counter[str] = Counter()
    for source in sources:
        reasons.update(source.reasons)
    if reasons:
        rest = len(reasons) - _REASONS_SHOWN
        listed = ", ".join(f"{reason} {amount:,}" for reason, amount in reasons.most_common(_REASONS_SHOWN))
        more = f" and {terminal.count(rest, 'other reason')}" if rest > 0 else ""
        console.print(
            Text.assemble("quarantined: ", terminal.plain(listed), more, "; see the table quarantine"),
            soft_wrap=True,
        )


def _show_shards(console: Console, shards: Sequence[ShardReport]) -> None:
    counts = Counter(shard.status for shard in shards)
    listed = shards if len(shards) <= _SHARD_ROWS else [shard for shard in shards if _is_remarkable(shard)]
    if listed:
        shown = terminal.table(
            ("shard", "left"), ("status", "left"), ("records", "right"), ("attempts", "right"), ("took", "right")
        )
        for shard in listed:
            shown.add_row(
                terminal.plain(shard.shard_id),
                Text(shard.status, style=_STYLES[shard.status]),
                terminal.number(shard.record_count),
                terminal.number(shard.attempts),
                _took(shard.elapsed_ms, reused=False),
            )
        console.print(shown)
    summary = ", ".join(f"{counts[status]:,} {status}" for status in _STYLES if counts[status])
    records = sum(shard.record_count or 0 for shard in shards)
    console.print(f"{terminal.count(len(shards), 'shard')}: {summary or 'none'}; {terminal.count(records, 'record')}")


def _is_remarkable(shard: ShardReport) -> bool:
    return shard.status in ("failed", "skipped") or shard.attempts > 1


def _show_publication(console: Console, report: Report, settings: Settings) -> None:
    warehouse = settings.home.warehouse
    published = facts.publication_facts(report.publication or {})
    customers, took = terminal.count(published.record_count, "customer"), terminal.duration(report.elapsed_ms)
    headline = (
        Text.assemble(
            ("Unchanged: ", "green"),
            f"{customers} published {published.published_at:%Y-%m-%d %H:%M:%S %Z}, verified in {took}",
        )
        if report.is_unchanged
        else Text.assemble(("Published ", "green"), f"{customers} in {took}")
    )
    console.print(headline + Text(f", digest {published.digest}"), soft_wrap=True)
    console.print(f"to {printable(str(warehouse))} ({terminal.size(warehouse.stat().st_size)})", soft_wrap=True)
    if published.is_partial:
        missing = ", ".join(published.missing_shards)
        console.print(
            Text(f"PARTIAL: the customers of {missing} are missing from it (--allow-partial).", style="yellow"),
            soft_wrap=True,
        )
    console.print(f'Try: {program()} query "{_SAMPLE_QUERY}"', soft_wrap=True)


def _took(elapsed_ms: int | None, *, reused: bool) -> str:
    return "unchanged" if reused else terminal.duration(elapsed_ms)


def _print_error(console: Console, what: str, error: str) -> None:
    prefix = f"error: {what}: " if what else "error: "
    text = printable_lines(spell(error.strip()))
    console.print(Text.assemble((printable(prefix), "red"), text), soft_wrap=True)
