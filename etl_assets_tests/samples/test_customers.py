"""The customers of the sample: all of them in the clean files, believable, and worth scoring."""

from collections import Counter
from pathlib import Path
from statistics import mean

import pytest

from etl_assets.project.contract import Column, ColumnType, Source
from etl_assets_tests import oracle
from etl_assets_tests.factory import SOURCES, generate_sample


@pytest.mark.parametrize("dirty", [0.0, 0.2])
def test_another_seed_gives_other_customers_in_every_file(tmp_path: Path, dirty: float) -> None:
    for seed in (1, 2):
        generate_sample(tmp_path / str(seed), rows=100, seed=seed, dirty=dirty)
    for source in SOURCES:
        assert (tmp_path / "1" / f"{source.name}.csv").read_bytes() != (
            tmp_path / "2" / f"{source.name}.csv"
        ).read_bytes()


def test_clean_data_has_no_row_to_reject_and_every_customer(tmp_path: Path) -> None:
    generate_sample(tmp_path, rows=2_000, seed=9)
    expected = oracle.expect(tmp_path, 3)
    assert expected.quarantine == []
    assert list(expected.profiles) == [f"cust_{number:08d}" for number in range(2_000)]
    # Some customers are unknown to some systems.
    assert all(1_900 < account.rows_accepted < 2_000 for account in expected.accounts.values())
    assert not any(
        data.startswith(b"\xef\xbb\xbf") or b"\r" in data for data in map(Path.read_bytes, tmp_path.iterdir())
    )


def test_scores_have_something_to_find(tmp_path: Path) -> None:
    """With independent random columns, a working score would look the same as a broken one."""
    generate_sample(tmp_path, rows=2_000, seed=12)
    profiles = list(oracle.expect(tmp_path, 3).profiles.values())

    def mean_of(column: str, churn_risk: str) -> float:
        values = [profile[column] for profile in profiles if profile["churn_risk"] == churn_risk]
        return mean(value for value in values if isinstance(value, int | float))

    levels = Counter(profile["churn_risk"] for profile in profiles)
    assert min(levels[level] for level in ("LOW", "MEDIUM", "HIGH")) > 60
    assert len({profile["expansion_potential"] for profile in profiles}) == 3
    # Usage and tickets are in the score; sessions and satisfaction are not, and follow all the same.
    for column in ("usage_pct", "total_sessions", "csat_score", "health_score"):
        assert mean_of(column, "HIGH") < mean_of(column, "MEDIUM") < mean_of(column, "LOW")
    assert mean_of("open_tickets", "HIGH") > mean_of("open_tickets", "LOW")


@pytest.mark.parametrize("dirty", [0.0, 0.1])
def test_a_column_that_the_sample_does_not_know_is_empty(tmp_path: Path, dirty: float) -> None:
    """Fails: a fifth source, added as the README says, breaks `make run` on a fresh checkout."""
    survey = Source(name="survey", columns=(Column(name="answered_on", type=ColumnType.DATE),))
    paths = generate_sample(tmp_path, rows=500, dirty=dirty, sources=(*SOURCES, survey))
    assert [path.stem for path in paths] == [*(source.name for source in SOURCES), "survey"]
    header, *lines = paths[-1].read_text(errors="replace").splitlines()
    assert header == "customer_id,answered_on"
    assert sum(line.startswith("cust_") and line.endswith(",") for line in lines) > 400


def test_one_source_alone_knows_every_customer(tmp_path: Path) -> None:
    """A project of one source has no other that could know a customer whom it leaves out."""
    (path,) = generate_sample(tmp_path, rows=500, sources=SOURCES[:1])
    assert len(path.read_text().splitlines()) == 501
