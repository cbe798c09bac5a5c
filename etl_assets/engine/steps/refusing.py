"""What is noted of exports and merges that were refused: `refused.json` and `refused_merge.json`, for `status`.

One function writes each, whatever the error is: every refusal of a source is a block of `refusing`, and every one of a
merge a block of `refusing_merge`.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.holding import sweep_replaced
from etl_assets.engine.published.refused_merge import RefusedMerge
from etl_assets.engine.published.snapshots import Refused, Snapshot
from etl_assets.errors import AccountingError, CheckError, EtlError, ShrunkError, StoppedError, WriteError, shown

_LOG = logging.getLogger(__name__)
# What the same shards would be refused for again. What is wrong with a shard is known from the shard itself.
_OF_THE_RESULT = (AccountingError, CheckError, ShrunkError, WriteError)


@dataclass
class Refusal:
    """What the block knows of the exports when they are refused; it sets `snapshot` once there is one.

    What `holder` holds is released when the refusal is noted: another run sweeps a snapshot that no document names.
    """

    holder: contextlib.ExitStack
    snapshot: Snapshot | None = None


@contextlib.contextmanager
def refusing(home: Home, source: str) -> Iterator[Refusal]:
    """Note an error of the block as the reason why this source's exports were refused, and raise it.

    A refused snapshot stays until the next refusal, so that its quarantine can be inspected. A run that was stopped
    refuses nothing. What was noted goes when exports are accepted (`holding.sweep_accepted`).
    """
    with contextlib.ExitStack() as holder:
        refusal = Refusal(holder)
        try:
            yield refusal
        except StoppedError:
            raise
        except EtlError as error:
            try:
                _note(home, source, error, refusal.snapshot)
            except OSError as failure:
                # Such as a full disk: the error itself says more.
                _LOG.warning("warning: why '%s' was refused cannot be noted (%s).", source, shown(str(failure)))
            raise


@contextlib.contextmanager
def refusing_merge(home: Home, set_hash: str) -> Iterator[None]:
    """Note an error of the block as the reason why these shards were not published, and raise it.

    What was noted goes when the block succeeds.
    """
    try:
        yield
    except _OF_THE_RESULT as error:
        refused = RefusedMerge(set_hash, error.finding, error.kind, datetime.now(UTC))
        try:
            publishing.publish_json(
                home.refused_merge, asdict(refused) | {"refused_at": refused.refused_at.isoformat()}
            )
        except OSError as failure:
            _LOG.warning("warning: why the merge was refused cannot be noted (%s).", shown(str(failure)))
        raise
    sweeping.discard(home.refused_merge)


def _note(home: Home, source: str, error: EtlError, snapshot: Snapshot | None) -> None:
    if not home.root.is_dir():
        # A request that cannot work leaves nothing behind, and its ETL_HOME may be a wrong one.
        return
    refused = Refused(
        snapshot.folder if snapshot else None,
        error.finding,
        error.kind,
        datetime.now(UTC),
        snapshot.reject_ratio if snapshot else None,
    )
    document = asdict(refused) | {"refused_at": refused.refused_at and refused.refused_at.isoformat()}
    publishing.publish_json(home.refused_pointer(source), document, what="pointer")
    # What was refused before goes.
    sweep_replaced(home, source)
