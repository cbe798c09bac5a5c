"""Consoles, tables and numbers for people: values are shown, never interpreted."""

import ast
import io
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.text import Text

import etl_assets.cli
from etl_assets.cli import terminal

# What rich would make bold, a link, a crash (nothing to close), an emoji; and what a terminal would obey.
HOSTILE = "[bold][link=http://evil.example]x[/link] [/x] :bomb: \x1b[31m\x9b1m\u202e"
SHOWN = r"[bold][link=http://evil.example]x[/link] [/x] :bomb: \x1b[31m\x9b1m\u202e"


def _printed(*renderables: object) -> str:
    stream = io.StringIO()
    for renderable in renderables:
        terminal.console(stream).print(renderable)
    return stream.getvalue()


def test_no_way_to_print_a_value_interprets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called [/x] ended a run in a traceback after it had published."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    table = terminal.table((HOSTILE, "left"), title=HOSTILE)
    table.add_row(HOSTILE)
    printed = _printed(HOSTILE, Text(HOSTILE), Text.assemble((HOSTILE, "")), terminal.plain(HOSTILE), table)
    assert printed.count(SHOWN) == 7
    assert not [acting for acting in ("\x1b]8", "\x1b[31m", "\x9b", "\u202e") if acting in printed]


def test_a_plain_value_is_measured_as_it_is_shown() -> None:
    assert terminal.plain(HOSTILE).plain == SHOWN
    assert terminal.plain("Zoë", encoding="ascii").cell_len == len(r"Zo\xeb")


def test_every_console_of_the_package_is_made_in_one_place_and_no_text_is_parsed_as_markup() -> None:
    """A new console, or a call that parses markup, would interpret values again."""
    found = set()
    for path in Path(etl_assets.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                is_markup_off = any(
                    word.arg == "markup" and isinstance(word.value, ast.Constant) and word.value.value is False
                    for word in node.keywords
                )
                if name in ("Console", "_Console", "from_markup", "render_markup", "TextColumn") and not is_markup_off:
                    found.add((path.name, name))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "[/" in node.value:
                found.add((path.name, node.value))
    assert found == set()


@pytest.mark.parametrize(("done", "filled"), [(0, 0), (1, 12), (2, 24), (3, 24)])
def test_a_bar_is_filled_in_proportion(done: int, filled: int) -> None:
    assert _printed(terminal.Bar(done, 2)) == "█" * filled + "░" * (24 - filled)


def test_a_bar_of_nothing_is_full() -> None:
    assert _printed(terminal.Bar(0, 0)) == "█" * 24


def test_a_moment_of_another_day_has_date_and_time() -> None:
    """The day alone does not say whether it was before or after the export of that day."""
    now = datetime.now().astimezone()
    assert terminal.moment(now) == now.strftime("%H:%M:%S")
    before = now - timedelta(days=3)
    assert terminal.moment(before.isoformat()) == before.strftime("%Y-%m-%d %H:%M")
    assert terminal.moment(None) == "-"


def test_a_live_display_needs_a_terminal_that_can_redraw(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI sets FORCE_COLOR for a log; cursor movements in it hide every line."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not terminal.is_live(terminal.console(io.StringIO()))
    on = terminal.console(io.StringIO())
    monkeypatch.setattr(on.file, "isatty", lambda: True)
    assert terminal.is_live(on)
    monkeypatch.setenv("TERM", "dumb")
    on = terminal.console(io.StringIO())
    monkeypatch.setattr(on.file, "isatty", lambda: True)
    assert not terminal.is_live(on)
