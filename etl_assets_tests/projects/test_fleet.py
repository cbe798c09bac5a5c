"""The engine on a project that is not customer 360: nothing in it knows of customers, scores or four sources."""

import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import xxhash

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import check_warehouse, warehouse_checks
from etl_assets.engine.published.shards import inspect_shards
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.orchestration.code_location import build_defs
from etl_assets.project.settings import Settings
from etl_assets_tests import factory
from etl_assets_tests.dagster_runs import IMMEDIATELY, range_tags
from etl_assets_tests.engine import child
from etl_assets_tests.projects import fleets
from etl_assets_tests.projects.fleets import FLEET, vin

SHARD_COUNT = 4


def fleet_at(folder: Path, shard_count: int = SHARD_COUNT) -> Site:
    return factory.site_at(Home(folder), shard_count, FLEET)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports in `exports` and the warehouse of `home`; no test changes it."""
    root = tmp_path_factory.mktemp("fleet")
    factory.run_engine(fleets.write(root / "exports", fleets.rows()), fleet_at(root / "home"))
    return root


@pytest.fixture
def fleet(made: Path) -> Site:
    return fleet_at(made / "home")


@pytest.fixture
def digest(fleet: Site) -> str:
    publication = read_publication(fleet.home)
    assert publication is not None
    return publication.digest


def _profiles(site: Site) -> dict[str, dict[str, Any]]:
    path = site.home.warehouse
    columns = [row[0] for row in factory.query(path, "DESCRIBE merged_profiles")]
    rows = [dict(zip(columns, row, strict=True)) for row in factory.query(path, "SELECT * FROM merged_profiles")]
    by_vin = {row["vin"]: row for row in rows}
    assert len(by_vin) == len(rows)
    return by_vin


def test_every_vehicle_is_published_once_with_what_its_sources_say(fleet: Site) -> None:
    """The expected values come from the rows of the exports, without the engine or its SQL."""
    profiles = _profiles(fleet)
    accepted = {name: _last_sound(rows) for name, rows in fleets.rows().items()}
    assert profiles.keys() == set().union(*accepted.values()) == {vin(number) for number in range(fleets.VEHICLES)}
    for key, profile in profiles.items():
        of = {name: records.get(key, {}) for name, records in accepted.items()}
        km, litres = int(of["telematics"].get("odometer_km", 0)), float(of["fuel"].get("litres", 0))
        lost = min(5, km // 50_000) + 2 * int(of["workshop"].get("open_defects", 0))
        duty = "HEAVY" if litres > 500 or km > 200_000 else "NORMAL" if km > 1000 else "IDLE"
        cost = float(of["fuel"].get("spent", 0)) + float(of["insurance"].get("premium", 0))
        assert profile["condition"] == max(0, 10 - lost - int(of["insurance"].get("claims", 0)))
        assert (profile["duty"], profile["cost"]) == (duty, pytest.approx(cost))
        assert profile["brand"] == of["registry"].get("brand")
        assert profile["sources"] == [name for name in FLEET.contract.source_names if key in accepted[name]]


def _last_sound(rows: list[fleets.Row]) -> dict[str, fleets.Row]:
    return {row["vin"]: row for row in rows if 0 < len(row["vin"]) <= 17 and row.get("litres") != "-1"}


def test_the_key_is_the_vin_and_the_hash_of_all_five_records(fleet: Site) -> None:
    """Recomputed from the exports: a JSON array of texts, in contract order."""
    accepted = {name: _last_sound(rows) for name, rows in fleets.rows().items()}
    key = next(key for key, profile in _profiles(fleet).items() if len(profile["sources"]) == 4)
    encoded: list[str | None] = ["v1"]
    for source in FLEET.contract.sources:
        record = accepted[source.name].get(key)
        encoded.append(source.name if record else None)
        for column in source.columns:
            text = record[column.name] if record else ""
            is_float = column.type.value == "float" and text
            encoded.append(str(float(text)) if is_float else text or None)
    text = json.dumps(encoded, separators=(",", ":"), ensure_ascii=False)
    assert _profiles(fleet)[key]["idempotency_key"] == f"{key}:{xxhash.xxh3_128_hexdigest(text.encode())}"


def test_bad_rows_are_in_quarantine_under_the_projects_own_names(fleet: Site) -> None:
    columns = [row[0] for row in factory.query(fleet.home.warehouse, "DESCRIBE quarantine")]
    assert columns == ["source", "file", "line_number", "vin", "raw_text", "reason", "cell"]
    counts = "SELECT source, reason, count(*) FROM quarantine GROUP BY ALL ORDER BY ALL"
    assert factory.query(fleet.home.warehouse, counts) == [
        ("fuel", "invalid:litres", 1),
        ("insurance", "superseded", 1),
        ("registry", "invalid:vin", 1),
        ("registry", "missing_vin", 1),
    ]


def test_no_word_of_customers_is_in_its_warehouse(fleet: Site) -> None:
    """Fails: the engine brings names of the shipped project along."""
    statement = (
        "SELECT table_name || ' ' || coalesce(comment, '') FROM duckdb_tables() UNION ALL "
        "SELECT column_name || ' ' || coalesce(comment, '') FROM duckdb_columns() WHERE NOT internal"
    )
    words = [text for (text,) in factory.query(fleet.home.warehouse, statement)]
    assert [text for text in words if re.search("customer|crm|billing|churn|health", text, re.IGNORECASE)] == []
    assert "duty How much it is driven" in words
    assert "brand Who made it (Vehicle registry)" in words


def test_its_own_checks_run_beside_those_of_the_engine(fleet: Site) -> None:
    findings = {finding.name: finding for finding in check_warehouse(fleet, factory.LIMITS, warehouse_checks(FLEET))}
    assert findings.keys() == {
        "accounting_closed",
        "count_equals_shards",
        "keys_unique_and_not_null",
        "nothing_unusual",
        "vehicles_unique",
        "profiles_as_declared",
        "heavy_vehicles_cost",
        "signals_follow_registration",
    }
    assert {name for name, finding in findings.items() if not finding.passed} == set()
    assert findings["heavy_vehicles_cost"].facts == {"failing_rows": 0}


@pytest.mark.parametrize(
    ("failing", "statement"),
    [
        ("signals_follow_registration", "UPDATE merged_profiles SET last_signal = DATE '1990-01-01'"),
        ("heavy_vehicles_cost", "UPDATE merged_profiles SET cost = NULL"),
        ("profiles_as_declared", "UPDATE merged_profiles SET condition = 11 WHERE condition = 10"),
        ("profiles_as_declared", "UPDATE merged_profiles SET duty = 'LAZY' WHERE duty = 'IDLE'"),
    ],
)
def test_its_own_checks_fail_on_what_they_are_for(fleet: Site, home: Home, failing: str, statement: str) -> None:
    home.root.mkdir()
    home.warehouse.write_bytes(fleet.home.warehouse.read_bytes())
    factory.alter(home.warehouse, statement)
    findings = check_warehouse(fleet_at(home.root), factory.LIMITS, warehouse_checks(FLEET))
    assert [finding.name for finding in findings if not finding.passed] == [failing]


def test_the_merge_counts_its_declared_values(made: Path, home: Home) -> None:
    merged = factory.run_engine(made / "exports", fleet_at(home.root))
    assert list(merged.value_counts) == ["duty"]
    assert list(merged.value_counts["duty"]) == ["IDLE", "NORMAL", "HEAVY"]
    assert sum(merged.value_counts["duty"].values()) == fleets.VEHICLES
    assert merged.means.keys() == {"condition", "cost"}
    assert merged.quarantined_count == 4


@pytest.mark.parametrize(("shard_count", "seed", "files"), [(1, 0, 1), (2, 1, 3), (7, 2, 1), (101, 3, 2)])
def test_the_result_depends_on_no_number_of_shards_and_no_order_of_rows_or_files(
    fleet: Site, digest: str, tmp_path: Path, shard_count: int, seed: int, files: int
) -> None:
    """Who exports in another order, in more files, or runs with more shards must get the same result to the byte."""
    exports = fleets.write(tmp_path / "exports", fleets.shuffled(fleets.rows(), seed), files)
    other = fleet_at(tmp_path / "home", shard_count)
    assert factory.run_engine(exports, other).publication.digest == digest
    rows = "SELECT * EXCLUDE (shard_id) FROM merged_profiles ORDER BY vin"
    assert factory.query(other.home.warehouse, rows) == factory.query(fleet.home.warehouse, rows)


KILLS = (
    "staging.slices kill",
    "pointer.before_swap kill",
    "shard.joined kill shard=2",
    "manifest.begin kill shard=3",
    "merge.copied kill",
    "warehouse.before_swap kill",
)


def test_the_result_is_the_same_after_kills(made: Path, digest: str, home: Home) -> None:
    """Guarantee 1: each of these kills ends a run; the last one goes through."""
    site = fleet_at(home.root)
    for fault in KILLS:
        assert child.run(site, made / "exports", fault, "stage", "build", "merge") == -9
        assert read_publication(home) is None
    assert child.run(site, made / "exports", "", "stage", "build", "merge") == 0
    publication = read_publication(home)
    assert publication is not None
    assert publication.digest == digest
    assert inspect_shards(site).obstacles == {}
    assert [path for path in home.root.rglob(".tmp-*") if path.parent.name != "attempts"] == []


def test_it_runs_as_dagster_assets(made: Path, digest: str, home: Home) -> None:
    """The code location of another project has its sources, and publishes the same."""
    settings = Settings(
        project=fleets.FLEET_FOLDER,
        sources=made / "exports",
        home=home.root,
        num_shards=2,
        max_reject_ratio=1.0,
        workers=2,
        memory_limit=512,
    )
    defs = build_defs(FLEET, settings=settings, retry_policy=IMMEDIATELY)
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {*FLEET.contract.source_names, "shard_profiles", "merged_profiles"}
    instance = dg.DagsterInstance.ephemeral()
    job = defs.resolve_implicit_global_asset_job_def()
    runs: list[tuple[list[str], dict[str, str]]] = [
        (list(FLEET.contract.source_names), {}),
        (["shard_profiles"], range_tags(["shard_00", "shard_01"])),
        (["merged_profiles"], {}),
    ]
    for names, tags in runs:
        selection = [dg.AssetKey(name) for name in names]
        assert job.execute_in_process(instance=instance, asset_selection=selection, tags=tags).success
    publication = read_publication(home)
    assert publication is not None
    assert publication.digest == digest
