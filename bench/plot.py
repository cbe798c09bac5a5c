"""The plot of a `results.json`: each way as a multiple of the floor, and growth with rows and shards where measured."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

# Told apart also without colours: by lightness, and by the words beside them.
COLORS = {"floor": "#7f7f7f", "peer": "#8fb8de", "ours": "#d95f02"}
LABELS = {"floor": "floor", "peer": "other ways", "ours": "this pipeline"}
MARKERS = {"floor": "s", "ours": "o"}


def main(results: Path, picture: Path) -> None:
    """Draw `picture` (PNG or SVG, by its name)."""
    given = json.loads(results.read_text(encoding="utf-8"))
    growth = panels(given)
    ways = [way for way in given["comparison"]["ways"] if way["median"]]
    bars_high = 1.5 + 0.42 * len(ways)
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
    axes.figure.suptitle(
        f"{case['rows']:,} customers, {case['shards']} shards, {machine['cores']} cores; "
        f"medians of {given['repeat']}; beside the bars wall time and peak memory",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    kinds = dict.fromkeys(way["kind"] for way in ways)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[kind]) for kind in kinds]
    axes.legend(
        handles,
        [LABELS[kind] for kind in kinds],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        frameon=False,
        fontsize=8,
    )


def panels(given: dict[str, Any]) -> list[tuple[str, str, list[dict[str, Any]], str, float]]:
    """The panels of growth: what grows, what is shown of it, the cases, the measure and what divides it."""
    comparison = given["comparison"]
    # The comparison itself where it was not measured again.
    cases = {(case["rows"], case["shards"]): case for case in (comparison, *given["growth"])}.values()
    by_rows = [case for case in cases if case["shards"] == comparison["shards"]]
    by_shards = [case for case in cases if case["rows"] == comparison["rows"]]
    found = []
    if len(by_rows) > 1:
        shards = f"{comparison['shards']} shards"
        found.append(("rows", f"wall time in s, {shards}", by_rows, "wall_s", 1.0))
        found.append(("rows", f"peak memory in MB, {shards}", by_rows, "peak_bytes", 1e6))
    if len(by_shards) > 1:
        found.append(("shards", f"wall time in s, {comparison['rows']:,} customers", by_shards, "wall_s", 1.0))
    return found


def short(number: int) -> str:
    """`250 k`, `10 M`."""
    for unit, name in ((1_000_000, " M"), (1_000, " k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return str(number)


def lines(axes: Any, name: str, label: str, cases: list[dict[str, Any]], measure: str, scale: float) -> None:
    """One line for each way that was measured in every case, both axes logarithmic for rows."""
    ordered = sorted(cases, key=lambda case: case[name])
    ways = [{way["name"]: way for way in case["ways"] if way["median"]} for case in ordered]
    for way in ordered[0]["ways"]:
        if all(way["name"] in measured for measured in ways):
            values = [measured[way["name"]]["median"][measure] / scale for measured in ways]
            axes.plot(
                [case[name] for case in ordered],
                values,
                marker=MARKERS.get(way["kind"], "o"),
                color=COLORS[way["kind"]],
                label=LABELS[way["kind"]],
            )
    if name == "rows":
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        axes.set_ylim(bottom=0)
    axes.minorticks_off()
    axes.set_xticks([case[name] for case in ordered], [short(case[name]) for case in ordered])
    axes.set_xlabel("customers" if name == "rows" else name)
    axes.set_title(label, fontsize=9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
