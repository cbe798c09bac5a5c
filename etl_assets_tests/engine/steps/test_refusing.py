"""What is noted of refused exports, and when it goes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl_assets.engine.published.refused_merge import read_refused_merge
from etl_assets.engine.published.snapshots import Refused, read_refused, refused_folder
from etl_assets.engine.site import Site
from etl_assets.engine.steps.refusing import refusing, refusing_merge
from etl_assets.errors import CheckError, InputError, RejectRatioError, ShardSetError, StoppedError
from etl_assets_tests.engine.steps.product_exports import stage, write
from etl_assets_tests.factory import row


def test_too_many_rejects_are_noted_with_folder_share_and_time(sources: Path, site: Site) -> None:
    """Fails: nobody can say later which source failed, when, why and with which share."""
    write(sources, row(""), row("a"), row("b"), row("c"))
    with pytest.raises(RejectRatioError) as caught:
        stage(sources, site, max_reject_ratio=0.1)
    refused = read_refused(site.home, "product")
    assert refused is not None
    assert refused.folder is not None
    assert site.home.snapshot("product", refused.folder).is_dir()
    assert (refused.finding, refused.kind, refused.share) == (caught.value.finding, "reject_ratio", 0.25)
    assert refused.refused_at is not None
    assert timedelta() <= datetime.now(UTC) - refused.refused_at < timedelta(minutes=10)


def test_a_bad_header_is_noted_without_a_folder(sources: Path, site: Site) -> None:
    """Fails: exports that no snapshot was made of pass for ones that did not fail; or the older rejects for theirs."""
    write(sources, row(""))
    with pytest.raises(RejectRatioError):
        stage(sources, site, max_reject_ratio=0.1)
    older = refused_folder(site.home, "product")
    assert older is not None
    (sources / "product.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError) as caught:
        stage(sources, site)
    refused = read_refused(site.home, "product")
    assert refused is not None
    assert (refused.folder, refused.kind, refused.share) == (None, "input", None)
    assert refused.finding == caught.value.finding
    assert not site.home.snapshot("product", older).exists()


def test_what_was_noted_goes_when_exports_are_accepted(sources: Path, site: Site) -> None:
    """Fails: a source that was mended is reported as failed for ever."""
    (sources / "product.csv").write_text("a,b\n1,2\n")
    site.home.root.mkdir()
    with pytest.raises(InputError):
        stage(sources, site)
    assert read_refused(site.home, "product") is not None
    write(sources, row("a"))
    stage(sources, site)
    assert read_refused(site.home, "product") is None


def test_documents_of_earlier_releases_are_read(sources: Path, site: Site) -> None:
    """Fails: after an upgrade the rejects of the last failure cannot be shown, and are swept."""
    write(sources, row("a"))
    stage(sources, site)
    site.home.refused_pointer("product").write_text('{"folder": "0123456789abcdef"}')
    assert read_refused(site.home, "product") == Refused("0123456789abcdef")


def test_nothing_is_noted_of_a_run_that_was_stopped_or_of_a_home_that_does_not_exist(site: Site) -> None:
    """Fails: a cancelled run counts as a bad export, or a mistyped ETL_HOME is made by a run that cannot work."""
    with pytest.raises(InputError), refusing(site.home, "product"):
        raise InputError("bad")
    assert not site.home.root.exists()
    site.home.root.mkdir()
    with pytest.raises(StoppedError), refusing(site.home, "product"):
        raise StoppedError("stopped")
    assert read_refused(site.home, "product") is None


def test_a_refused_result_is_noted_with_its_shards_until_a_merge_publishes(site: Site) -> None:
    """Fails: no one can say later why the warehouse stayed as it was, or it is said of a merge that was published."""
    site.home.root.mkdir()
    with pytest.raises(CheckError), refusing_merge(site.home, "a-set"):
        raise CheckError("a check fails\n  mine: 1 failing row")
    refused = read_refused_merge(site.home)
    assert refused is not None
    assert (refused.set_hash, refused.kind) == ("a-set", "check")
    assert refused.finding == "a check fails\n  mine: 1 failing row"
    assert timedelta() <= datetime.now(UTC) - refused.refused_at < timedelta(minutes=10)
    for other in (StoppedError("stopped"), ShardSetError("a shard is missing")):
        with pytest.raises(type(other)), refusing_merge(site.home, "another-set"):
            raise other
    assert read_refused_merge(site.home) == refused
    with refusing_merge(site.home, "a-set"):
        pass
    assert read_refused_merge(site.home) is None


def test_a_merge_whose_refusal_cannot_be_noted_raises_it_all_the_same(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.home.root.write_text("a file where the folder should be")
    with pytest.raises(CheckError, match="a check fails"), refusing_merge(site.home, "a-set"):
        raise CheckError("a check fails")
    assert "cannot be noted" in caplog.text


def test_a_refusal_that_cannot_be_noted_is_raised_all_the_same(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Fails: on a full disk the error of the export is hidden by one about a small file."""
    site.home.root.mkdir()
    site.home.staged.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="bad header"), refusing(site.home, "product"):
        raise InputError("bad header")
    assert "cannot be noted" in caplog.text
