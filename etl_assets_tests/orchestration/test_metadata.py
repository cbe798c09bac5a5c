"""What the event log keeps of customers: plain values, a dozen columns at most, and nothing personal."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.preview import MASK, MAX_COLUMNS
from etl_assets.orchestration import metadata
from etl_assets.orchestration.instance.history import synced_once
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets_tests.dagster_runs import CodeLocation, materializations, range_tags, settings_for, table
from etl_assets_tests.factory import query, row, write_exports

FIRST = ["customer_id", "company_name", "health_score", "churn_risk", "expansion_potential", "sources", "email"]


class TestPreviews:
    @pytest.mark.parametrize("name", ["a shard", "a shard of a range", "the merge"])
    def test_show_a_few_masked_rows_the_key_and_the_scores_first(self, location: CodeLocation, name: str) -> None:
        """Fails: the scores are never seen, and e-mail addresses stay in the event log for ever."""
        assert location.stage().success
        if name == "a shard":
            (made,) = materializations(location.run("shard_profiles", partition="shard_00"), "shard_profiles")
            path, profiles = location.site.home.shard_file("shard_00"), "profiles"
        else:
            result = location.run("shard_profiles", tags=range_tags(location.site.shard_ids))
            made = next(m for m in materializations(result, "shard_profiles") if m.partition == "shard_00")
            path, profiles = location.site.home.shard_file("shard_00"), "profiles"
        if name == "the merge":
            assert location.run("merged_profiles").success
            made = location.materialized("merged_profiles")
            path, profiles = location.site.home.warehouse, "merged_profiles"
        shown = table(made.metadata, "preview")
        names = list(shown[0])
        assert names[: len(FIRST)] == FIRST
        assert len(names) <= MAX_COLUMNS == 12
        assert {entry["email"] for entry in shown} == {MASK}
        rows = query(
            path,
            "SELECT customer_id, health_score, churn_risk, array_to_string(sources, ', ') "
            f"FROM {profiles} ORDER BY customer_id LIMIT {metadata.PREVIEW_ROWS}",
        )
        found = [(e["customer_id"], e["health_score"], e["churn_risk"], e["sources"]) for e in shown]
        assert found == rows

    def test_have_values_that_the_ui_shows_and_never_renders(self, location: CodeLocation, sources: Path) -> None:
        """Fails: a company called `<img src=…>` or `[click](…)` is rendered in everyone's browser."""
        hostile = "[click](javascript:alert(1)) <img src=x> | **bold**"
        write_exports(sources, crm=[row("a", company_name=hostile)])
        location.publish()
        preview = location.materialized("merged_profiles").metadata["preview"]
        assert isinstance(preview, dg.TableMetadataValue)
        assert [record.data["company_name"] for record in preview.records] == [hostile]

    def test_of_an_empty_shard_has_the_columns(self, location: CodeLocation, sources: Path) -> None:
        write_exports(sources)
        location.publish()
        preview = location.materialized("merged_profiles").metadata["preview"]
        assert isinstance(preview, dg.TableMetadataValue)
        assert [column.name for column in preview.schema.columns][: len(FIRST)] == FIRST
        assert not preview.records


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (0.5, 0.5),
        ("text", "text"),
        (["crm", "billing"], "crm, billing"),
        ([], ""),
        (date(2026, 5, 1), "2026-05-01"),
        (datetime(2026, 5, 1, 12, tzinfo=UTC), "2026-05-01T12:00:00+00:00"),
        (Decimal("1.50"), "1.50"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_a_cell_of_any_type_becomes_a_plain_value(cell: object, shown: object) -> None:
    assert metadata.plain(cell) == shown
    (record,) = metadata.table_value(["column"], [(cell,)]).records
    assert record.data == {"column": shown}


def test_counts_are_listed_the_largest_first() -> None:
    counts = metadata.counts_table("reason", {"b": 2, "c": 10, "a": 2})
    assert [tuple(record.data.values()) for record in counts.records] == [("c", 10), ("a", 2), ("b", 2)]


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps its history in files."""
    (tmp_path / "instance").mkdir()
    with synced_once(), open_instance(tmp_path / "instance") as opened:
        yield opened


def test_no_e_mail_address_is_anywhere_in_the_history_of_runs(
    lasting: dg.DagsterInstance, sources: Path, home: Home, tmp_path: Path
) -> None:
    """Fails: addresses stay in Dagster's databases after the customers were deleted everywhere else."""
    people = [row(name, email=f"{name}.person@secret.example") for name in "abcdef"]
    write_exports(
        sources,
        crm=[*people, row("", email="rejected.person@secret.example")],
        billing=[*people, row("a", email="superseded.person@secret.example")],
        product=[row("b", email="cell.person@secret.example", usage_pct="much")],
        support=people,
    )
    location = CodeLocation(settings_for(sources, home), lasting)
    location.publish()
    assert location.run("shard_profiles", partition="shard_01").success
    # The text of a failure too.
    strict = CodeLocation(location.settings.model_copy(update={"max_reject_ratio": 0.0}), lasting)
    assert not strict.run("crm", config={"stage_sources": {"force": True}}).success
    assert not strict.run("product", config={"stage_sources": {"force": True}}).success
    # The addresses are in the published data.
    ((found,),) = query(home.warehouse, "SELECT count(*) FROM merged_profiles WHERE email LIKE '%@secret.example'")
    assert found == 6
    databases = sorted((tmp_path / "instance").rglob("*.db"))
    stored = [text for path in databases for text in _texts(path)]
    assert any("merged_profiles" in text for text in stored)
    assert [text for text in stored if "@" in text and "secret" in text] == []
    assert [text for text in stored if "person" in text] == []


def _texts(path: Path) -> Iterator[str]:
    """Every text in every table of a database."""
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for cells in connection.execute(f'SELECT * FROM "{name}"'):
                yield from (str(cell) for cell in cells if cell is not None)
