"""Exports and results that are much smaller than those published last."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.notices import NoticeKind, source_notices
from etl_assets.engine.published.snapshots import current_snapshot, read_pointer, read_refused
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps.merge import Merged, merge_shards
from etl_assets.engine.steps.shrinking import ShrinkLimit
from etl_assets.engine.steps.stage import is_current
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets.errors import Action, ShrunkError
from etl_assets_tests import factory
from etl_assets_tests.engine.steps.product_exports import PRODUCT, stage, write
from etl_assets_tests.factory import row

HALF = ShrinkLimit(0.5)
ACCEPTED = ShrinkLimit(0.5, is_accepted=True)


def _rows(count: int, **changes: str) -> list[dict[str, str]]:
    return [row(f"c{number:02d}", **changes) for number in range(count)]


def _publish(sources: Path, site: Site, limit: ShrinkLimit = HALF) -> Merged:
    request = replace(factory.staging_request(sources, site), shrink=limit)
    factory.stage_all(request)
    return _merge(site, limit)


def _merge(site: Site, limit: ShrinkLimit = HALF) -> Merged:
    for shard_id in site.shard_ids:
        factory.build_shard(site, factory.input_of(site, shard_id))
    return merge_shards(site, factory.LIMITS, run_id="run", shrink=limit)


def _size_notices(merged: Merged) -> list[str]:
    kinds = (NoticeKind.SHRUNK, NoticeKind.NOT_COMPARED)
    return [notice.finding for notice in merged.noticed.notices if notice.kind in kinds]


@pytest.fixture
def twenty(sources: Path, site: Site) -> Path:
    """The exports of twenty customers, published."""
    rows = _rows(20)
    factory.write_exports(sources, crm=rows, billing=rows, product=rows, support=rows)
    _publish(sources, site)
    return sources


class TestSources:
    def _refused(self, sources: Path, site: Site, limit: ShrinkLimit = HALF) -> ShrunkError:
        before = current_snapshot(site.home, "product")
        with pytest.raises(ShrunkError) as caught:
            stage(sources, site, shrink=limit)
        assert current_snapshot(site.home, "product") == before
        return caught.value

    @pytest.mark.parametrize("count", [0, 3, 9])
    def test_an_export_that_shrank_is_refused_with_both_numbers(self, twenty: Path, site: Site, count: int) -> None:
        """Fails: an export that was cut, or that holds a header only, empties the published result."""
        write(twenty, *_rows(count))
        error = self._refused(twenty, site)
        published = read_publication(site.home)
        assert published is not None
        assert f"Source 'product': its export has shrunk. {count} rows accepted now (product.csv), 20 rows in the " in (
            error.finding
        )
        assert f"publication of {published.published_at:%Y-%m-%d %H:%M} UTC" in error.finding
        assert [one.action for one in error.advice] == [
            Action.EXPORT_AGAIN,
            Action.ACCEPT_SHRUNK,
            Action.SET,
            Action.EDIT,
        ]
        # A share that lets it pass.
        share = float(error.advice[2].value or "")
        assert stage(twenty, site, shrink=ShrinkLimit(share)).rows_accepted == count
        assert error.subject == "product"

    def test_it_is_noted_and_is_still_to_be_staged(self, twenty: Path, site: Site) -> None:
        """Fails: status shows an old source as current, or the sensor never asks for it again."""
        write(twenty, *_rows(3))
        error = self._refused(twenty, site)
        noted = read_refused(site.home, "product")
        assert noted is not None
        assert (noted.kind, noted.finding) == ("shrunk", error.finding)
        request = replace(factory.staging_request(twenty, site), shrink=HALF)
        assert not is_current(PRODUCT, request)

    @pytest.mark.parametrize(
        ("before", "now", "is_refused"), [(20, 10, False), (20, 9, True), (4, 1, True), (1, 1, False)]
    )
    def test_the_share_is_a_lower_bound(
        self, sources: Path, site: Site, before: int, now: int, *, is_refused: bool
    ) -> None:
        write(sources, *_rows(before))
        stage(sources, site, shrink=HALF)
        write(sources, *_rows(now, usage_pct="1"))
        if is_refused:
            assert "when it was staged last" in self._refused(sources, site).finding
        else:
            assert stage(sources, site, shrink=HALF).rows_accepted == now

    def test_a_whole_export_heals_it(self, twenty: Path, site: Site) -> None:
        """Fails: after one bad night someone has to tidy up."""
        good = current_snapshot(site.home, "product")
        write(twenty, *_rows(3))
        self._refused(twenty, site)
        write(twenty, *_rows(20))
        assert stage(twenty, site, shrink=HALF) == good
        assert read_refused(site.home, "product") is None

    def test_accepting_it_counts_once(self, twenty: Path, site: Site) -> None:
        """Fails: the export that shrinks next is published because someone accepted another one."""
        write(twenty, *_rows(8))
        assert stage(twenty, site, shrink=ACCEPTED).rows_accepted == 8
        assert _merge(site).publication.record_count == 20
        write(twenty, *_rows(3))
        assert "8 rows in the publication" in self._refused(twenty, site).finding

    def test_what_was_accepted_is_not_asked_again_before_it_is_published(
        self, twenty: Path, site: Site, an_hour_later: Callable[[], None]
    ) -> None:
        """Fails: a crash between staging and merge makes a person accept the same export twice."""
        path = write(twenty, *_rows(8))
        an_hour_later()
        stage(twenty, site, shrink=ACCEPTED)
        assert stage(twenty, site, shrink=HALF).rows_accepted == 8
        path.touch()
        assert stage(twenty, site, shrink=HALF).rows_accepted == 8
        pointer = read_pointer(site.home, "product")
        assert pointer is not None
        assert pointer.is_shrink_accepted

    def test_accepting_leaves_no_mark_where_nothing_shrank(self, twenty: Path, site: Site) -> None:
        """Fails: a habit of --accept-shrunk switches off the comparison of the result."""
        write(twenty, *_rows(19))
        stage(twenty, site, shrink=ACCEPTED)
        pointer = read_pointer(site.home, "product")
        assert pointer is not None
        assert not pointer.is_shrink_accepted

    def test_the_limit_can_be_switched_off(self, twenty: Path, site: Site) -> None:
        write(twenty)
        assert stage(twenty, site, shrink=ShrinkLimit(0.0)).rows_accepted == 0

    def test_the_same_export_read_in_another_way_has_not_shrunk(self, twenty: Path, site: Site) -> None:
        """Fails: changing the contract needs the permission that is for broken exports."""
        stage(twenty, site, shrink=HALF)
        key = PRODUCT.key.model_copy(update={"max_chars": 2})
        contract = factory.PROJECT.contract
        sources = tuple(one.with_key(key) for one in contract.sources)
        shorter = contract.model_copy(update={"key": key, "sources": sources})
        other = factory.site_at(site.home, project=replace(factory.PROJECT, contract=shorter))
        request = replace(factory.staging_request(twenty, other), shrink=HALF)
        (product,) = (source for source in sources if source.name == "product")
        assert stage_source(product, request)[0].rows_accepted == 0

    @pytest.mark.parametrize("damage", ["cut", "foreign", "link"])
    def test_without_a_readable_warehouse_the_staged_rows_count(self, twenty: Path, site: Site, damage: str) -> None:
        """Fails: a damaged warehouse switches the guard off, or stops the pipeline that would make a new one."""
        _break_warehouse(site.home, damage)
        write(twenty, *_rows(3))
        assert "20 rows when it was staged last" in self._refused(twenty, site).finding

    def test_a_first_export_without_rows_is_taken_and_reported(self, sources: Path, site: Site) -> None:
        """Fails: a system without customers yet stops the others, or an empty export is not mentioned."""
        write(sources)
        snapshot = stage(sources, site, shrink=HALF)
        assert [notice.finding for notice in source_notices([snapshot])] == [
            "product is empty: its files hold no rows."
        ]

    def test_a_source_that_stays_empty_is_no_news(self, sources: Path, site: Site) -> None:
        write(sources)
        stage(sources, site, shrink=HALF)
        write(sources, name="product.csv").write_text((sources / "product.csv").read_text() + "\n")
        assert stage(sources, site, shrink=HALF).rows_accepted == 0


def _break_warehouse(home: Home, damage: str) -> None:
    path = home.warehouse
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "foreign":
        path.unlink()
        factory.alter(
            path, "CREATE TABLE publication (x INTEGER)", "CREATE VIEW source_snapshots AS SELECT 1 AS source"
        )
    else:
        path.rename(path.with_name("elsewhere.duckdb"))
        path.symlink_to("elsewhere.duckdb")


class TestResult:
    def _write(self, sources: Path, ids: dict[str, list[str]], **changes: str) -> None:
        factory.write_exports(
            sources, **{name: [row(customer, **changes) for customer in some] for name, some in ids.items()}
        )

    def _disjoint(self, sources: Path) -> None:
        """Each source has five customers of its own."""
        names = [source.name for source in factory.SOURCES]
        self._write(sources, {name: [f"{name}-{number}" for number in range(5)] for name in names})

    def _same(self, sources: Path) -> None:
        """Each source has the same five customers: none has shrunk."""
        self._write(sources, {source.name: [f"c{number}" for number in range(5)] for source in factory.SOURCES})

    def test_far_fewer_profiles_are_refused(self, sources: Path, site: Site) -> None:
        """Fails: sources that are whole on their own lose most profiles together."""
        self._disjoint(sources)
        first = _publish(sources, site).publication
        self._same(sources)
        with pytest.raises(ShrunkError) as caught:
            _publish(sources, site)
        assert "The result has shrunk: 5 customers, 20 were published last" in caught.value.finding
        assert f"{first.published_at:%Y-%m-%d %H:%M} UTC, which stays" in caught.value.finding
        assert read_publication(site.home) == first
        # Asked again, the answer is the same; accepted, it is published; and then it is what counts.
        with pytest.raises(ShrunkError):
            _merge(site)
        assert _merge(site, ACCEPTED).publication.record_count == 5
        assert _size_notices(_merge(site)) == []

    def test_columns_that_lost_all_values_are_refused(self, twenty: Path, site: Site) -> None:
        """Fails: a field that the exporting system no longer hands out is null for every customer, unseen."""
        rows = _rows(20)
        crm = [{**one, "company_name": "", "industry": ""} for one in rows]
        factory.write_exports(twenty, crm=crm, billing=rows, product=rows, support=rows)
        with pytest.raises(ShrunkError) as caught:
            _publish(twenty, site)
        assert "Columns have lost all of their values: company_name (20), industry (20);" in caught.value.finding
        assert _publish(twenty, site, ACCEPTED).publication.record_count == 20

    def test_a_column_of_few_values_may_lose_them(self, sources: Path, site: Site) -> None:
        """Fails: the last customer with a rare value stops the pipeline when it leaves."""
        rows = _rows(20)
        few = [{**one, "industry": one["industry"] if number < 9 else ""} for number, one in enumerate(rows)]
        factory.write_exports(sources, crm=few, billing=rows, product=rows, support=rows)
        _publish(sources, site)
        none = [{**one, "industry": ""} for one in rows]
        factory.write_exports(sources, crm=none, billing=rows, product=rows, support=rows)
        assert _size_notices(_publish(sources, site)) == []

    def test_issues_that_are_gone_are_no_loss(self, sources: Path, site: Site) -> None:
        """Fails: exports that were put right are refused."""
        bad, good = _rows(20, usage_pct="x"), _rows(20)
        factory.write_exports(sources, crm=good, billing=good, product=bad, support=good)
        _publish(sources, site)
        write(sources, *good)
        assert _size_notices(_publish(sources, site)) == []

    def test_a_source_that_was_accepted_is_not_asked_about_again(self, twenty: Path, site: Site) -> None:
        """Fails: the sensor's merge is refused after a person has accepted the export."""
        write(twenty)
        stage(twenty, site, shrink=ACCEPTED)
        merged = _merge(site)
        assert (merged.publication.record_count, _size_notices(merged)) == (20, [])
        # It explains this publication and no later one.
        rows = _rows(20)
        crm = [{**one, "company_name": ""} for one in rows]
        factory.write_exports(twenty, crm=crm, billing=rows, support=rows)
        with pytest.raises(ShrunkError, match="company_name"):
            _publish(twenty, site)

    def test_after_a_change_of_the_project_it_is_only_reported(self, sources: Path, site: Site) -> None:
        """Fails: a project that drops a source or a rule cannot be published."""
        self._disjoint(sources)
        _publish(sources, site)
        self._same(sources)
        project = factory.PROJECT
        changed = replace(project, profiles_sql=f"{project.profiles_sql} LIMIT 1000000000")
        merged = _publish(sources, factory.site_at(site.home, project=changed))
        (notice,) = _size_notices(merged)
        assert notice.startswith("The result has shrunk: 5 customers, 20 were published last;")
        assert notice.endswith("The project or the engine has changed since.")

    @pytest.mark.parametrize("damage", ["cut", "foreign"])
    def test_a_warehouse_that_cannot_be_read_is_said_to_be_no_measure(
        self, twenty: Path, site: Site, damage: str
    ) -> None:
        """Fails: nothing was compared, and no one knows."""
        _break_warehouse(site.home, damage)
        assert _size_notices(_publish(twenty, site)) == [
            "The last publication cannot be read, so the result was not compared with it."
        ]

    def test_a_partial_result_is_not_compared(self, twenty: Path, site: Site) -> None:
        for shard_id in site.shard_ids[1:]:
            site.home.shard_file(shard_id).unlink()
        merged = merge_shards(site, factory.LIMITS, run_id="run", allow_partial=True, shrink=HALF)
        assert merged.publication.is_partial

    def test_a_first_result_is_compared_with_nothing(self, sources: Path, site: Site) -> None:
        self._same(sources)
        assert _size_notices(_publish(sources, site)) == []
