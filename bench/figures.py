"""From single runs to figures: medians and ratios. A way whose result is wrong has no figures at all."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.measure import Cost
from bench.ways import FLOOR, Way

_MEASURES = ("wall_s", "cpu_s", "peak_bytes", "written_bytes")


@dataclass
class Line:
    """The runs of one way so far; `problem` is the reason why its figures do not count."""

    way: Way
    costs: list[Cost] = field(default_factory=list)
    result_bytes: int | None = None
    problem: str | None = None

    def median(self, measure: str) -> float | None:
        """The median of the runs; None when they do not count."""
        if self.problem or not self.costs:
            return None
        return float(statistics.median(getattr(cost, measure) for cost in self.costs))


def floor_wall_s(lines: Sequence[Line]) -> float | None:
    """The wall time of the floor, if it was measured."""
    return next((line.median("wall_s") for line in lines if line.way.name == FLOOR), None)


def ratio(line: Line, floor_s: float | None) -> float | None:
    """The wall time of a way as a multiple of the floor's; None when one of them is not known."""
    wall_s = line.median("wall_s")
    return None if wall_s is None or not floor_s else wall_s / floor_s


def document(rows: int, shards: int, lines: Sequence[Line]) -> dict[str, Any]:
    """The ways as a JSON document; times in seconds, sizes in bytes."""
    floor_s = floor_wall_s(lines)
    return {
        "rows": rows,
        "shards": shards,
        "ways": [
            {
                "name": line.way.name,
                "title": line.way.title,
                "kind": line.way.kind.value,
                "problem": line.problem,
                "median": None if line.problem else {measure: line.median(measure) for measure in _MEASURES},
                "ratio_to_floor": ratio(line, floor_s),
                "result_bytes": None if line.problem else line.result_bytes,
                "runs": [] if line.problem else [asdict(cost) for cost in line.costs],
            }
            for line in lines
        ],
    }
