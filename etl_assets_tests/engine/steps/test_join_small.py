"""Many small shards joined in one statement: the same shards as one by one, and each still fails on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from etl_assets.engine.duck import Workbenches
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.shards import ShardInput, read_shards
from etl_assets.engine.site import Site
from etl_assets.engine.steps import build, build_many, joining
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.engine.stopping import Stop
from etl_assets_tests import factory

SHARDS = 40


@pytest.fixture
def staged(sources: Path, home: Home) -> Site:
    """Two hundred customers in forty shards."""
    site = factory.site_at(home, SHARDS)
    rows = [factory.row(f"c{number}", nps_score=str(number % 11)) for number in range(200)]
    factory.write_exports(sources, crm=rows, billing=rows[:150], product=rows[50:], support=rows[::3])
    factory.stage_all(factory.staging_request(sources, site))
    return site


def built(site: Site, *, force: bool = False) -> list[ShardResult]:
    """Build all shards of the site; returns how each ended."""
    request = ShardsRequest(site, factory.LIMITS, "run", 1, force=force)
    entries: list[Attempt | ShardResult] = list(build_shards(request, site.shard_ids))
    return [entry for entry in entries if isinstance(entry, ShardResult)]


def contents(site: Site) -> Mapping[str, str]:
    """The content hash of each published shard."""
    states = read_shards(site.home, site.shard_ids)
    return {state.shard_id: state.manifest.content_hash for state in states if state.manifest is not None}


def types(site: Site) -> list[tuple[object, ...]]:
    """The columns of a shard and their types."""
    return factory.query(site.home.shard_file("shard_07"), "DESCRIBE profiles")


def test_shards_that_are_joined_together_are_those_that_are_joined_one_by_one(
    staged: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the result depends on how many shards a run happens to build."""
    joined: list[int] = []

    def counting(site: Site, inputs: Sequence[ShardInput], benches: Workbenches, stop: Stop, target: Path) -> None:
        joined.append(len(inputs))
        build.join_small(site, inputs, benches, stop, target)

    monkeypatch.setattr(build_many, "join_small", counting)
    assert all(result.error is None for result in built(staged))
    together = (contents(staged), types(staged))
    assert joined == [SHARDS]
    monkeypatch.setattr(build_many, "is_row_wise", lambda _: False)
    assert all(result.error is None for result in built(staged, force=True))
    assert joined == [SHARDS]
    assert (contents(staged), types(staged)) == together


def test_only_what_is_to_be_built_is_joined(staged: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a run that repairs one shard of a thousand reads all of them."""
    built(staged)
    monkeypatch.setattr(build_many, "join_small", lambda *_: pytest.fail("current shards were joined"))
    assert {str(result.attempt.status) for result in built(staged)} == {"reused"}


@pytest.mark.parametrize(
    ("words", "across"),
    [("SELECT", "SELECT DISTINCT"), ("base.sources,", "row_number() OVER (ORDER BY 1) AS place, base.sources,")],
)
def test_a_query_whose_rows_depend_on_others_is_run_shard_by_shard(staged: Site, words: str, across: str) -> None:
    """Fails: a rank within the shard becomes a rank within a batch of shards."""
    assert joining.is_row_wise(staged)
    changed = replace(staged.project, profiles_sql=staged.project.profiles_sql.replace(words, across, 1))
    assert not joining.is_row_wise(replace(staged, project=changed))


def test_a_value_that_cannot_be_computed_fails_its_shard_alone_and_is_not_shown(staged: Site) -> None:
    """Fails: one record stops all shards, or its e-mail address is in the log for ever."""
    project = replace(
        staged.project,
        profiles_sql=staged.project.profiles_sql.replace(
            "base.sources,",
            "CASE WHEN base.customer_id = 'c7' THEN CAST(crm.email AS INTEGER) END AS broken, base.sources,",
        ),
    )
    results = built(replace(staged, project=project))
    failed = [result for result in results if result.error is not None]
    assert len(failed) == 1
    text = f"{failed[0].error} {failed[0].attempt.error}"
    assert "sql/profiles.sql" in text
    assert "alpine.example" not in text
    assert failed[0].error is not None
    assert failed[0].error.__cause__ is None
    assert len(contents(staged)) == SHARDS - 1
