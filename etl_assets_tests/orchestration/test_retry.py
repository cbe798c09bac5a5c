"""Which errors are repeated, how often, and what a permanent one says."""

import dagster as dg
import duckdb
import pytest

from etl_assets import errors
from etl_assets.orchestration import retry

EXAMPLES: list[tuple[BaseException, bool]] = [
    (errors.SourceChangedError("changed"), True),
    (errors.AttemptTimeoutError("slow"), True),
    (errors.WriteError("unreadable"), True),
    (errors.StoreError("the store failed"), True),
    (errors.GoneError("gone from the store"), True),
    (errors.InputError("no file"), False),
    (errors.ConfigError("bad setting"), False),
    (errors.StoppedError("stopped"), False),
    (errors.RejectRatioError("too many"), False),
    (errors.ShrunkError("too few"), False),
    (errors.CollapsedError("one id"), False),
    (errors.ShardSetError("stale"), False),
    (errors.DamagedSnapshotError("damaged"), False),
    (errors.AccountingError("lost a row"), False),
    (errors.ProfileError("out of range"), False),
    (errors.CheckError("a blocking check fails"), False),
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
]


@pytest.mark.parametrize(
    ("error", "transient"),
    EXAMPLES,
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_repeated_when_that_can_help_and_only_then(error: BaseException, transient: bool) -> None:
    """Fails: a hopeless error is reported ten seconds late, or a passing one costs a shard."""
    assert retry.is_transient(error) is transient


def test_every_row_of_the_table_decides_one_of_the_errors_above() -> None:
    """Fails: a row that an earlier one shadows reads like a decision and is none."""
    decided = {next((kind for kind, _ in retry._TRANSIENT if isinstance(error, kind)), None) for error, _ in EXAMPLES}
    assert decided == {kind for kind, _ in retry._TRANSIENT} | {None}


def test_every_error_of_the_engine_has_a_row() -> None:
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EtlError)}
    assert own - {kind for kind, _ in retry._TRANSIENT} == {errors.EtlError}


@pytest.mark.parametrize("error", [OSError(5, "disk"), errors.ConfigError("bad setting")])
def test_an_attempt_is_followed_by_another_as_often_as_the_policy_says(error: Exception) -> None:
    """Fails: the display says that a step is retried, and it was the last attempt."""
    made = []

    @dg.op(retry_policy=retry.shard_retry_policy(0))
    def step(context: dg.OpExecutionContext) -> None:
        made.append(retry.is_retried(error, context.retry_number + 1))
        with retry.explained_failures():
            raise error

    @dg.job
    def work() -> None:
        step()

    assert not work.execute_in_process(raise_on_error=False).success
    assert made == ([True] * retry.MAX_RETRIES + [False] if retry.is_transient(error) else [False])


def test_the_waits_are_exponential_with_jitter() -> None:
    policy = retry.shard_retry_policy()
    assert (policy.max_retries, policy.delay, policy.backoff, policy.jitter) == (
        3,
        1.5,
        dg.Backoff.EXPONENTIAL,
        dg.Jitter.PLUS_MINUS,
    )
    for number, wait in ((1, 1.5), (2, 4.5), (3, 10.5)):
        drawn = [policy.calculate_delay(number) for _ in range(200)]
        assert wait - 1.5 <= min(drawn) < wait - 0.5
        assert wait + 0.5 < max(drawn) <= wait + 1.5
        assert abs(sum(drawn) / len(drawn) - wait) < 0.5


def test_the_wait_can_be_left_out_for_tests() -> None:
    assert [retry.shard_retry_policy(0).calculate_delay(number) for number in (1, 2, 3)] == [0, 0, 0]


def test_a_permanent_error_becomes_a_failure_that_says_what_to_do() -> None:
    error = errors.InputError("crm.csv is empty.", errors.Advice(errors.Action.EXPORT_AGAIN), subject="crm")
    with pytest.raises(dg.Failure) as raised, retry.explained_failures():
        raise error
    assert raised.value.description == "crm.csv is empty. Export it again, then materialize the source."
    assert raised.value.allow_retries is False
    assert raised.value.metadata["error_class"].value == "InputError"
    assert raised.value.__cause__ is error


def test_a_permanent_error_without_words_is_named_by_its_class() -> None:
    """Fails: an empty red box in the UI."""
    assert retry.permanent_failure(AssertionError()).description == "AssertionError"


def test_a_transient_error_passes_as_it_is() -> None:
    with pytest.raises(OSError, match="disk"), retry.explained_failures():
        raise OSError(5, "disk")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_an_interrupt_ends_the_step_for_good(interrupt: type[BaseException]) -> None:
    """Fails: Dagster repeats the step of a run that a person terminated."""
    with pytest.raises(dg.Failure) as raised, retry.cancelled_for_good():
        raise interrupt
    assert raised.value.allow_retries is False
