"""Ids that most rows share, and how often which one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from etl_assets.engine.published.snapshots import Snapshot, current_snapshot
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import is_current
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets.errors import Action, CollapsedError
from etl_assets.project.columns import ProfileColumn
from etl_assets.project.contract import Rows, Source
from etl_assets_tests import factory
from etl_assets_tests.engine.steps.product_exports import PRODUCT, stage, write
from etl_assets_tests.factory import row

LATEST = PRODUCT.model_copy(update={"latest_by": "last_active"}).with_key(PRODUCT.key)
MANY = PRODUCT.model_copy(update={"rows": Rows.MANY}).with_key(PRODUCT.key)


def _stage(sources: Path, site: Site, source: Source = PRODUCT, ratio: float = 0.5) -> Snapshot:
    changed = [source if one.name == "product" else one for one in site.contract.sources]
    project = replace(factory.PROJECT, contract=site.contract.model_copy(update={"sources": tuple(changed)}))
    request = factory.staging_request(sources, factory.site_at(site.home, project=project))
    return stage_source(source, replace(request, max_superseded_ratio=ratio))[0]


def _refused(sources: Path, site: Site, source: Source = PRODUCT, ratio: float = 0.5) -> CollapsedError:
    with pytest.raises(CollapsedError) as caught:
        _stage(sources, site, source, ratio)
    assert current_snapshot(site.home, "product") is None
    return caught.value


def test_rows_that_share_their_ids_are_refused_with_the_ids(sources: Path, site: Site) -> None:
    """Fails: ids that a spreadsheet has rounded leave three customers of a hundred, with exit code 0."""
    write(sources, *(row(f"x{number % 3}") for number in range(100)), row("y"))
    error = _refused(sources, site)
    assert "Source 'product': 97 of 101 rows (96.0%) have the customer_id of another row of their file" in error.finding
    assert "at most 50.0% are allowed (ETL_MAX_SUPERSEDED_RATIO); there are 4 different ones" in error.finding
    assert "most often x0 (34 rows), x1 (33 rows), x2 (33 rows)" in error.finding
    assert "rows: many" in error.finding
    assert "latest_by:" in error.finding
    again, edit, raised = error.advice
    assert (again.action, edit.action, raised.setting) == (Action.EXPORT_AGAIN, Action.EDIT, "ETL_MAX_SUPERSEDED_RATIO")
    # The share that is advised lets it pass.
    assert _stage(sources, site, ratio=float(raised.value or "")).rows_accepted == 4


@pytest.mark.parametrize("source", [PRODUCT, LATEST, MANY], ids=["one", "latest_by", "many"])
def test_one_id_for_all_rows_is_refused(sources: Path, site: Site, source: Source) -> None:
    """Fails: a hundred customers become one, in silence."""
    write(sources, *(row("same") for _ in range(100)))
    assert "all 100 rows have the same customer_id" in _refused(sources, site, source).finding


def test_one_id_is_refused_whatever_share_is_allowed(sources: Path, site: Site) -> None:
    write(sources, *(row("same") for _ in range(6)))
    error = _refused(sources, site, ratio=1.0)
    assert [one.action for one in error.advice] == [Action.EXPORT_AGAIN, Action.EDIT]


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        pytest.param(PRODUCT, ["a"] * 5, id="a handful of one id"),
        pytest.param(PRODUCT, ["a", "a", "a", "b", "b", "b"], id="four rows too many"),
        pytest.param(PRODUCT, [*"abcdefgh", *"abcdefgh"], id="half of the rows"),
        pytest.param(LATEST, ["a", "b"] * 50, id="a history of each, with latest_by"),
        pytest.param(MANY, ["a", "b"] * 50, id="rows: many"),
        pytest.param(MANY, ["a"] * 20, id="some rows of one, with rows: many"),
    ],
)
def test_several_rows_that_are_meant_pass(sources: Path, site: Site, source: Source, ids: list[str]) -> None:
    """Fails: a sound export is refused."""
    write(sources, *map(row, ids))
    assert _stage(sources, site, source).rows_in == len(ids)


def test_a_folder_of_whole_exports_repeats_nothing(sources: Path, site: Site) -> None:
    """Fails: the third daily export in a folder is refused, because each replaces all rows of the one before."""
    for day in range(1, 6):
        write(sources, *(row(f"c{number}") for number in range(10)), name=f"product/{day}.csv")
    snapshot = _stage(sources, site)
    assert (snapshot.rows_accepted, snapshot.reasons, snapshot.rows_repeated) == (10, {"superseded": 40}, 0)


def test_in_a_folder_the_rows_of_each_file_count(sources: Path, site: Site) -> None:
    """Fails: ids collapse unseen as soon as there are two files."""
    for day in range(1, 4):
        write(sources, *(row(f"x{number % 2}") for number in range(10)), name=f"product/{day}.csv")
    assert "24 of 30 rows (80.0%) have the customer_id of another row of their file" in _refused(sources, site).finding


def test_a_lower_limit_counts_for_what_is_staged(sources: Path, site: Site, an_hour_later: Callable[[], None]) -> None:
    """Fails: lowering the setting does nothing until the next export."""
    write(sources, *map(row, "aaaaaab"))
    an_hour_later()
    _stage(sources, site, ratio=1.0)
    request = replace(factory.staging_request(sources, site), max_superseded_ratio=0.4)
    assert is_current(PRODUCT, replace(request, max_superseded_ratio=1.0))
    assert not is_current(PRODUCT, request)
    with pytest.raises(CollapsedError):
        stage(sources, site, max_superseded_ratio=0.4)


def test_personal_ids_are_not_shown(sources: Path, site: Site) -> None:
    """Fails: e-mail addresses that are keys land in logs."""
    write(sources, *(row("ada@alpine.example") for _ in range(100)))
    pii = ProfileColumn(name="customer_id", pii=True)
    contract = site.contract.model_copy(update={"profile": (*site.contract.profile, pii)})
    masked = factory.site_at(site.home, project=replace(factory.PROJECT, contract=contract))
    with pytest.raises(CollapsedError) as caught:
        stage(sources, masked, max_superseded_ratio=0.5)
    assert "ada@" not in caught.value.finding
