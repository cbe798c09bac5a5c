"""Exports of a fleet: a project whose sources, key and scores have nothing to do with customers."""

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from etl_assets.project.loading import load_project

FLEET_FOLDER = Path(__file__).parent / "fleet"
FLEET = load_project(FLEET_FOLDER)
VEHICLES = 120

Row = dict[str, str]


def vin(number: int) -> str:
    """The key of a vehicle."""
    return f"WVW{number:07d}"


def rows() -> dict[str, list[Row]]:
    """The rows of each source, always the same: most vehicles are in most sources, a few rows are bad or doubled."""
    dice = random.Random(7)
    found: dict[str, list[Row]] = {name: [] for name in FLEET.contract.source_names}
    for number in range(VEHICLES):
        for name, values in _records(number, dice).items():
            if (number + len(name)) % 5:
                found[name].append({"vin": vin(number), **values})
    found["registry"] += [{**found["registry"][3], "vin": ""}, {**found["registry"][4], "vin": "X" * 18}]
    found["fuel"].append({**found["fuel"][5], "litres": "-1"})
    found["insurance"].append({**found["insurance"][6], "claims": "9"})
    return found


def _records(number: int, dice: random.Random) -> dict[str, Row]:
    return {
        "registry": {
            "brand": dice.choice(["Volvo", "MAN", 'Saab, "old"', "Škoda"]),
            "model": "",
            "registered": f"20{dice.randrange(10, 20)}-0{dice.randrange(1, 10)}-11",
            "seats": str(dice.randrange(1, 61)),
            "holder": f"holder {number}",
        },
        "telematics": {
            "odometer_km": str(dice.randrange(0, 400_000)),
            "mean_kmh": str(dice.randrange(0, 2500) / 10),
            "last_signal": "2026-06-01",
        },
        "workshop": {
            "visits": str(dice.randrange(9)),
            "open_defects": str(dice.randrange(4)),
            "inspected": "2026-01-31" if number % 2 else "",
        },
        "fuel": {"litres": str(dice.randrange(0, 900)), "spent": str(dice.randrange(0, 90_000) / 100)},
        "insurance": {"insurer": "Nord", "cover": "full", "premium": "410.5", "claims": str(dice.randrange(3))},
    }


def write(folder: Path, records: Mapping[str, Sequence[Row]], files: int = 1) -> Path:
    """Write the exports, each source in so many files."""
    for name, of_source in records.items():
        size = -(-len(of_source) // files)
        for number in range(files):
            path = folder / f"{name}.csv" if files == 1 else folder / name / f"part_{number}.csv"
            _write(path, FLEET.contract.source(name).required, of_source[number * size : (number + 1) * size])
    return folder


def _write(path: Path, columns: Sequence[str], records: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(records)


def shuffled(records: Mapping[str, Sequence[Row]], seed: int) -> dict[str, list[Row]]:
    """The rows in another order, those of one vehicle among themselves in the old one: the last of them counts."""
    mixed = {}
    for name, of_source in records.items():
        order = [row["vin"] for row in of_source]
        random.Random(seed).shuffle(order)
        waiting = {key: [row for row in of_source if row["vin"] == key] for key in order}
        mixed[name] = [waiting[key].pop(0) for key in order]
    return mixed
