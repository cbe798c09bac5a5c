"""Errors in words for the UI: every piece of advice is something that can be done there."""

import pytest

from etl_assets.errors import Action, Advice, ConfigError, EtlError, ShardSetError
from etl_assets.orchestration.ui_wording import explained

# With the fields that an error of that kind sets.
FIELDS: dict[Action, Advice] = {
    Action.SET: Advice(Action.SET, "ETL_NUM_SHARDS", "10"),
    Action.UNSET: Advice(Action.UNSET, "ETL_FAULT"),
    Action.EDIT: Advice(Action.EDIT, value="sql/profiles.sql"),
    Action.GENERATE: Advice(Action.GENERATE, value="data/sources"),
    Action.ALLOW: Advice(Action.ALLOW, value="crm.csv"),
    Action.REJECTS: Advice(Action.REJECTS, value="crm"),
    Action.INSTALL: Advice(Action.INSTALL, value="etl_assets[lake]"),
    Action.QUERY: Advice(Action.QUERY, value="SELECT 1"),
    Action.CHECK_STORE: Advice(Action.CHECK_STORE, value="s3://bucket/prefix"),
}
ADVICE = [
    *(FIELDS.get(action, Advice(action)) for action in Action),
    Advice(Action.RUN, shards=("shard_01", "shard_07")),
    Advice(Action.SET, "ETL_HOME"),
]
# Of the command `query`, which has no counterpart in the UI.
WITHOUT_WORDS = {Action.QUERY}


@pytest.mark.parametrize("advice", ADVICE, ids=lambda advice: advice.action.name)
def test_every_action_has_words_of_the_ui(advice: Advice) -> None:
    """Fails: a failed run in the UI says nothing of what helps, or names a command of another program."""
    text = explained(EtlError("It is wrong.", advice))
    words = text.removeprefix("It is wrong.").strip()
    assert bool(words) is (advice.action not in WITHOUT_WORDS)
    assert "etl-assets" not in text
    assert "None" not in text
    if words:
        assert words.endswith(".")
        # The values that the advice has are in the words.
        assert all(value in words for value in (advice.setting, advice.value, *advice.shards) if value)


def test_the_finding_comes_first_and_the_likeliest_advice_next() -> None:
    error = ConfigError(
        "No such shard.", Advice(Action.SET, "ETL_NUM_SHARDS", "10"), Advice(Action.RUN_FORCED), subject="shard_9"
    )
    assert explained(error) == (
        "No such shard. Set ETL_NUM_SHARDS to 10. Materialize the sources with force set in their configuration, then "
        "all partitions."
    )


def test_shards_are_named_as_partitions() -> None:
    error = ShardSetError("Two shards are stale.", Advice(Action.RUN, shards=("shard_01", "shard_07")))
    advice = "Materialize these partitions of shard_profiles: shard_01, shard_07; the merge follows."
    assert explained(error) == f"Two shards are stale. {advice}"


def test_an_error_of_another_library_keeps_its_words() -> None:
    assert explained(OSError(5, "the disk said no")) == "[Errno 5] the disk said no"
    assert explained(AssertionError()) == "AssertionError"
