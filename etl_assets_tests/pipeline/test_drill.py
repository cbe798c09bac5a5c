"""The drill's parts; whole drills are in `whole/`."""

import pytest

from etl_assets.engine import faults
from etl_assets.pipeline import drill
from etl_assets.pipeline.drill import Proof, Result


@pytest.mark.parametrize("kind", drill.FAULTS)
def test_every_kind_of_fault_can_be_armed_and_aims_at_the_shard(kind: str, request: pytest.FixtureRequest) -> None:
    """Fails: a drill ends with a wrong setting, or passes without a fault that strikes."""
    request.addfinalizer(lambda: faults.arm("", "", is_production=False, shard_count=3))
    text = drill.fault_text(kind, "shard_02", 2)
    faults.arm(text, "", is_production=False, shard_count=3)
    point, action = drill.FAULTS[kind]
    assert text == f"{point} {action} shard=shard_02 attempts=1,2"


def test_a_drill_has_passed_when_every_proof_holds() -> None:
    good, bad = Proof("same digest", "a", "a"), Proof("same digest", "a", "b")
    assert Result([], [0], 1, 0, [good, good]).ok
    assert not Result([], [0], 1, 0, [good, bad]).ok


@pytest.mark.parametrize(
    ("line", "step", "note"),
    [
        ('{"event": "step", "status": "running"}', {"event": "step", "status": "running"}, None),
        ('{"event": "report"}', None, None),
        ("error: it is wrong", None, "error: it is wrong"),
        ("7", None, "7"),
        ("{torn", None, "{torn"),
    ],
)
def test_a_line_of_the_run_is_an_event_or_a_note(line: str, step: object, note: str | None) -> None:
    """Fails: a killed process that wrote half a line ends the drill in a traceback."""
    said: list[tuple[object, str | None]] = []
    drill._report_line(line, lambda found, text: said.append((found, text)))
    assert said == ([] if step is None and note is None else [(step, note)])
