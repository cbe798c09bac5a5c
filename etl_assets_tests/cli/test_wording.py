"""The engine's advice in words: every kind of it is a sentence, with a command wherever a command helps."""

import shlex
from dataclasses import replace

import pytest

from etl_assets.cli import main, program, wording
from etl_assets.cli.arguments import Parser
from etl_assets.errors import Action, Advice, ConfigError, EtlError

HOSTILE = "it's; rm -rf $HOME"
# An example of each action, and the command that its sentence ends with; None where no command can help.
EXAMPLES: dict[Action, tuple[Advice, list[str] | None]] = {
    Action.RUN: (
        Advice(Action.RUN, shards=("shard_03", "shard_07")),
        ["etl-assets", "run", "--shards", "shard_03,shard_07"],
    ),
    Action.RUN_FORCED: (Advice(Action.RUN_FORCED), ["etl-assets", "run", "--force"]),
    Action.STAGE: (Advice(Action.STAGE), ["etl-assets", "run"]),
    Action.GENERATE: (
        Advice(Action.GENERATE, value=HOSTILE),
        ["etl-assets", "generate", "--rows", "100000", "--out", HOSTILE],
    ),
    Action.EXPORT_AGAIN: (Advice(Action.EXPORT_AGAIN), ["etl-assets", "run"]),
    Action.SET: (Advice(Action.SET, "ETL_HOME", HOSTILE), ["export", f"ETL_HOME={HOSTILE}"]),
    Action.UNSET: (Advice(Action.UNSET, "ETL_FAULT"), ["unset", "ETL_FAULT"]),
    Action.EDIT: (Advice(Action.EDIT, value="sql/profiles.sql"), None),
    Action.REPORT: (Advice(Action.REPORT), None),
    Action.RELEASE: (Advice(Action.RELEASE), ["etl-assets", "restore", "--release"]),
    Action.LIST_KEPT: (Advice(Action.LIST_KEPT), ["etl-assets", "restore", "--list"]),
    Action.REJECTS: (Advice(Action.REJECTS, value="crm"), ["etl-assets", "rejects", "crm"]),
    Action.QUERY: (Advice(Action.QUERY, value="SELECT '1'"), ["etl-assets", "query", "SELECT '1'"]),
    Action.ACCEPT_SHRUNK: (Advice(Action.ACCEPT_SHRUNK), ["etl-assets", "run", "--accept-shrunk"]),
    Action.ALLOW: (Advice(Action.ALLOW, value="crm.csv"), None),
    Action.INSTALL: (Advice(Action.INSTALL, value="etl_assets[lake]"), ["pip", "install", "etl_assets[lake]"]),
    Action.CHECK_DISK: (Advice(Action.CHECK_DISK), ["etl-assets", "run"]),
    Action.CHECK_STORE: (Advice(Action.CHECK_STORE, value="s3://bucket/x"), ["etl-assets", "run"]),
}


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are named without their folder."""
    monkeypatch.setattr(program, "program", lambda: "etl-assets")


def _sentence(advice: Advice) -> str:
    return wording.advised("", [advice]).strip()


def test_no_action_lacks_words() -> None:
    """An action without them would leave its error without help."""
    assert EXAMPLES.keys() == set(Action)
    sentences = {action: _sentence(advice) for action, (advice, _) in EXAMPLES.items()}
    assert [action for action, sentence in sentences.items() if len(sentence.split()) < 2] == []
    assert "None" not in " ".join(sentences.values())


@pytest.mark.parametrize("action", [action for action, (_, command) in EXAMPLES.items() if command])
def test_the_command_of_a_sentence_can_be_pasted_whatever_its_values(action: Action) -> None:
    """A folder with a blank or a quote in its name gave a command that did something else."""
    advice, command = EXAMPLES[action]
    assert shlex.split(_sentence(advice).partition(": ")[2]) == command


@pytest.mark.parametrize("action", [action for action, (_, command) in EXAMPLES.items() if command])
def test_a_command_of_this_program_is_one_that_it_takes(action: Action) -> None:
    command = EXAMPLES[action][1] or []
    if command[0] == "etl-assets":
        parser = Parser(prog="etl-assets")
        main.subcommand_named(command[1]).add_parser(parser.add_subparsers())
        parser.parse_args(command[1:])


def test_a_setting_without_a_value_that_works_is_named() -> None:
    assert _sentence(Advice(Action.SET, "ETL_SOURCES")) == "Change the setting ETL_SOURCES."


def test_one_thing_that_helps_stands_behind_the_finding() -> None:
    error = EtlError("1 shard is stale.", Advice(Action.RUN))
    assert wording.explained(error) == "1 shard is stale. Run: etl-assets run"
    assert wording.explained(EtlError("1 shard is stale.\n")) == "1 shard is stale."


def test_several_things_that_help_have_a_line_each() -> None:
    """In one line no one sees where a command ends: "Try: export ETL_NUM_SHARDS=3 Set ETL_HOME"."""
    error = ConfigError(
        "Published from 3 shards.", Advice(Action.SET, "ETL_NUM_SHARDS", "3"), Advice(Action.RUN_FORCED)
    )
    assert wording.explained(error).splitlines() == [
        "Published from 3 shards.",
        "  Try: export ETL_NUM_SHARDS=3",
        "  Rebuild it: etl-assets run --force",
    ]


def test_what_helps_is_not_written_into_the_last_line_of_a_list() -> None:
    error = ConfigError("etl_assets.yaml is wrong:\n  line 3: no name", Advice(Action.EDIT, value="etl_assets.yaml"))
    assert wording.explained(error).splitlines()[1:] == ["  line 3: no name", "  Change etl_assets.yaml."]


@pytest.mark.parametrize(("error", "text"), [(KeyError("x"), "KeyError: 'x'"), (RuntimeError(), "RuntimeError")])
def test_an_unforeseen_error_says_what_it_is(error: Exception, text: str) -> None:
    """A KeyError's own text is the key and nothing else."""
    assert wording.explained(error) == text


def test_without_shards_all_of_them_are_run() -> None:
    advice = replace(EXAMPLES[Action.RUN][0], shards=())
    assert _sentence(advice) == "Run: etl-assets run"
