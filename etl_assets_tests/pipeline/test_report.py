"""When a run counts as a success."""

import pytest

from etl_assets.engine.published.status import Status
from etl_assets.errors import EtlError
from etl_assets.pipeline.report import BrokenCheck, Report, ShardReport, SourceReport
from etl_assets_tests.pipeline.test_event_lines import PUBLICATION

GOOD = ShardReport("shard_00", Status.REUSED, 3)


@pytest.mark.parametrize(
    ("report", "ok"),
    [
        (Report(shards=[GOOD], publication=PUBLICATION), True),
        (Report(shards=[GOOD], publication=PUBLICATION, is_unchanged=True), True),
        (Report(shards=[GOOD]), False),
        (Report(shards=[GOOD], merge_error=EtlError("no"), is_warehouse_replaced=True), False),
        (Report(shards=[GOOD, ShardReport("shard_01", Status.FAILED)], publication=PUBLICATION), False),
        (Report(shards=[GOOD], publication=PUBLICATION, broken_checks=(BrokenCheck("customers_unique"),)), False),
        (Report(sources=[SourceReport("crm", error=EtlError("no"))]), False),
    ],
)
def test_a_run_is_a_success_when_everything_is_published_and_checked(report: Report, ok: bool) -> None:
    """Fails: exit code 0, and customers are missing."""
    assert report.ok is ok
