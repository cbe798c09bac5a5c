"""The plot of a `results.json`: each way as a multiple of the floor; backfills in the UI and growth if measured."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

# Lightness and labels distinguish them without colours as well.
COLORS = {"floor": "#7f7f7f", "peer": "#8fb8de", "ours": "#d95f02"}
LABELS = {"floor": "floor", "peer": "other ways", "ours": "this pipeline"}
# The parts of a backfill, in order of time.
PARTS = {
    "waiting for the daemon": "#d9d9d9",
    "building": "#4c78a8",
    "merging": "#1f3b5c",
    "until shown as completed": "#f0f0f0",
}
MARKERS = {"floor": "s", "ours": "o"}


def main(results: Path, picture: Path) -> None:
    """Draw the results to `picture`, a PNG or SVG file by its suffix."""
    document = json.loads(results.read_text(encoding="utf-8"))
    growth = panels(document)
    ways = [way for way in document["comparison"]["ways"] if way["median"]]
    backfills = [project for project in (document.get("ui") or {"projects": []})["projects"] if project["median"]]
    heights = [1.5 + 0.42 * len(ways)]
    heights += [1.4 + 0.42 * len(backfills)] if backfills else []
    heights += [3.6] if growth else []
    figure = plt.figure(figsize=(10, sum(heights)), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    bars(parts.pop(0).subplots(), document, ways)
    if backfills:
        stacks(parts.pop(0).subplots(), document["ui"], backfills)
    if growth:
        for axes, (name, label, cases, measure, scale) in zip(
            parts.pop(0).subplots(1, len(growth), squeeze=False)[0], growth, strict=True
        ):
            lines(axes, name, label, cases, measure, scale)
    figure.savefig(picture, dpi=150)


def bars(axes: Any, document: dict[str, Any], ways: list[dict[str, Any]]) -> None:
    """Draw one bar for each way: a multiple of the floor's wall time, or seconds when the floor was not measured."""
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
    # Room for the text beside the longest bar.
    axes.set_xlim(0, 1.35 * max(values))
    axes.set_xlabel("wall time as a multiple of the floor's" if has_floor else "wall time in seconds")
    case, machine = document["comparison"], document["machine"]
    axes.figure.suptitle(
        f"{case['rows']:,} customers, {case['shards']} shards, {machine['cores']} cores; "
        f"medians of {document['repeat']}; beside the bars wall time and peak memory",
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


def stacks(axes: Any, ui: dict[str, Any], backfills: list[dict[str, Any]]) -> None:
    """Draw one bar for each project, from the request on, divided into its parts."""
    for position, project in enumerate(backfills):
        start = 0.0
        for (name, color), end in zip(PARTS.items(), ends(project["median"]), strict=True):
            axes.barh(position, end - start, left=start, color=color, label=None if position else name)
            start = end
        axes.annotate(
            f"{start:.1f} s", (start, position), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.margins(x=0.08)
    axes.set_yticks(range(len(backfills)), [project["title"] for project in backfills], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(f"seconds since the request to backfill {ui['shards']} shards in the Dagster UI")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=8)


def ends(median: dict[str, Any]) -> list[float]:
    """The end of each part, in seconds from the request; a part that the project lacks ends where it begins."""
    built, merged = median["last_shard_s"], median["merged_s"] or median["last_shard_s"]
    return [median["first_run_s"], built, merged, max(merged, median["shown_s"])]


def panels(document: dict[str, Any]) -> list[tuple[str, str, list[dict[str, Any]], str, float]]:
    """The panels of growth: the quantity that grows, the title, the cases, the measure and its divisor."""
    comparison = document["comparison"]
    # Includes the comparison, unless growth measured its size again.
    cases = {(case["rows"], case["shards"]): case for case in (comparison, *document["growth"])}.values()
    by_rows = [case for case in cases if case["shards"] == comparison["shards"]]
    by_shards = [case for case in cases if case["rows"] == comparison["rows"]]
    chosen = []
    if len(by_rows) > 1:
        shards = f"{comparison['shards']} shards"
        chosen.append(("rows", f"wall time in s, {shards}", by_rows, "wall_s", 1.0))
        chosen.append(("rows", f"peak memory in MB, {shards}", by_rows, "peak_bytes", 1e6))
    if len(by_shards) > 1:
        chosen.append(("shards", f"wall time in s, {comparison['rows']:,} customers", by_shards, "wall_s", 1.0))
    return chosen


def short(number: int) -> str:
    """The number in few characters: `250 k`, `10 M`."""
    for unit, name in ((1_000_000, " M"), (1_000, " k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return str(number)


def lines(axes: Any, name: str, label: str, cases: list[dict[str, Any]], measure: str, scale: float) -> None:
    """Draw one line for each way that was measured in every case; both axes are logarithmic for rows."""
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
