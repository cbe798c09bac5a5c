"""Which errors are repeated, how often, and what a permanent one says."""

import dagster as dg
import duckdb
import pytest

from etl_assets import retry
from etl_assets.engine import errors


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (errors.SourceChangedError("changed"), True),
        (errors.AttemptTimeoutError("slow"), True),
        (errors.InputError("no file"), False),
        (errors.ConfigError("bad setting"), False),
        (errors.StoppedError("stopped"), False),
        (errors.RejectRatioError("too many"), False),
        (errors.ShardSetError("stale"), False),
        (errors.AccountingError("lost a row"), False),
        (PermissionError(13, "denied"), False),
        (OSError(28, "No space left on device"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (MemoryError(), True),
        (duckdb.IOException("lock"), True),
        (duckdb.OutOfMemoryException("memory"), True),
        (duckdb.InterruptException("interrupted"), True),
        (duckdb.TransactionException("conflict"), True),
        (duckdb.SerializationException("damaged"), True),
        (duckdb.ConnectionException("gone"), True),
        (duckdb.BinderException("no such column"), False),
        (duckdb.InternalException("defect"), False),
        (ValueError("defect"), False),
        (AssertionError("defect"), False),
        (KeyError("defect"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_repeated_when_that_can_help_and_only_then(error: Exception, transient: bool) -> None:
    """Fails: a hopeless error is told ten seconds late, or a passing one costs a shard."""
    assert retry.is_transient(error) is transient


def test_every_class_of_the_table_has_a_row_above() -> None:
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EtlError)}
    listed = {kind for kind, _ in retry._TRANSIENT}
    assert own - listed == {errors.EtlError}


def test_the_waits_are_exponential_with_jitter() -> None:
    policy = retry.shard_retry_policy()
    assert (policy.max_retries, policy.delay, policy.backoff, policy.jitter) == (
        3,
        1.5,
        dg.Backoff.EXPONENTIAL,
        dg.Jitter.PLUS_MINUS,
    )
    for number, wait in ((1, 1.5), (2, 4.5), (3, 10.5)):
        assert wait * 0.0 <= policy.calculate_delay(number) <= wait * 2


def test_a_permanent_error_becomes_a_failure_that_says_what_to_do() -> None:
    with pytest.raises(dg.Failure) as raised, retry.explained_failures():
        raise errors.InputError("crm.csv is empty. Export it again.")
    assert raised.value.description == "crm.csv is empty. Export it again."
    assert raised.value.allow_retries is False
    assert isinstance(raised.value.__cause__, errors.InputError)


def test_a_transient_error_passes_as_it_is() -> None:
    with pytest.raises(OSError, match="disk"), retry.explained_failures():
        raise OSError(5, "disk")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_an_interrupt_ends_the_step_for_good(interrupt: type[BaseException]) -> None:
    """Fails: Dagster repeats the step of a run that somebody terminated."""
    with pytest.raises(dg.Failure) as raised, retry.cancelled_for_good():
        raise interrupt
    assert raised.value.allow_retries is False
