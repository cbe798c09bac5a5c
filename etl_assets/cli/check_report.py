"""The project's checks that failed, at the end of `etl-assets run`: how many rows, and the first of them."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from etl_assets.cli import terminal
from etl_assets.cli.output import printable
from etl_assets.pipeline.report import BrokenCheck
from etl_assets.project.severity import Severity

_STYLES = {Severity.WARN: ("warning: ", "yellow"), Severity.ERROR: ("error: ", "red")}


def show(console: Console, checks: Sequence[BrokenCheck], severity: Severity) -> None:
    """The failed checks of this severity that have more to say than that they failed."""
    for check in checks:
        finding = check.error or (
            f"{terminal.count(check.failing_count, 'failing row')}." if check.failing_count is not None else ""
        )
        if check.severity is severity and finding:
            text = printable(f"check {check.name}: {finding}")
            console.print(Text.assemble(_STYLES[severity], text), soft_wrap=True)
            _show_rows(console, check)


def _show_rows(console: Console, check: BrokenCheck) -> None:
    if not check.rows:
        return
    shown = terminal.table(*((name, "left") for name in check.columns))
    for row in check.rows:
        shown.add_row(*("" if cell is None else terminal.plain(str(cell)) for cell in row))
    console.print(shown)
