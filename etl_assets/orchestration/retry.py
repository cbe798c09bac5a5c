"""Decides which errors are transient, and how often and how soon an attempt is repeated.

Transient errors (the machine, the storage, a file that changed during the run) are raised as they are, and the
RetryPolicy repeats the step. Permanent ones (contract, configuration, defects) become a Failure that stops at once and
says what to do: repeating them would only delay that message. A killed worker raises nothing; run-level retries in
dagster.yaml cover it. The merge has no policy: it reads what is published, and a sensor asks for it again when that
changes.
"""

import contextlib
from collections.abc import Iterator

import dagster as dg
import duckdb

from etl_assets.errors import (
    AccountingError,
    AttemptTimeoutError,
    CheckError,
    CollapsedError,
    ConfigError,
    DamagedSnapshotError,
    GoneError,
    InputError,
    ProfileError,
    RejectRatioError,
    ShardSetError,
    ShrunkError,
    SourceChangedError,
    StoppedError,
    StoreError,
    WriteError,
)
from etl_assets.orchestration.ui_wording import explained

MAX_RETRIES = 3
FIRST_DELAY_S = 1.5

# Looked up in order: the first class an error is an instance of decides. What is not listed is a defect: permanent.
_TRANSIENT: tuple[tuple[type[BaseException], bool], ...] = (
    (SourceChangedError, True),
    (InputError, False),
    (ConfigError, False),
    (StoppedError, False),
    (DamagedSnapshotError, False),
    (AttemptTimeoutError, True),
    (RejectRatioError, False),
    (ShrunkError, False),
    (CollapsedError, False),
    (ShardSetError, False),
    (AccountingError, False),
    (ProfileError, False),
    (CheckError, False),
    (WriteError, True),
    # A newer snapshot may have taken its place.
    (GoneError, True),
    (StoreError, True),
    (PermissionError, False),
    (OSError, True),
    (duckdb.IOException, True),
    (duckdb.OutOfMemoryException, True),
    (duckdb.InterruptException, True),
    (duckdb.TransactionException, True),
    (duckdb.SerializationException, True),
    (duckdb.ConnectionException, True),
    (MemoryError, True),
)


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help."""
    return next((transient for kind, transient in _TRANSIENT if isinstance(error, kind)), False)


def is_retried(error: BaseException, attempt: int) -> bool:
    """Whether another attempt follows this one, counted from 1, under `shard_retry_policy`."""
    return is_transient(error) and attempt <= MAX_RETRIES


def permanent_failure(error: BaseException) -> dg.Failure:
    """The Failure to raise `from` a permanent error: no retries, and the error's own words in the UI."""
    return dg.Failure(
        description=explained(error),
        metadata={"error_class": type(error).__name__},
        allow_retries=False,
    )


def shard_retry_policy(delay_s: float = FIRST_DELAY_S) -> dg.RetryPolicy:
    """Three retries after 1.5, 4.5 and 10.5 s, each ± up to 1.5 s, so that shards do not come back in step.

    Dagster's exponential backoff is (2^n − 1) × delay, its jitter ± delay; `delay_s` is a parameter because it really
    sleeps.
    """
    return dg.RetryPolicy(
        max_retries=MAX_RETRIES, delay=delay_s, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
    )


@contextlib.contextmanager
def explained_failures() -> Iterator[None]:
    """Let transient errors pass, to be retried; turn permanent ones into a Failure that says what to do."""
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise
        raise permanent_failure(error) from error


@contextlib.contextmanager
def cancelled_for_good() -> Iterator[None]:
    """End a cancelled run: Dagster repeats even an interrupted step that has a RetryPolicy, unless this forbids it.

    The run still counts as cancelled, not as failed, when it was terminated in the UI.
    """
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        raise dg.Failure(
            "Cancelled. What was finished is kept, nothing else is published.", allow_retries=False
        ) from error
