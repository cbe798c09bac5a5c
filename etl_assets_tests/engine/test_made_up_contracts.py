"""Generated contracts: dialects, types, forms of keys and many-row sources are right in any combination."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.published.warehouse import Publication
from etl_assets.engine.site import Site
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests import factory
from etl_assets_tests.engine.made_up_contracts import MadeUp, expected_profiles, kept_rows, made_up, profiles_sql, write

_ENGINE = settings(
    max_examples=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _published(made: MadeUp, root: Path, shard_count: int, file_count: int) -> tuple[Publication, Site]:
    project = Project(Contract.model_validate(made.contract), profiles_sql(made))
    site = Site(project, Home(root / f"home_{shard_count}"), shard_count)
    sources = write(made, root / f"exports_{file_count}", file_count)
    return factory.run_engine(sources, site).publication, site


def _profiles(site: Site) -> dict[str, dict[str, Any]]:
    path = site.home.warehouse
    columns = [row[0] for row in factory.query(path, "DESCRIBE (SELECT * EXCLUDE (shard_id) FROM merged_profiles)")]
    rows = factory.query(path, "SELECT * EXCLUDE (shard_id) FROM merged_profiles ORDER BY the_key")
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    assert len({profile["the_key"] for profile in found}) == len(found), "each key once"
    return {profile["the_key"]: profile for profile in found}


@_ENGINE
@given(made=made_up(), shards=st.permutations([1, 2, 3, 5]))
def test_any_contract_publishes_what_its_exports_mean(made: MadeUp, shards: list[int]) -> None:
    """Fails: a form of number, date, key or record is read with another meaning where it meets another word."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        one, site = _published(made, root, shards[0], 2)
        two, _ = _published(made, root, shards[1], 3)
        assert _profiles(site) == expected_profiles(made)
        assert (one.digest, one.record_count) == (two.digest, two.record_count)
        for source, snapshot in current_snapshots(site).items():
            rows, reasons, _ = kept_rows(made, source)
            assert dict(snapshot.reasons) == reasons
            assert snapshot.rows_in == len(made.rows[source])
            assert snapshot.rows_accepted == sum(map(len, rows.values()))
