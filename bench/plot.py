"""The plot of a `results.json`: each way as a multiple of the floor, and growth with rows and shards where measured."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

# Told apart also without colours: by lightness, and by the words beside them.
COLORS = {"floor": "#7f7f7f", "peer": "#8fb8de", "ours": "#d95f02"}
LABELS = {"floor": "floor", "peer": "other ways", "ours": "this pipeline"}
MARKERS = {"floor": "s", "ours": "o"}


def main(results: Path, picture: Path) -> None:
    """Draw `picture` (PNG or SVG, by its name)."""
    given = json.loads(results.read_text(encoding="utf-8"))
    growth = panels(given)
    ways = [way for way in given["comparison"]["ways"] if way["median"]]
    bars_high = 1.2 + 0.42 * len(ways)
    figure = plt.figure(figsize=(10, bars_high + (3.6 if growth else 0)), layout="constrained")
    if growth:
        upper, lower = figure.subfigures(2, 1, height_ratios=[bars_high, 3.6])
        for axes, (name, label, cases, measure, scale) in zip(
            lower.subplots(1, len(growth), squeeze=False)[0], growth, strict=True
        ):
            lines(axes, name, label, cases, measure, scale)
    else:
        upper = figure
    bars(upper.subplots(), given, ways)
    figure.savefig(picture, dpi=150)


def bars(axes: Any, given: dict[str, Any], ways: list[dict[str, Any]]) -> None:
    """One bar a way, the floor first; as multiples of the floor, or in seconds where it was not measured."""
    has_floor = all(way["ratio_to_floor"] for way in ways)
    values = [way["ratio_to_floor"] if has_floor else way["median"]["wall_s"] for way in ways]
    axes.barh(range(len(ways)), values, color=[COLORS[way["kind"]] for way in ways])
    for position, (way, value) in enumerate(zip(ways, values, strict=True)):
        median = way["median"]
        text = f"{median['wall_s']:.1f} s · {median['peak_bytes'] / 1e6:,.0f} MB"
        axes.annotate(
            f"{value:.1f} ×   {text}" if has_floor else text,
            (value, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(ways)), [way["title"] for way in ways], fontsize=9)
    axes.invert_yaxis()
    # Room for what stands beside the longest bar.
    axes.set_xlim(0, 1.35 * max(values))
    axes.set_xlabel("wall time as a multiple of the floor's" if has_floor else "wall time in seconds")
    case, machine = given["comparison"], given["machine"]
    axes.set_title(
        f"{case['rows']:,} customers, {case['shards']} shards, {machine['cores']} cores; "
        f"medians of {given['repeat']}; beside the bars wall time and peak memory",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    kinds = dict.fromkeys(way["kind"] for way in ways)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[kind]) for kind in kinds]
    axes.legend(handles, [LABELS[kind] for kind in kinds], loc="lower right", frameon=False, fontsize=8)


def panels(given: dict[str, Any]) -> list[tuple[str, str, list[dict[str, Any]], str, float]]:
    """The panels of growth: what grows, what is shown of it, the cases, the measure and what divides it."""
    if not given["growth"]:
        return []
    comparison = given["comparison"]
    by_rows = [case for case in given["growth"] if case["shards"] == comparison["shards"]]
    by_shards = [case for case in given["growth"] if case["rows"] == comparison["rows"]]
    found = []
    if len(by_rows) > 1:
        found.append(("rows", "wall time, s", by_rows, "wall_s", 1.0))
        found.append(("rows", "peak memory, MB", by_rows, "peak_bytes", 1e6))
    if len(by_shards) > 1:
        found.append(("shards", "wall time, s", by_shards, "wall_s", 1.0))
    return found


def lines(axes: Any, name: str, label: str, cases: list[dict[str, Any]], measure: str, scale: float) -> None:
    """One line a way, both axes logarithmic for rows."""
    ordered = sorted(cases, key=lambda case: case[name])
    for way in ordered[0]["ways"]:
        points = [
            (case[name], other["median"][measure] / scale)
            for case in ordered
            for other in case["ways"]
            if other["name"] == way["name"] and other["median"]
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                marker=MARKERS.get(way["kind"], "o"),
                color=COLORS[way["kind"]],
                label=LABELS[way["kind"]],
            )
    if name == "rows":
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("customers" if name == "rows" else name)
    axes.set_title(label, fontsize=9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
