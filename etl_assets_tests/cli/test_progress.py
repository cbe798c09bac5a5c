"""The display while the pipeline runs, on a terminal and in a log."""

import io

import pytest

from etl_assets.cli import terminal
from etl_assets.cli.progress import Board, plain_lines
from etl_assets.engine.published.status import Status
from etl_assets.engine.routing import shard_keys
from etl_assets.errors import Action, Advice, ShardSetError
from etl_assets.pipeline.events import StepEvent

STEP = "shard_profiles"
SOURCE_NAMES = ["crm", "billing", "product", "support"]


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class _Stream(io.StringIO):
    """A file in some encoding that remembers what was written, and may be unwritable."""

    error: OSError | None = None

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def write(self, text: str, /) -> int:
        if self.error:
            raise self.error
        return super().write(text)


def _board(*shard_ids: str, clock: _Clock | None = None) -> Board:
    return Board(SOURCE_NAMES, shard_ids, clock) if clock else Board(SOURCE_NAMES, shard_ids)


def _shown(board: Board, width: int = 80, encoding: str = "utf-8") -> list[str]:
    console = terminal.console(_Stream(encoding))
    console.width = width
    console.print(board)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def _line(lines: list[str], name: str) -> list[str]:
    return next(line.split() for line in lines if line.startswith(name))


def test_every_step_has_a_line_from_the_beginning() -> None:
    lines = _shown(_board(*shard_keys(3)))
    names = [*SOURCE_NAMES, "shard_00", "shard_01", "shard_02", "merged_profiles"]
    assert [line.split()[0] for line in lines] == ["shards", *names]
    assert all(_line(lines, name) == [name, "waiting"] for name in names)


def test_a_shard_is_followed_through_a_retry_to_its_end() -> None:
    clock = _Clock()
    board = _board("shard_00", "shard_01", clock=clock)
    board.observe(StepEvent(Status.RUNNING, STEP, "shard_00", attempt=1))
    clock.now_s = 0.25
    assert _line(_shown(board), "shard_00") == ["shard_00", "running", "250", "ms"]
    board.observe(StepEvent(Status.RETRYING, STEP, "shard_00", OSError("disk full\nstack"), attempt=1))
    lines = _shown(board)
    assert _line(lines, "shard_00") == ["shard_00", "retrying", "OSError:", "disk", "full"]
    assert "1 retrying" in lines[0]
    board.observe(StepEvent(Status.RUNNING, STEP, "shard_00", attempt=2))
    board.observe(StepEvent(Status.SUCCEEDED, STEP, "shard_00", record_count=12_345, elapsed_ms=1500, attempt=2))
    lines = _shown(board)
    assert _line(lines, "shard_00") == ["shard_00", "done", "12,345", "1.5", "s", "attempt", "2"]
    assert "1/2  12,345 records" in lines[0]


def test_failed_and_reused_steps_count_as_over() -> None:
    board = _board("shard_00", "shard_01")
    board.observe(StepEvent(Status.FAILED, STEP, "shard_00", ValueError("no"), attempt=1))
    board.observe(StepEvent(Status.REUSED, STEP, "shard_01", record_count=5, elapsed_ms=1, attempt=1))
    lines = _shown(board)
    assert "2/2  5 records" in lines[0]
    assert "1 failed" in lines[0]
    assert _line(lines, "shard_01")[:2] == ["shard_01", "reused"]


def test_sources_and_the_merge_have_lines_of_their_own() -> None:
    board = _board("shard_00")
    board.observe(StepEvent(Status.SUCCEEDED, "crm", record_count=7, elapsed_ms=3))
    board.observe(StepEvent(Status.SUCCEEDED, "merged_profiles", record_count=9, elapsed_ms=4))
    lines = _shown(board)
    assert _line(lines, "crm") == ["crm", "done", "7", "3", "ms"]
    assert _line(lines, "merged_profiles") == ["merged_profiles", "done", "9", "4", "ms"]


def test_a_hundred_shards_take_no_more_than_twenty_lines_and_trouble_comes_first() -> None:
    keys = shard_keys(100)
    board = _board(*keys)
    for key in keys[:30]:
        board.observe(StepEvent(Status.RUNNING, STEP, key, attempt=1))
    board.observe(StepEvent(Status.FAILED, STEP, keys[29], ValueError("no"), attempt=1))
    board.observe(StepEvent(Status.SUCCEEDED, STEP, keys[0], record_count=1, elapsed_ms=1, attempt=1))
    lines = _shown(board)
    assert len(lines) <= 20
    shards = [line.split()[0] for line in lines if line.startswith("shard_")]
    assert shards[0] == keys[29]
    assert keys[0] not in shards


def test_a_long_error_stays_on_its_line_and_squeezes_no_column() -> None:
    board = _board("shard_00")
    board.observe(StepEvent(Status.SUCCEEDED, "crm", record_count=98_234, elapsed_ms=812))
    board.observe(StepEvent(Status.RETRYING, STEP, "shard_00", OSError("x" * 300), attempt=1))
    lines = _shown(board)
    assert len(lines) == 7
    assert max(map(len, lines)) <= 80
    assert _line(lines, "crm") == ["crm", "done", "98,234", "812", "ms"]
    assert next(line for line in lines if line.startswith("shard_00")).endswith("…")


def test_growing_numbers_do_not_move_the_columns() -> None:
    board = _board("shard_00")
    places = set()
    for record_count in (5, 98_234_567):
        board.observe(StepEvent(Status.SUCCEEDED, "crm", record_count=record_count, elapsed_ms=812))
        places.add(next(line.index("812 ms") for line in _shown(board) if line.startswith("crm")))
    assert len(places) == 1


def test_a_log_gets_a_line_for_each_step_that_ends_or_is_retried() -> None:
    stream = io.StringIO()
    observe = plain_lines(terminal.console(stream))
    for event in (
        StepEvent(Status.RUNNING, STEP, "shard_00", attempt=1),
        StepEvent(Status.SUCCEEDED, "crm", record_count=1, elapsed_ms=812),
        StepEvent(Status.RETRYING, STEP, "shard_00", OSError(28, "disk full\nstack"), attempt=1),
        StepEvent(Status.FAILED, STEP, "shard_00", ValueError("\x1b[31mred"), attempt=2),
        StepEvent(Status.REUSED, STEP, "shard_01", record_count=1200, elapsed_ms=70, attempt=1),
        StepEvent(Status.SUCCEEDED, "merged_profiles", record_count=2000, elapsed_ms=61_000),
    ):
        observe(event)
    assert stream.getvalue().splitlines() == [
        "crm: done, 1 record, 812 ms",
        "shard_00: attempt 1 failed, will be retried: OSError: [Errno 28] disk full",
        r"shard_00: attempt 2 failed: ValueError: \x1b[31mred",
        "shard_01: unchanged, reused, 1,200 records, 70 ms",
        "merged_profiles: done, 2,000 records, 1 min 01 s",
    ]


def test_an_error_of_the_engine_comes_with_the_first_thing_that_helps() -> None:
    """The engine states what is wrong; without the command, the reader has to look it up."""
    stream = io.StringIO()
    observe = plain_lines(terminal.console(stream))
    advice = Advice(Action.RUN, shards=("shard_01",)), Advice(Action.REPORT)
    observe(StepEvent(Status.FAILED, "merged_profiles", error=ShardSetError("1 shard is stale.", advice[0])))
    observe(StepEvent(Status.FAILED, "merged_profiles", error=ShardSetError("1 shard is stale.", *advice)))
    alone, one_of_two = stream.getvalue().splitlines()
    assert alone.startswith("merged_profiles: failed: 1 shard is stale. Run: ")
    assert alone.endswith("etl-assets run --shards shard_01")
    assert one_of_two == "merged_profiles: failed: 1 shard is stale."


def test_a_source_runs_from_its_start_not_from_its_end() -> None:
    """Reading the exports is half of a long run: "waiting" all that time looks like a hung program."""
    clock = _Clock()
    board = _board("shard_00", clock=clock)
    board.observe(StepEvent(Status.RUNNING, "crm"))
    clock.now_s = 3
    lines = _shown(board)
    assert _line(lines, "crm") == ["crm", "running", "3.0", "s"]
    assert _line(lines, "billing") == ["billing", "waiting"]


def test_all_sources_run_when_the_first_one_ends_unannounced() -> None:
    board = _board("shard_00")
    board.observe(StepEvent(Status.SUCCEEDED, "crm", record_count=7, elapsed_ms=3))
    lines = _shown(board)
    assert _line(lines, "crm")[:2] == ["crm", "done"]
    assert [_line(lines, name)[1] for name in SOURCE_NAMES[1:]] == ["running"] * 3


def test_the_bar_is_green_while_all_is_well_and_red_when_a_shard_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    board = _board("shard_00", "shard_01")
    board.observe(StepEvent(Status.SUCCEEDED, STEP, "shard_00", record_count=5, elapsed_ms=1, attempt=1))
    assert "\x1b[32m████████████\x1b[0m" in _shown(board)[0]
    board.observe(StepEvent(Status.FAILED, STEP, "shard_01", ValueError("no"), attempt=1))
    assert f"\x1b[31m{'█' * 24}" in _shown(board)[0]


@pytest.mark.parametrize(("encoding", "bar"), [("utf-8", "█" * 12 + "░" * 12), ("ascii", "#" * 12 + "." * 12)])
def test_the_bar_can_be_read_without_colours_and_in_ascii(
    monkeypatch: pytest.MonkeyPatch, encoding: str, bar: str
) -> None:
    """With NO_COLOR, done and left looked the same: the bar was blank."""
    monkeypatch.setenv("NO_COLOR", "1")
    board = _board("shard_00", "shard_01")
    board.observe(StepEvent(Status.SUCCEEDED, STEP, "shard_00", record_count=5, elapsed_ms=1, attempt=1))
    assert f"shards  {bar}  1/2  5 records" in _shown(board, encoding=encoding)[0]


def test_the_board_keeps_to_its_lines_in_ascii() -> None:
    board = _board("shard_00")
    board.observe(StepEvent(Status.RETRYING, STEP, "shard_00", ValueError("Zoë: " + "ü" * 300), attempt=1))
    lines = _shown(board, encoding="ascii")
    assert len(lines) == 7
    assert max(map(len, lines)) <= 80
    assert "\n".join(lines).isascii()
    assert r"ValueError: Zo\xeb: \xfc" in next(line for line in lines if line.startswith("shard_00"))


def test_names_and_errors_are_shown_as_they_are() -> None:
    """A source called [/x] ended the display in a traceback; [red] disappeared."""
    hostile = "[/x][red]\x1b[31m"
    board = Board([hostile], ["shard_00"])
    board.observe(StepEvent(Status.FAILED, hostile, error=ValueError(f"no {hostile}")))
    board.observe(StepEvent(Status.RETRYING, STEP, "shard_00", ValueError(hostile), attempt=1))
    shown = "\n".join(_shown(board, width=120))
    assert shown.count(r"[/x][red]\x1b[31m") == 3
    assert "\x1b" not in shown


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_display_that_cannot_be_written_does_not_fail_the_step(error: OSError) -> None:
    """`etl-assets run | head -1` made shards fail with a broken pipe."""
    stream = _Stream()
    stream.error = error
    plain_lines(terminal.console(stream))(StepEvent(Status.SUCCEEDED, "crm", record_count=1, elapsed_ms=1))
