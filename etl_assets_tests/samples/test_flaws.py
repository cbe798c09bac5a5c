"""The dirt of the sample: every flaw that the contract knows, in the asked share of the rows."""

from pathlib import Path

import pytest

from etl_assets_tests import oracle
from etl_assets_tests.factory import SOURCES, generate_sample

_NAMES = [source.name for source in SOURCES]
# Every source shows these reasons, and some of `invalid:<column>`.
_REASONS = {"missing_customer_id", "superseded", "malformed_row", "not_utf8", "invalid:customer_id"}
_INVALID = {
    "crm": {"invalid:employee_count", "invalid:deal_value", "invalid:last_contact"},
    "billing": {"invalid:mrr", "invalid:subscription_start", "invalid:last_payment"},
    "product": {"invalid:total_sessions", "invalid:features_used", "invalid:usage_pct", "invalid:last_active"},
    "support": {
        *("invalid:total_tickets", "invalid:open_tickets", "invalid:last_ticket_date"),
        *("invalid:nps_score", "invalid:csat_score"),
    },
}


def test_two_percent_dirt_in_2000_rows_shows_every_kind_of_it(tmp_path: Path) -> None:
    """People try the quarantine with the sample: a kind of dirt that is missing looks like one that is handled."""
    generate_sample(tmp_path, rows=2_000, seed=42, dirty=0.02)
    expected = oracle.expect(tmp_path, 3)
    reasons = {name: {row.reason for row in expected.quarantine if row.source == name} for name in _NAMES}
    assert reasons == {name: _REASONS | _INVALID[name] for name in _NAMES}
    assert len(expected.profiles) == 2_000

    contents = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name for name, data in contents.items() if data.startswith(b"\xef\xbb\xbf")} == {"crm", "support"}
    for data in contents.values():
        assert b"\r\n" in data
        assert b"\n\n" in data
        assert b"\0" in data
        assert b"\r" in data.replace(b"\r\n", b"")
        assert "東京 🚀".encode() in data
        with pytest.raises(UnicodeDecodeError):
            data.decode()
        assert any(is_sound and b"\n" in raw for _, raw, is_sound in oracle.physical_records(data))
        assert any(not is_sound and b',"note: ' in raw for _, raw, is_sound in oracle.physical_records(data))


@pytest.mark.parametrize("dirty", [0.02, 0.1, 0.5])
def test_about_the_asked_share_of_rows_is_dirty(tmp_path: Path, dirty: float) -> None:
    generate_sample(tmp_path, rows=2_000, seed=4, dirty=dirty)
    for account in oracle.expect(tmp_path, 3).accounts.values():
        assert 0.4 * dirty < account.rows_quarantined / account.rows_in < 0.8 * dirty
