"""JSON Lines: the cells of objects, records that are none, and fields that are left out."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.published.snapshots import Snapshot, current_snapshot
from etl_assets.engine.reading.exports import open_exports
from etl_assets.engine.reading.header_checks import look_at
from etl_assets.engine.reading.objects import Rows, Wanted
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets.errors import InputError
from etl_assets.project.contract import Source
from etl_assets.project.dialect import Dialect
from etl_assets.project.identity import Key
from etl_assets_tests.engine.reading.test_unpacking import frames, zipped
from etl_assets_tests.engine.steps.product_exports import accepted
from etl_assets_tests.factory import read_quarantine, staging_request

_KEY = Key(name="customer_id")


def source_of(columns: dict[str, Any], **words: Any) -> Source:
    """A source of these columns."""
    return Source.model_validate({"name": "crm", "columns": columns, **words}).with_key(_KEY)


PEOPLE = source_of(
    {
        "name": None,
        "city": {"from": ["address.city", "town"]},
        "amount": {"type": "decimal(20,4)"},
        "is_paid": {"type": "bool"},
        "visits": {"type": "int", "on_invalid": "reject_row"},
    }
)


def write(sources: Path, *lines: str | bytes | dict[str, Any], name: str = "crm.jsonl") -> None:
    """Write lines, and records as lines."""
    texts = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    (sources / name).write_bytes(b"".join((t if isinstance(t, bytes) else t.encode()) + b"\n" for t in texts))


def staged(
    sources: Path, site: Site, source: Source = PEOPLE
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """The accepted rows by key, and what is in quarantine; the books close."""
    snapshot: Snapshot = stage_source(source, staging_request(sources, site))[0]
    assert snapshot.rows_in == snapshot.rows_accepted + snapshot.rows_quarantined
    return accepted(site, snapshot), read_quarantine(site.home, snapshot)


class TestValues:
    def test_cells_keep_their_text_as_it_is_written(self, sources: Path, site: Site) -> None:
        """Fails: long ids and amounts are rounded on their way through a float."""
        write(
            sources,
            '{"customer_id": 12345678901234567890123, "amount": 1234567890123456.7891, "name": 1.10, "visits": 3}',
            '{"customer_id": "b", "amount": "0.1000", "name": "say \\"hi\\",\\nAda", "is_paid": true, "visits": null}',
            '{"customer_id": "c", "name": "M\\u00fcller \\ud83d\\ude00", "is_paid": "no"}',
            '{"customer_id": 1.0, "name": 1E5}',
        )
        found, bad = staged(sources, site)
        assert not bad
        assert found["12345678901234567890123"]["amount"] == Decimal("1234567890123456.7891")
        assert [found[key]["name"] for key in sorted(found)] == ["1E5", "1.10", 'say "hi",\nAda', "Müller 😀"]
        assert [found[key]["is_paid"] for key in ("b", "c", "1")] == [True, False, None]

    @pytest.mark.parametrize(
        ("written", "key"),
        [
            *(("1.0", "1"), ("1e3", "1000"), ("-2.50e1", "-25"), ("9007199254740991.0", "9007199254740991")),
            *(("18446744073709551616", "18446744073709551616"), ("1.5", None), ("true", None), ("1e16", None)),
            *(("9007199254740993.0", None), ("1e999999999", None)),
        ],
    )
    def test_a_number_that_is_an_id_is_whole(self, sources: Path, site: Site, written: str, key: str | None) -> None:
        """Fails: the id that pandas wrote as 1.0 is another customer than 1, or two ids are the same float."""
        write(sources, f'{{"customer_id": {written}, "name": "x"}}', '{"customer_id": "z", "name": "y"}')
        found, bad = staged(sources, site)
        assert set(found) == {"z", *([key] if key else [])}
        assert [entry["reason"] for entry in bad] == ([] if key else ["invalid:customer_id"])

    def test_fields_of_objects_are_columns_and_names_are_those_of_a_header(self, sources: Path, site: Site) -> None:
        write(
            sources,
            {"Customer ID": "a", "address": {"city": "Ulm", "zip": "1"}, "visits": 1},
            {"customer_id": "b", "Address": {"CITY": "Bonn"}, "town": "Köln"},
            {"customer_id": "c", "address": {"city": None}, "town": "Köln"},
            {"customer_id": "d", "address.city": "Trier"},
            {"customer_id": "e", "address": "somewhere", "town": None},
        )
        found, bad = staged(sources, site)
        assert not bad
        assert [found[key]["city"] for key in "abcde"] == ["Ulm", "Bonn", "Köln", "Trier", None]

    def test_lists_and_objects_are_bad_cells(self, sources: Path, site: Site) -> None:
        """Fails: JSON text passes for a name."""
        write(
            sources,
            {"customer_id": "a", "name": ["Ada", 1], "visits": 1},
            {"customer_id": "b", "name": "Bob", "amount": {}},
            {"customer_id": "c", "visits": [7]},
            {"customer_id": {"id": 1}},
            '{"customer_id": "d", "name": {"first": 1.10, "last": null}}',
        )
        found, bad = staged(sources, site)
        assert {key: row["name"] for key, row in found.items()} == {"a": None, "b": "Bob", "d": None}
        assert [(one["line_number"], one["reason"], one["cell"]) for one in bad] == [
            (1, "invalid:name", '["Ada",1]'),
            (2, "invalid:amount", "{}"),
            (3, "invalid:visits", None),
            (4, "invalid:customer_id", None),
            (5, "invalid:name", '{"first":1.10,"last":null}'),
        ]

    def test_a_list_in_a_text_costs_the_row_where_no_cell_may_be_lost(self, sources: Path, site: Site) -> None:
        """Fails: the cell is null, and neither quarantine nor issues say so."""
        write(sources, {"customer_id": "a", "name": ["x"]}, {"customer_id": "b", "name": "x"})
        found, bad = staged(sources, site, source_of({"name": None}))
        assert list(found) == ["b"]
        assert [(one["reason"], one["raw_text"]) for one in bad] == [
            ("invalid:name", '{"customer_id": "a", "name": ["x"]}')
        ]

    def test_the_words_of_the_dialect_are_those_of_texts(self, sources: Path, site: Site) -> None:
        """Fails: 1.234 is a thousand in one source because its texts write 1.234,5."""
        forms = {"decimal": ",", "thousands": ".", "nulls": ["N/A"]}
        german = source_of({"amount": {"type": "float"}, "name": None}, csv=forms)
        write(sources, '{"customer_id": "a", "amount": 1.234, "name": 1.5}', {"customer_id": "b", "amount": "1.234,5"},
              {"customer_id": "c", "amount": "N/A"})  # fmt: skip
        found, bad = staged(sources, site, german)
        assert not bad
        assert [found[key]["amount"] for key in "abc"] == [1.234, 1234.5, None]
        assert found["a"]["name"] == "1.5"

    def test_a_name_of_half_a_character_damages_its_record(self, sources: Path, site: Site) -> None:
        """Fails: the snapshot is published and cannot be read again, so that the source is staged in every run."""
        write(
            sources, r'{"customer_id": "a", "visits": 1, "\ud800": 1}', {"customer_id": "b", "visits": 1, "name": "B"}
        )
        found, bad = staged(sources, site)
        assert list(found) == ["b"]
        assert [(one["reason"], one["line_number"]) for one in bad] == [("malformed_row", 1)]
        assert current_snapshot(site.home, "crm") is not None

    def test_files_of_other_formats_may_be_beside_it(self, sources: Path, site: Site) -> None:
        (sources / "crm").mkdir()
        write(sources, {"customer_id": "a", "name": ["x"], "visits": 1}, name="crm/1.jsonl")
        (sources / "crm" / "2.csv").write_text("customer_id,name,town,amount,is_paid,visits\nb,Bob,Ulm,1,yes,x\n")
        found, bad = staged(sources, site)
        assert list(found) == ["a"]
        assert [(one["file"], one["reason"]) for one in bad] == [
            ("crm/1.jsonl", "invalid:name"),
            ("crm/2.csv", "invalid:visits"),
        ]


_SOUND = '{"customer_id": "a", "visits": 1}'
_DAMAGED = [
    b'{"customer_id": "b"',
    b"[1, 2]",
    b'"text"',
    b"null",
    b'{"customer_id": "b", "customer_id": "b"}',
    b'{"customer_id": "b", "address": {"city": 1, "city": 2}}',
    b'{"customer_id": "b", "address.city": "x", "address": {"city": "y"}}',
    b'{"customer_id": "b", "CUSTOMER_ID": "c"}',
    b'{"customer_id": "b"} {"customer_id": "c"}',
    b'{"customer_id": "b", "visits": NaN}',
    b'{"customer_id": "b\xff"}',
    b'{"customer_id": "b\0"}',
    b'{"customer_id": "b", "name": "\\u0000"}',
    b'{"customer_id": "b", "name": "\\ud800"}',
    b'{"customer_id": "b\tc"}',
    b'{"customer_id": ' + b"[" * 100_000,
    b'{"customer_id": "b", "name": "' + b"x" * (1 << 20) + b'"}',
]


class TestRecords:
    @pytest.mark.parametrize("damaged", _DAMAGED)
    def test_a_line_that_is_no_sound_object_is_damaged_and_its_neighbours_are_not(
        self, sources: Path, site: Site, damaged: bytes
    ) -> None:
        """Fails: a damaged line takes others with it, or stops the source."""
        write(sources, _SOUND, "", "  \r", damaged, _SOUND.replace('"a"', '"z"') + "\r")
        found, bad = staged(sources, site)
        assert set(found) == {"a", "z"}
        text = damaged[: 64 << 10].decode("utf-8", "backslashreplace")
        reason = "not_utf8" if b"\xff" in damaged else "malformed_row"
        assert [(one["line_number"], one["raw_text"], one["reason"]) for one in bad] == [(4, text, reason)]

    def test_a_mark_before_the_first_and_no_end_after_the_last_record(self, sources: Path, site: Site) -> None:
        (sources / "crm.jsonl").write_bytes(b"\xef\xbb\xbf" + _SOUND.encode())
        assert list(staged(sources, site)[0]) == ["a"]

    @pytest.mark.parametrize(
        ("name", "pack"),
        [
            ("crm.ndjson.zst", frames),
            ("crm.jsonl.zip", lambda text: zipped({"x": text})),
            ("crm.zip", lambda text: zipped({"x.jsonl": text})),
        ],
    )
    def test_it_may_be_packed(self, sources: Path, site: Site, name: str, pack: Any) -> None:
        (sources / name).write_bytes(pack(_SOUND.encode() + b"\n[]\n"))
        found, bad = staged(sources, site)
        assert (list(found), [one["line_number"] for one in bad]) == (["a"], [2])

    def test_the_limit_of_unpacked_texts_holds(self, sources: Path, site: Site) -> None:
        (sources / "crm.jsonl.zst").write_bytes(frames(_SOUND.encode() + b"\n" * (2 << 20)))
        request = replace(staging_request(sources, site), max_unpacked_mb=1)
        with pytest.raises(InputError, match="unpacks to more than the 1 MB"):
            stage_source(PEOPLE, request)

    def test_damage_beyond_a_block_keeps_its_line(self, sources: Path, site: Site) -> None:
        """Fails: line numbers start again with each block of the file."""
        filler = [{"customer_id": f"c{number}", "name": "x" * 400} for number in range(20_000)]
        write(sources, *filler, "{", {"customer_id": "z", "visits": "x"})
        found, bad = staged(sources, site)
        assert len(found) == 20_000
        assert [(one["line_number"], one["reason"]) for one in bad] == [
            (20_001, "malformed_row"),
            (20_002, "invalid:visits"),
        ]


class TestFields:
    def test_a_field_that_must_be_there_is_an_error_where_no_record_has_it(self, sources: Path) -> None:
        """Fails: a renamed field empties a column, or rejects every row, one by one."""
        needed = source_of({"email": {"required": True}, "name": None})
        write(sources, {"customer_id": "a", "e_mail": "x"}, {"customer_id": "b", "name": "y"})
        with pytest.raises(InputError, match=r"lacks the column email\. Its records have: customer_id, e_mail, name"):
            open_exports(needed, sources)
        filler = [{"id": str(number), "email": "x" * 100} for number in range(50_000)]
        write(sources, *filler, {"customer_id": "z"})
        with pytest.raises(
            InputError, match=r"lacks the column customer_id\. Its first [0-9,]+ records have: id, email"
        ):
            open_exports(needed, sources)

    def test_fields_that_are_left_out_are_null_and_reported(self, sources: Path, site: Site) -> None:
        """Fails: a misspelled name is a column of nulls, and nothing says so."""
        write(sources, {"customer_id": "a", "nmae": "Ada", "address": {"zip": "1", "city": None}, "tags": []})
        found, bad = staged(sources, site)
        assert not bad
        assert found["a"]["name"] is None
        looked = look_at(PEOPLE, sources)
        assert looked.extra_columns == ("nmae", "tags")
        assert looked.absent_columns == ("name", "amount", "is_paid", "visits")

    @pytest.mark.parametrize(
        ("content", "finding"),
        [
            (b'\n["a"]\n', r"no JSON Lines file: expected a JSON object on each line, found on line 2 '\["),
            (b"\n\n", r"crm\.jsonl of source 'crm' holds no record"),
            (
                b'\n[\n{"customer_id": 1},\n',
                "is a JSON array, not what its name says",
            ),
            ('{"customer_id": 1}'.encode("utf-16"), "is utf-16 text"),
        ],
    )
    def test_a_file_without_objects_is_refused(self, sources: Path, content: bytes, finding: str) -> None:
        (sources / "crm.jsonl").write_bytes(content)
        with pytest.raises(InputError, match=finding):
            open_exports(PEOPLE, sources)

    def test_names_without_end_take_no_memory(self) -> None:
        rows = Rows([Wanted(("a",), ("a",))], Dialect())
        for number in range(20_001):
            assert rows.row(b'{"a": 1, "n%d": 2}' % number) == b'"1",""\n'
        assert len(rows.fields) <= 10_000
