"""Sources whose ids are their own: each row goes to the key that its id stands for, and no row is lost."""

import gzip
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.published.snapshots import Snapshot, current_snapshots
from etl_assets.engine.published.unmatched import key_map_facts, unmatched_texts
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.reading import mapping
from etl_assets.engine.reading.mapping import KeyMapFigures, UnmatchedIds
from etl_assets.engine.site import Site
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.stage import StagingRequest, is_current, is_key_map_changed, stage
from etl_assets.errors import InputError, RejectRatioError, SourceChangedError
from etl_assets.project.contract import Contract
from etl_assets_tests import factory
from etl_assets_tests.engine.mapped_sources import IDS, MAP, contract, exports, site_at
from etl_assets_tests.engine.reading.sheets import Cell, workbook

TICKETS = "1,t1,5\n2,t2,7\n1,t3,1\n3,t4,2\n"


def staged(root: Path, made: Contract | None = None, source: str = "tickets", ratio: float = 1.0) -> Snapshot:
    site = site_at(root / "home", made)
    return stage(site.contract.source(source), factory.staging_request(root / "x", site, ratio))[0]


def keys(root: Path, snapshot: Snapshot, column: str = "number") -> list[tuple[str, Any]]:
    """Key and another column of each accepted row."""
    slices = factory.read_slices(site_at(root / "home").home, snapshot)
    return sorted((row["client"], row[column]) for rows in slices for row in rows)


def quarantine(root: Path, snapshot: Snapshot) -> list[tuple[Any, ...]]:
    rows = factory.read_quarantine(site_at(root / "home").home, snapshot)
    return [(row["file"], row["line_number"], row["client"], row["raw_text"], row["reason"]) for row in rows]


def test_each_row_has_the_key_of_its_id(tmp_path: Path) -> None:
    exports(tmp_path / "x", TICKETS)
    snapshot = staged(tmp_path)
    assert keys(tmp_path, snapshot) == [("A1", "t1"), ("A1", "t3"), ("A2", "t2"), ("A3", "t4")]
    assert (snapshot.rows_in, snapshot.rows_accepted, snapshot.reasons) == (4, 4, {})
    assert snapshot.key_map == KeyMapFigures(("ids/desk.csv",), 3, 0, 3, {})
    assert (snapshot.files, snapshot.extra_columns) == (("tickets.csv",), ())


def test_an_id_without_a_key_or_with_several_costs_its_rows_and_says_so(tmp_path: Path) -> None:
    ids = "Desk ID,Client\n1,A1\n1,A1\n9,A1\n9,A2\n,A3\n7,\n7, \nshort\n"
    exports(tmp_path / "x", "1,t1,5\n7,t2,1\n9,t3,1\n7,t4,1\n8,t5,1\n,t6,1\n", ids)
    snapshot = staged(tmp_path)
    assert keys(tmp_path, snapshot) == [("A1", "t1")]
    assert quarantine(tmp_path, snapshot) == [
        ("tickets.csv", 3, "7", "7,t2,1", "unmapped_client"),
        ("tickets.csv", 4, "9", "9,t3,1", "ambiguous_client"),
        ("tickets.csv", 5, "7", "7,t4,1", "unmapped_client"),
        ("tickets.csv", 6, "8", "8,t5,1", "unmapped_client"),
        ("tickets.csv", 7, None, ",t6,1", "missing_client"),
    ]
    assert snapshot.reasons == {"ambiguous_client": 1, "missing_client": 1, "unmapped_client": 3}
    unmatched = {"unmapped_client": UnmatchedIds(2, ("7", "8")), "ambiguous_client": UnmatchedIds(1, ("9",))}
    # Ignored: without an id, without a key (two), and malformed.
    assert snapshot.key_map == KeyMapFigures(("ids/desk.csv",), 8, 4, 2, unmatched)
    assert snapshot.reject_ratio == 5 / 6


def test_ids_and_keys_have_the_forms_of_the_key(tmp_path: Path) -> None:
    """Fails: ids that differ in blanks or capitals only are not found, or lead to a key that the CRM does not have."""
    exports(tmp_path / "x", " X1,t1,1\nx1\u00a0,t2,1\n", "Desk ID,Client\n\u00a0x1,  AB \nX1,ab\n")
    snapshot = staged(tmp_path, contract(case="lower", strip="unicode"))
    assert keys(tmp_path, snapshot) == [("ab", "t1"), ("ab", "t2")]


def test_an_id_or_a_key_that_is_too_long_is_invalid_as_ever(tmp_path: Path) -> None:
    exports(tmp_path / "x", "12345,t1,1\n1,t2,1\n", "Desk ID,Client\n12345,A\n1,ABCDE\n")
    snapshot = staged(tmp_path, contract(max_chars=4))
    assert snapshot.reasons == {"invalid:client": 2}


def test_ids_and_keys_may_have_several_parts(tmp_path: Path) -> None:
    made = contract({"key": ["Requester", "number"], "key_map": {**MAP, "from": ["A", "B"], "to": ["C", "D"]}})
    exports(tmp_path / "x", "1,t/1,5\n1,t2,6\n", "A,B,C,D\n1,t/1,x,y\n1,t2,x,\n")
    snapshot = staged(tmp_path, made)
    assert keys(tmp_path, snapshot, "minutes") == [("x/y", 5)]
    assert snapshot.reasons == {"unmapped_client": 1}


def test_a_map_is_read_in_every_form_of_an_export(tmp_path: Path) -> None:
    words = {"delimiter": ";", "encoding": "cp1252", "skip_lines": 1, "nulls": ["N/A"]}
    made = contract({"key_map": {**MAP, "files": "ids/*", "csv": words}})
    (exports(tmp_path / "x", "1,t1,1\n2,t2,1\n3,t3,1\n4,t4,1\n") / "ids" / "desk.csv").unlink()
    text = 'Export\nDesk ID;Client\n1;"Ä;1"\nN/A;A3\n3;N/A\n'.encode("cp1252")
    (tmp_path / "x" / "ids" / "a.csv.gz").write_bytes(gzip.compress(text))
    with duckdb.connect() as connection:
        path = tmp_path / "x" / "ids" / "b.parquet"
        connection.execute(f"COPY (SELECT 2 AS \"Desk ID\", 'B' AS client, 1.5 AS x) TO '{path}' (FORMAT parquet)")
    snapshot = staged(tmp_path, made)
    assert keys(tmp_path, snapshot) == [("B", "t2"), ("Ä;1", "t1")]
    figures = snapshot.key_map
    assert figures is not None
    assert (figures.files, figures.rows_in, figures.rows_ignored) == (("ids/a.csv.gz", "ids/b.parquet"), 4, 2)


def test_a_map_may_be_a_sheet_or_a_text_of_another_form(tmp_path: Path) -> None:
    """Fails: an export that is the map of another source, too, cannot be read as it is read for its own source."""
    by_file = [{"files": "ids/*.txt", "delimiter": ";"}]
    made = contract({"key_map": {**MAP, "files": "ids/*", "csv_by_file": by_file, "sheet": "IDs"}})
    (exports(tmp_path / "x", "1,t1,1\n2,t2,1\n") / "ids" / "desk.csv").unlink()
    (tmp_path / "x" / "ids" / "a.txt").write_text("Desk ID;Client\n1;A1\n")
    sheets: dict[str, list[list[Cell]]] = {"Notes": [["none"]], "IDs": [["Desk ID", "Client"], [2, "A2"]]}
    (tmp_path / "x" / "ids" / "b.xlsx").write_bytes(workbook(sheets))
    assert keys(tmp_path, staged(tmp_path, made)) == [("A1", "t1"), ("A2", "t2")]


def test_a_list_in_a_map_is_no_key(tmp_path: Path) -> None:
    """Fails: the text of a JSON list becomes a customer."""
    (exports(tmp_path / "x", "1,t1,1\n2,t2,1\n") / "ids" / "desk.csv").unlink()
    rows = '{"Desk ID": "1", "Client": ["A1", "A2"], "more": [1]}\n{"Desk ID": "2", "Client": "A2", "more": [1]}\n'
    (tmp_path / "x" / "ids" / "desk.jsonl").write_text(rows)
    snapshot = staged(tmp_path, contract({"key_map": {**MAP, "files": "ids/*"}}))
    assert keys(tmp_path, snapshot) == [("A2", "t2")]
    assert snapshot.key_map is not None
    assert (snapshot.key_map.rows_ignored, snapshot.reasons) == (1, {"unmapped_client": 1})


def test_the_limits_of_exports_hold_for_maps(tmp_path: Path) -> None:
    """Fails: a small file that unpacks to more than the disk holds."""
    made = contract({"key_map": {**MAP, "files": "ids/*.gz"}})
    exports(tmp_path / "x", "1,t1,1\n")
    packed = gzip.compress(b"Desk ID,Client\n" + b"1,A1\n" * 400_000)
    (tmp_path / "x" / "ids" / "a.csv.gz").write_bytes(packed)
    site = site_at(tmp_path / "home", made)
    with pytest.raises(InputError, match="unpacks to more than the 1 MB"):
        stage(made.sources[1], StagingRequest(site, tmp_path / "x", 1.0, factory.LIMITS, max_unpacked_mb=1))


def test_a_damaged_map_is_named(tmp_path: Path) -> None:
    made = contract({"key_map": {**MAP, "files": "ids/*.parquet"}})
    exports(tmp_path / "x", "1,t1,1\n")
    path = tmp_path / "x" / "ids" / "b.parquet"
    with duckdb.connect() as connection:
        rows = "SELECT md5(i::VARCHAR) AS \"Desk ID\", 'B' AS client FROM range(9000) t(i)"
        connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    content = bytearray(path.read_bytes())
    content[1000:3000] = b"\xff" * 2000
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"ids/b\.parquet is a damaged Parquet file"):
        staged(tmp_path, made)


@pytest.mark.parametrize(("ids", "count"), [("Desk ID,Client\n", "0 ids"), ("Desk ID,Client\n71,A1\n", "1 id")])
def test_a_map_that_fits_no_row_is_refused_with_ids_to_look_for(tmp_path: Path, ids: str, count: str) -> None:
    exports(tmp_path / "x", TICKETS, ids)
    with pytest.raises(RejectRatioError) as caught:
        staged(tmp_path, ratio=0.05)
    text = str(caught.value)
    assert "100.0% of 4 rows broke the contract" in text
    assert f"The key_map of tickets (ids/desk.csv; {count}) lacks 3 ids of 4 rows, such as 1, 2, 3." in text


@pytest.mark.parametrize(
    "words",
    [{"key_map": {**MAP, "pii": True}}, {"columns": {"number": {}, "who": {"from": " requester", "pii": True}}}],
    ids=["the map's word", "a column of the same header"],
)
def test_personal_ids_are_in_no_message(tmp_path: Path, words: dict[str, object]) -> None:
    """Fails: the addresses of people are in logs and in the UI."""
    exports(tmp_path / "x", "ada@alpine.example,t1,1\n")
    with pytest.raises(RejectRatioError) as caught:
        staged(tmp_path, contract(words), ratio=0.05)
    assert "lacks 1 id of 1 row" in str(caught.value)
    assert "ada" not in str(caught.value)


def test_what_the_map_did_is_told_in_sentences(tmp_path: Path) -> None:
    ids = "Desk ID,Client\n1,A1\n9,A1\n9,A2\n,A3\n"
    exports(tmp_path / "x", "1,t1,5\n9,t3,1\n8,t5,1\n7,t5,1\n8,t5,1\n", ids)
    snapshot = staged(tmp_path)
    facts = key_map_facts(contract().source("tickets"), snapshot)
    name = "The key_map of tickets (ids/desk.csv; 2 ids)"
    assert list(unmatched_texts("tickets", facts)) == [
        f"{name} lacks 2 ids of 3 rows, such as 8, 7",
        f"{name} gives several keys to 1 id of 1 row, such as 9",
        f"{name}: 1 of 4 rows ignored, without an id, without a key or malformed",
    ]


def test_a_map_that_lacks_no_id_is_not_mentioned(tmp_path: Path) -> None:
    """Fails: every account that never paid is a warning, in every run."""
    exports(tmp_path / "x", payments="p1,a\n")
    snapshot = staged(tmp_path, source="payments")
    facts = key_map_facts(contract().source("payments"), snapshot)
    assert facts is not None
    assert (facts.rows_ignored, list(unmatched_texts("payments", facts))) == (1, [])


def test_of_two_ids_of_one_key_the_last_record_counts(tmp_path: Path) -> None:
    crm = "Account,name,Payer\nA1,Ada,p1\nA1,Ada,p2\nA2,Bo,p3\n"
    exports(tmp_path / "x", crm=crm, payments="p2,new\np1,old\np3,x\n")
    snapshot = staged(tmp_path, source="payments")
    assert keys(tmp_path, snapshot, "plan") == [("A1", "old"), ("A2", "x")]
    assert quarantine(tmp_path, snapshot) == [("payments.csv", 2, "A1", "p2,new", "superseded")]
    latest = contract(payments={"latest_by": "plan"})
    snapshot = staged(tmp_path, latest, source="payments")
    # By its own column, `old` is the greater word.
    assert (keys(tmp_path, snapshot, "plan")[0], snapshot.reasons) == (("A1", "old"), {"superseded": 1})


def test_of_two_ids_of_one_key_all_records_count_where_there_are_many(tmp_path: Path) -> None:
    exports(tmp_path / "x", "1,t1,5\n2,t2,7\n", "Desk ID,Client\n1,A1\n2,A1\n")
    assert keys(tmp_path, staged(tmp_path)) == [("A1", "t1"), ("A1", "t2")]
    with_key = contract({"row_key": "number"})
    exports(tmp_path / "x", "1,t1,5\n2,t1,7\n", "Desk ID,Client\n1,A1\n2,A1\n")
    assert keys(tmp_path, staged(tmp_path, with_key), "minutes") == [("A1", 7)]


def publish(root: Path, name: str, made: Contract, shard_count: int) -> Site:
    site = site_at(root / f"home_{name}", made, shard_count)
    factory.run_engine(root / name, site)
    return site


def records(site: Site) -> list[tuple[Any, ...]]:
    query = "SELECT client, name, plan, tickets, minutes, sources, issues, idempotency_key FROM merged_profiles"
    return factory.query(site.home.warehouse, f"{query} ORDER BY client")


def digest(site: Site) -> str:
    publication = read_publication(site.home)
    assert publication is not None
    return publication.digest


def test_the_records_are_those_of_exports_that_have_the_key_itself(tmp_path: Path) -> None:
    """Whatever the shards, the ids and the order of rows. Fails: the map is in the idempotency key, or loses rows."""
    dice = random.Random(3)
    clients = [f"A{number}" for number in range(60)]
    desk_of = {client: f"desk {number * 7 % 60}" for number, client in enumerate(clients)}
    rows = [(dice.choice(clients), f"t{number}", number) for number in range(300)]
    crm = "".join(f"{client},name of {client},p-{client}\n" for client in clients)
    plain = contract({"key_map": None}, {"key_map": None})
    exports(
        tmp_path / "plain",
        "".join(f"{client},{name},{minutes}\n" for client, name, minutes in rows),
        crm=f"Account,name,Payer\n{crm}",
        payments="".join(f"{client},plan\n" for client in clients[::2]),
    )
    wanted = publish(tmp_path, "plain", plain, 4)
    for number, shard_count in enumerate((1, 4, 11)):
        mapped_rows, ids = [(desk_of[client], *rest) for client, *rest in rows], list(desk_of.items())
        dice.shuffle(mapped_rows)
        dice.shuffle(ids)
        exports(
            tmp_path / f"mapped_{number}",
            "".join(f"{desk},{name},{minutes}\n" for desk, name, minutes in mapped_rows),
            "Desk ID,Client\n" + "".join(f"{desk},{client}\n" for client, desk in ids),
            f"Account,name,Payer\n{crm}",
            "".join(f"p-{client},plan\n" for client in clients[::2]),
        )
        site = publish(tmp_path, f"mapped_{number}", contract(), shard_count)
        assert records(site) == records(wanted)
        # The declared map changes no version: the digest covers that of the profiles too.
        assert digest(site) == digest(wanted)
        assert site.profile_version == wanted.profile_version


def test_an_id_that_stands_for_no_key_marks_no_profile(tmp_path: Path) -> None:
    """An id may be the key of someone else. Fails: the profile of client 7 says that its tickets were rejected."""
    crm = "Account,name,Payer\n7,Ada,\n9,Bo,\nA1,Cy,\n"
    exports(tmp_path / "x", "7,t1,1\n9,t2,1\n1,,x\n", "Desk ID,Client\n1,A1\n9,A1\n9,A2\n", crm)
    site = publish(tmp_path, "x", contract({"on_invalid": "reject_row"}), 3)
    issues = factory.query(site.home.warehouse, "SELECT client, issues FROM merged_profiles ORDER BY client")
    assert issues == [("7", []), ("9", []), ("A1", ["tickets: row rejected"])]
    reasons = factory.query(site.home.warehouse, "SELECT client, reason FROM quarantine ORDER BY line_number")
    assert reasons == [("7", "unmapped_client"), ("9", "ambiguous_client"), ("A1", "invalid:minutes")]


def test_a_changed_map_restages_the_sources_that_use_it_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a corrected id changes nothing until the export changes too."""
    # The files' stats are enough, however young they are.
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    exports(tmp_path / "x", TICKETS, payments="p1,a\n")
    site = site_at(tmp_path / "home")
    request = factory.staging_request(tmp_path / "x", site)
    first = factory.stage_all(request)
    assert [is_current(source, request) for source in site.contract.sources] == [True, True, True]
    (tmp_path / "x" / "ids" / "desk.csv").write_text(IDS.replace("2,A2", "2,A9"))
    assert [is_current(source, request) for source in site.contract.sources] == [True, False, True]
    assert [is_key_map_changed(source, request) for source in site.contract.sources] == [False, True, False]
    second = {source.name: stage(source, request) for source in site.contract.sources}
    assert {name: reused for name, (_, reused) in second.items()} == {"crm": True, "tickets": False, "payments": True}
    assert second["tickets"][0].data_hash != first["tickets"].data_hash
    assert keys(tmp_path, second["tickets"][0])[-1] == ("A9", "t2")
    assert current_snapshots(site)["tickets"].id == second["tickets"][0].id


def test_a_map_that_is_gone_restages_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the ids of a file that someone took away stand for their keys for ever."""
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    (exports(tmp_path / "x", TICKETS) / "ids" / "more.csv").write_text("Desk ID,Client\n9,A3\n")
    site = site_at(tmp_path / "home")
    request, tickets = factory.staging_request(tmp_path / "x", site), site.contract.source("tickets")
    stage(tickets, request)
    assert is_current(tickets, request)
    (tmp_path / "x" / "ids" / "more.csv").unlink()
    assert (is_current(tickets, request), is_key_map_changed(tickets, request)) == (False, True)


def test_a_renamed_map_is_another_snapshot(tmp_path: Path) -> None:
    exports(tmp_path / "x", TICKETS)
    first = staged(tmp_path)
    (tmp_path / "x" / "ids" / "desk.csv").rename(tmp_path / "x" / "ids" / "new.csv")
    second = staged(tmp_path)
    assert (first.data_hash, first.id) != (second.data_hash, second.id)
    assert second.key_map is not None
    assert second.key_map.files == ("ids/new.csv",)


def test_a_map_that_changes_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a snapshot is named after the bytes of one map, and holds the keys of another."""
    exports(tmp_path / "x", TICKETS)
    add_key_map = mapping.add_key_map

    def changing(*args: Any) -> KeyMapFigures | None:
        found = add_key_map(*args)
        (tmp_path / "x" / "ids" / "desk.csv").write_text(IDS.replace("2,A2", "2,A9"))
        return found

    monkeypatch.setattr(staging, "add_key_map", changing)
    with pytest.raises(SourceChangedError, match="A file of source 'tickets' changed"):
        staged(tmp_path)


def test_rows_stay_in_the_order_of_the_files(tmp_path: Path) -> None:
    """Fails: a sum of fractions over the tickets of a client differs in its last digit from one reading to the next."""
    ids = "".join(f"{number},A{number % 5}\n" for number in range(20_000))
    tickets = "".join(f"{number * 7919 % 20_000},t{number},1\n" for number in range(500))
    exports(tmp_path / "x", tickets, f"Desk ID,Client\n{ids}")
    for rows in factory.read_slices(site_at(tmp_path / "home").home, staged(tmp_path)):
        numbers = [row["_source_row"] for row in rows]
        assert numbers == sorted(numbers)


@pytest.mark.slow
def test_a_map_that_is_larger_than_the_memory_works(tmp_path: Path) -> None:
    """Fails: a table of all ids of a payment system ends the run of everything."""
    exports(tmp_path / "x", "cus_" + "0" * 40 + ",t1,1\n")
    ids = tmp_path / "x" / "ids" / "desk.parquet"
    tickets = tmp_path / "x" / "tickets.parquet"
    (tmp_path / "x" / "tickets.csv").unlink()
    with duckdb.connect() as connection:
        of_id = "'cus_' || lpad(i::VARCHAR, 40, '0')"
        connection.execute(
            f"COPY (SELECT {of_id} AS \"Desk ID\", 'account ' || lpad(i::VARCHAR, 40, '0') AS Client "
            f"FROM range(400_000) t(i)) TO '{ids}' (FORMAT parquet)"
        )
        connection.execute(
            f"COPY (SELECT {of_id} AS Requester, i AS number, 1 AS minutes FROM range(0, 480_000, 4) t(i)) "
            f"TO '{tickets}' (FORMAT parquet)"
        )
    made = contract({"key_map": {**MAP, "files": "ids/*.parquet"}})
    site = site_at(tmp_path / "home", made)
    snapshot, _ = stage(made.sources[1], StagingRequest(site, tmp_path / "x", 1.0, duck.Limits(memory_mb=64)))
    assert (snapshot.rows_accepted, snapshot.reasons) == (100_000, {"unmapped_client": 20_000})
