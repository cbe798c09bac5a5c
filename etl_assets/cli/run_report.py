"""The report at the end of `etl-assets run`: the numbers, and on failure what failed, why and how to recover."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from etl_assets.cli import check_report, file_list, notice_report, terminal
from etl_assets.cli.output import printable, printable_lines
from etl_assets.cli.program import command
from etl_assets.cli.wording import advised, explained, run_command
from etl_assets.engine.files import publishing
from etl_assets.engine.published.checks import NOTHING_UNUSUAL
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.unmatched import unmatched_texts
from etl_assets.engine.published.warehouse import PROFILES_TABLE, Publication
from etl_assets.engine.site import Site
from etl_assets.errors import CheckError, ShrunkError
from etl_assets.pipeline.report import Report, ShardReport, SourceReport
from etl_assets.project.contract import Contract
from etl_assets.project.severity import Severity

# With more shards than this, only those in trouble have a row.
_SHARD_ROWS = 40
_REASONS_SHOWN = 3
_STYLES = {Status.SUCCEEDED: "green", Status.REUSED: "green", Status.FAILED: "red"}
_WORDS = {Status.SUCCEEDED: "published"}


def show(console: Console, report: Report, site: Site) -> None:
    """The tables of sources and shards, and the publication."""
    _show_sources(console, report.sources)
    file_list.show_unread(console, report.unread_files)
    if report.shards:
        console.print()
        _show_shards(console, report.shards)
    if report.publication:
        console.print()
        _show_publication(console, report, report.publication, site)
    notice_report.show_notices(console, report.notices)
    # That check fails because of the notices.
    others = [check for check in report.broken_checks if check.name != NOTHING_UNUSUAL]
    check_report.show(console, others, Severity.WARN)


def show_failure(console: Console, report: Report, site: Site) -> None:
    """What failed and why, what is kept, and the command that recovers."""
    for source in report.sources:
        if source.error:
            error = explained(source.error)
            _print_error(console, "" if source.source in error else source.source, error)
    for shard in report.shards:
        if shard.status is not Status.FAILED:
            continue
        attempts = f" after {terminal.count(shard.attempts, 'attempt')}" if shard.attempts > 1 else ""
        error = advised(shard.error or "no error was reported", shard.advice)
        _print_error(console, f"{shard.shard_id} failed{attempts}", error)
    if report.merge_error:
        _print_error(console, "merge", explained(report.merge_error))
    if report.failed_checks:
        failed = ", ".join(report.failed_checks)
        _print_error(console, "", f"Checks failed on the published warehouse: {failed}.")
        check_report.show(console, report.broken_checks, Severity.ERROR)
    if not report.publication:
        console.print(f"{_warehouse_now(report, site)} Finished work is kept and will be reused.", soft_wrap=True)
    # Without a change, the same rows would fail the same check.
    is_check = bool(report.failed_checks) or isinstance(report.merge_error, CheckError | ShrunkError)
    first = "fix the cause, then " if report.failed_shards or report.failed_sources or is_check else ""
    console.print(Text.assemble(f"Recover: {first}", (recovery(report), "bold")), soft_wrap=True)


def _warehouse_now(report: Report, site: Site) -> str:
    if report.is_warehouse_replaced:
        return "The warehouse was replaced before the run failed; run again before you rely on it."
    if publishing.size_bytes(site.home.warehouse) is not None:
        return "The published warehouse is unchanged."
    return "Nothing is published yet."


def recovery(report: Report) -> str:
    """The command that does what is left."""
    failed = report.failed_shards
    is_shards_only = failed and not report.failed_sources
    # A plain run reuses the others, so it does the same as a list too long to read.
    if is_shards_only and len(failed) <= _SHARD_ROWS:
        return run_command(tuple(failed))
    return run_command()


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
    file_list.show(
        console,
        {source.source: source.files for source in sources},
        {source.source: source.ignored_columns for source in sources},
    )
    reasons: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    for source in sources:
        reasons.update(source.reasons)
        cells.update({f"{source.source}.{name.removeprefix('invalid:')}": n for name, n in source.cell_reasons.items()})
    empty = ", ".join(f"{source.source} {source.rows_empty:,}" for source in sources if source.rows_empty)
    if empty:
        console.print(terminal.plain(f"rows of empty cells, left out: {empty}"), soft_wrap=True)
    _show_counts(console, "quarantined", reasons, "other reason")
    _show_counts(console, "invalid cells", cells, "other column")
    for source in sources:
        for text in unmatched_texts(source.source, source.key_map):
            console.print(terminal.plain(text), soft_wrap=True)


def _show_counts(console: Console, what: str, counts: Counter[str], other: str) -> None:
    """One line with the largest counts, if there are any."""
    if not counts:
        return
    rest = len(counts) - _REASONS_SHOWN
    listed = ", ".join(f"{name} {amount:,}" for name, amount in counts.most_common(_REASONS_SHOWN))
    more = f" and {terminal.count(rest, other)}" if rest > 0 else ""
    console.print(
        Text.assemble(f"{what}: ", terminal.plain(listed), more, "; see the table quarantine"), soft_wrap=True
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
                Text(_WORDS.get(shard.status, shard.status), style=_STYLES[shard.status]),
                terminal.number(shard.record_count),
                terminal.number(shard.attempts),
                _took(shard.elapsed_ms, reused=False),
            )
        console.print(shown)
    summary = ", ".join(f"{counts[status]:,} {_WORDS.get(status, status)}" for status in _STYLES if counts[status])
    records = sum(shard.record_count or 0 for shard in shards)
    console.print(f"{terminal.count(len(shards), 'shard')}: {summary or 'none'}; {terminal.count(records, 'record')}")


def _is_remarkable(shard: ShardReport) -> bool:
    return shard.status is Status.FAILED or shard.attempts > 1


def _show_publication(console: Console, report: Report, published: Publication, site: Site) -> None:
    warehouse = site.home.warehouse
    profiles, took = terminal.count(published.record_count, "profile"), terminal.duration(report.elapsed_ms)
    headline = (
        Text.assemble(
            ("Unchanged: ", "green"),
            f"{profiles} published {published.published_at:%Y-%m-%d %H:%M:%S %Z}, verified in {took}",
        )
        if report.is_unchanged
        else Text.assemble(("Published ", "green"), f"{profiles} in {took}")
    )
    console.print(headline + Text(f", digest {published.digest}"), soft_wrap=True)
    size = terminal.size(publishing.size_bytes(warehouse) or 0)
    place = site.lake_url or f"{warehouse} ({size})"
    console.print(f"to {printable(place)}", soft_wrap=True)
    if published.is_partial:
        missing = ", ".join(published.missing_shards)
        console.print(
            Text(f"PARTIAL: the profiles of {missing} are missing from it (--allow-partial).", style="yellow"),
            soft_wrap=True,
        )
    notice_report.show_overlap_line(console, report.overlap, published.record_count, site.contract.entity)
    query = command(f'query "{_sample_query(site.contract)}"')
    console.print(terminal.plain(f"Try: {query}"), soft_wrap=True)


def _sample_query(contract: Contract) -> str:
    """A question that this project's warehouse can answer: how often each value of a declared column occurs."""
    column = next((column.name for column in contract.profile if column.values), None)
    if column is None:
        return f"SELECT count(*) AS {contract.entity} FROM {PROFILES_TABLE}"
    return f"SELECT {column}, count(*) AS {contract.entity} FROM {PROFILES_TABLE} GROUP BY ALL"


def _took(elapsed_ms: int | None, *, reused: bool) -> str:
    return "unchanged" if reused else terminal.duration(elapsed_ms)


def _print_error(console: Console, what: str, error: str) -> None:
    prefix = f"error: {what}: " if what else "error: "
    text = printable_lines(error.strip())
    console.print(Text.assemble((printable(prefix), "red"), text), soft_wrap=True)
