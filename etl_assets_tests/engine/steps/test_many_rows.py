"""Sources with many records of a key: none is lost, each counts once, and the order of files decides nothing."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import xxhash

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import Snapshot, current_snapshots
from etl_assets.engine.site import Site
from etl_assets.errors import AccountingError, ProfileError
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests import factory

PROFILES = """
WITH totals AS (SELECT client, count(*) AS tickets, sum(minutes) AS minutes FROM tickets GROUP BY client)
SELECT base.client, crm.name, coalesce(totals.tickets, 0) AS tickets, totals.minutes, base.sources, base.issues,
    base.shard_id, base.idempotency_key
FROM clients LEFT JOIN totals ON totals.client = base.client
"""
HEADER = "client,number,subject,minutes,changed\n"


def project(profiles: str = PROFILES, **tickets: object) -> Project:
    columns = {"number": {}, "subject": {}, "minutes": {"type": "int"}, "changed": {"type": "timestamp"}}
    contract = {
        "name": "desk",
        "entity": "clients",
        "key": {"name": "client"},
        "sources": {"crm": {"columns": ["name"]}, "tickets": {"rows": "many", "columns": columns, **tickets}},
    }
    return Project(Contract.model_validate(contract), profiles)


def exports(folder: Path, *files: str, crm: str = "client,name\na,Ada\nb,Bo\n") -> Path:
    (folder / "tickets").mkdir(parents=True, exist_ok=True)
    (folder / "crm.csv").write_text(crm)
    for number, text in enumerate(files):
        (folder / "tickets" / f"t-{number}.csv").write_text(HEADER + text)
    return folder


def publish(sources: Path, made: Project, shard_count: int = 3, name: str = "home") -> Site:
    site = Site(made, Home(sources.parent / name), shard_count)
    factory.run_engine(sources, site)
    return site


def profiles(site: Site) -> dict[str, dict[str, Any]]:
    path = site.home.warehouse
    columns = [row[0] for row in factory.query(path, "DESCRIBE merged_profiles")]
    rows = [dict(zip(columns, row, strict=True)) for row in factory.query(path, "SELECT * FROM merged_profiles")]
    found = {row["client"]: row for row in rows}
    assert len(found) == len(rows), "each client once"
    return found


def tickets_of(site: Site) -> Snapshot:
    return current_snapshots(site)["tickets"]


def test_every_record_counts(tmp_path: Path) -> None:
    """Fails: the last ticket of a client stands for all of them."""
    site = publish(exports(tmp_path / "x", "a,1,one,5,\na,2,two,7,\nc,3,three,1,\n"), project())
    found = profiles(site)
    assert {key: (row["tickets"], row["minutes"]) for key, row in found.items()} == {
        "a": (2, 12),
        "b": (0, None),
        "c": (1, 1),
    }
    assert found["a"]["sources"] == ["crm", "tickets"]
    assert found["c"]["sources"] == ["tickets"]
    snapshot = tickets_of(site)
    assert (snapshot.rows_in, snapshot.rows_accepted, snapshot.rows_quarantined) == (3, 3, 0)
    assert sum(part.key_count for part in snapshot.slices) == 2


def test_equal_records_without_a_key_of_their_own_are_all_kept(tmp_path: Path) -> None:
    site = publish(exports(tmp_path / "x", "a,1,one,5,\na,1,one,5,\n"), project())
    assert profiles(site)["a"]["minutes"] == 10


def test_a_later_record_of_the_same_number_replaces_the_earlier_one(tmp_path: Path) -> None:
    site = publish(exports(tmp_path / "x", "a,1,old,5,\na,2,two,7,\n", "a,1,new,50,\n"), project(row_key="number"))
    assert profiles(site)["a"]["minutes"] == 57
    rows = factory.query(site.home.warehouse, "SELECT file, line_number, client, reason FROM quarantine")
    assert rows == [("tickets/t-0.csv", 2, "a", "superseded")]


def test_a_record_that_moved_to_another_client_counts_there_only(tmp_path: Path) -> None:
    """Fails: a merged account's tickets are counted for both, because the two are in different shards."""
    lines = [f"old{n},{n},x,1,\n" for n in range(20)], [f"new{n},{n},x,1,\n" for n in range(20)]
    site = publish(exports(tmp_path / "x", *map("".join, lines)), project(row_key="number"), shard_count=5)
    found = profiles(site)
    assert {key for key, row in found.items() if row["tickets"]} == {f"new{n}" for n in range(20)}
    snapshot = tickets_of(site)
    assert (snapshot.rows_accepted, snapshot.reasons) == (20, {"superseded": 20})


def test_the_latest_counts_by_its_own_column(tmp_path: Path) -> None:
    """Fails: an older export that is read last brings back old values."""
    text = "a,1,new,50,2026-02-01\n", "a,1,old,5,2026-01-01\na,2,x,1,\na,2,y,2,2020-01-01\n"
    site = publish(exports(tmp_path / "x", *text), project(row_key="number", latest_by="changed"))
    assert profiles(site)["a"]["minutes"] == 52


def test_one_record_a_key_can_be_the_latest_by_a_column(tmp_path: Path) -> None:
    sources = exports(tmp_path / "x", "", crm="client,name\na,1999\na,2001\na,2000\na,\n")
    contract = project().contract.model_dump(by_alias=True, exclude_defaults=True)
    contract["sources"] = [{**contract["sources"][0], "latest_by": "name"}, *contract["sources"][1:]]
    site = publish(sources, Project(Contract.model_validate(contract), PROFILES))
    assert profiles(site)["a"]["name"] == "2001"


def test_a_record_whose_own_order_is_unreadable_marks_its_key(tmp_path: Path) -> None:
    """It may have been the last one. Fails: the older record passes for the present one, and nothing says so."""
    lines = "a,1,old,5,2026-01-01\na,1,new,50,yesterday\nb,2,old,1,2026-01-01\nb,2,new,2,2026-01-02\nc,3,x,1,soon\n"
    site = publish(exports(tmp_path / "x", lines), project(row_key="number", latest_by="changed"))
    found = {key: (row["minutes"], row["issues"]) for key, row in profiles(site).items()}
    assert found == {"a": (5, ["tickets: row rejected"]), "b": (2, []), "c": (1, ["tickets.changed"])}


def test_one_record_a_key_with_an_unreadable_order_marks_its_key(tmp_path: Path) -> None:
    sources = exports(tmp_path / "x", "", crm="client,name\na,2001\na,MMII\nb,2000\nb,2001\nc,2001\nc,\n")
    contract = project().contract.model_dump(by_alias=True, exclude_defaults=True)
    crm = {**contract["sources"][0], "columns": [{"name": "name", "type": "int"}], "latest_by": "name"}
    contract["sources"] = [crm, *contract["sources"][1:]]
    site = publish(sources, Project(Contract.model_validate(contract), PROFILES))
    found = {key: (row["name"], row["issues"]) for key, row in profiles(site).items()}
    assert found == {"a": (2001, ["crm: row rejected"]), "b": (2001, []), "c": (2001, [])}


def test_a_record_without_its_number_is_rejected(tmp_path: Path) -> None:
    site = publish(exports(tmp_path / "x", "a,,one,5,\na,2,two,7,\n"), project(row_key="number"))
    assert tickets_of(site).reasons == {"missing:number": 1}
    assert profiles(site)["a"]["issues"] == ["tickets: row rejected"]


def test_neither_order_of_rows_nor_number_of_shards_changes_a_profile(tmp_path: Path) -> None:
    """Fails: the same exports in another order give customers other keys."""
    rows = [(key, number) for key in "abcd" for number in range(9)]
    lines = [f"{key},{number},s{number % 3},{number},2026-01-0{1 + number}\n" for key, number in rows]
    published = []
    for shuffle, shard_count in enumerate([1, 3, 7]):
        random.Random(shuffle).shuffle(lines)
        files = "".join(lines[: 10 * shuffle]), "".join(lines[10 * shuffle :])
        site = publish(exports(tmp_path / f"x{shuffle}", *files), project(), shard_count, f"home{shuffle}")
        published.append({key: {**row, "shard_id": None} for key, row in profiles(site).items()})
    assert published[0] == published[1] == published[2]


def test_the_key_holds_the_sorted_records(tmp_path: Path) -> None:
    """Written down a second time: one text for the whole list, in the order of the records' own texts."""
    site = publish(exports(tmp_path / "x", 'a,2,"two ""x""",7,\na,10,ten,5,2026-01-01 10:00\n'), project())
    records = sorted(
        json.dumps(record, separators=(",", ":"))
        for record in (["2", 'two "x"', "7", None], ["10", "ten", "5", "2026-01-01 10:00:00"])
    )
    encoded = ["v1", "crm", "Ada", "tickets", json.dumps(records, separators=(",", ":"))]
    expected = xxhash.xxh3_128_hexdigest(json.dumps(encoded, separators=(",", ":")).encode())
    assert profiles(site)["a"]["idempotency_key"] == f"a:{expected}"


def test_a_changed_record_makes_only_its_shard_stale(tmp_path: Path) -> None:
    made, sources = project(), exports(tmp_path / "x", "".join(f"{n},{n},x,1,\n" for n in range(50)))
    site = publish(sources, made)
    before = {shard: factory.input_of(site, shard).source_data_hash for shard in site.shard_ids}
    exports(sources, "".join(f"{n},{n},x,{1 + (n == 7)},\n" for n in range(50)))
    factory.stage_all(factory.staging_request(sources, site))
    after = {shard: factory.input_of(site, shard).source_data_hash for shard in site.shard_ids}
    assert sum(before[shard] != after[shard] for shard in site.shard_ids) == 1


def test_a_query_that_doubles_clients_is_refused_and_nothing_is_published(tmp_path: Path) -> None:
    """Fails: a join with many rows gives one profile for each ticket."""
    doubling = PROFILES.replace(
        "count(*) AS tickets, sum(minutes) AS minutes FROM tickets GROUP BY client",
        "1 AS tickets, minutes FROM tickets",
    )
    assert doubling != PROFILES
    sources = exports(tmp_path / "x", "a,1,one,5,\na,2,two,7,\n")
    with pytest.raises(AccountingError, match="profiles for"):
        publish(sources, project(doubling))
    assert not (tmp_path / "home" / "warehouse.duckdb").exists()


def test_a_source_with_many_records_has_no_struct(tmp_path: Path) -> None:
    wrong = "SELECT base.*, tickets.minutes FROM clients"
    with pytest.raises(ProfileError, match=r"DuckDB refuses sql/profiles\.sql"):
        publish(exports(tmp_path / "x", "a,1,one,5,\n"), project(wrong))
