"""Environment variables: what they default to, and what a person reads when one is wrong."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.project.settings import Settings, declared_in, load_settings, table, unknown_variables, variable


def refusal(**environment: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(environment)
    return caught.value


def test_without_any_variable_the_defaults_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_settings({})
    assert (found.sources, found.home) == (tmp_path / "data" / "sources", tmp_path / "data")
    assert (found.project, found.dagster_home) == (None, None)
    assert (found.num_shards, found.max_reject_ratio, found.memory_limit) == (10, 0.05, 700)
    assert (found.shard_timeout_s, found.source_timeout_s, found.max_unpacked) == (1800, 3600, 16 * 1024)
    assert found.workers == min(os.cpu_count() or 1, 8)
    assert (found.fault, found.chaos_fail_shard, found.env, found.is_production) == ("", "", "", False)


def test_every_variable_is_read() -> None:
    found = load_settings(
        {
            "ETL_PROJECT": "/project",
            "ETL_SOURCES": "/exports",
            "ETL_HOME": "/pipeline",
            "ETL_NUM_SHARDS": "64",
            "ETL_MAX_REJECT_RATIO": "0.25",
            "ETL_WORKERS": "3",
            "ETL_MEMORY_LIMIT": "3GB",
            "ETL_SHARD_TIMEOUT_S": "0",
            "ETL_SOURCE_TIMEOUT_S": "60",
            "ETL_MAX_UNPACKED": "64MB",
            "DAGSTER_HOME": "/instance",
            "ETL_FAULT": "sweep slow",
            "CHAOS_FAIL_SHARD": "3",
            "ETL_ENV": " Production ",
        }
    )
    aliased: dict[str, Any] = {"DAGSTER_HOME": Path("/instance"), "CHAOS_FAIL_SHARD": "3"}
    assert found == Settings(
        project=Path("/project"),
        sources=Path("/exports"),
        home=Path("/pipeline"),
        num_shards=64,
        max_reject_ratio=0.25,
        workers=3,
        memory_limit=3072,
        shard_timeout_s=0,
        source_timeout_s=60,
        max_unpacked=64,
        fault="sweep slow",
        env=" Production ",
        **aliased,
    )
    assert found.is_production


@pytest.mark.parametrize("empty", ["", "  ", "\t"])
def test_an_empty_variable_counts_as_unset(empty: str) -> None:
    """Fails: `ETL_HOME=` in a .env file makes the root of the file system the home."""
    names = [variable(name) for name in Settings.model_fields]
    assert load_settings(dict.fromkeys(names, empty)) == load_settings({})


def test_the_environment_is_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("7", "8"):
        monkeypatch.setenv("ETL_NUM_SHARDS", number)
        assert load_settings().num_shards == int(number)


def test_an_environment_that_is_passed_is_the_only_one_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a test's or another project's environment decides how this one runs."""
    monkeypatch.setenv("ETL_NUM_SHARDS", "7")
    assert load_settings({}).num_shards == 10
    assert Settings().num_shards == 7
    refusal(ETL_NUM_SHARDS="none")
    assert Settings().num_shards == load_settings().num_shards == 7


def test_no_env_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a file in the folder where a command happens to be started decides what it does."""
    (tmp_path / ".env").write_text("ETL_NUM_SHARDS=3\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings({}).num_shards == 10


def test_relative_folders_are_those_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a worker that starts in another folder builds another home."""
    monkeypatch.chdir(tmp_path)
    found = load_settings({"ETL_HOME": "here", "ETL_SOURCES": "there"})
    monkeypatch.chdir("/")
    assert (found.home, found.sources) == (tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize("name", ["ETL_HOME", "ETL_SOURCES", "ETL_PROJECT", "DAGSTER_HOME"])
def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Fails: `ETL_HOME=~/pipeline` in a file that no shell reads makes a folder called `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    field = next(field for field in Settings.model_fields if variable(field) == name)
    assert getattr(load_settings({name: "~/pipeline"}), field) == tmp_path / "pipeline"


@pytest.mark.parametrize("value", ["home [prod]", "[/x]", "größe", "a b"])
def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({"ETL_HOME": value}).home == (tmp_path / value).absolute()


@pytest.mark.parametrize("value", ["0", "1001", "-1", "ten", "10.0", "1e2", "0x10", "1_0", "١٠"])
def test_a_wrong_number_of_shards_says_what_is_right(value: str) -> None:
    error = refusal(ETL_NUM_SHARDS=value)
    assert error.finding == f"ETL_NUM_SHARDS must be a whole number from 1 to 1000, found {value!r}."
    assert (error.subject, error.advice) == ("ETL_NUM_SHARDS", (Advice(Action.SET, "ETL_NUM_SHARDS", "10"),))


@pytest.mark.parametrize("value", ["0", "65", "all", "2.5"])
def test_a_wrong_number_of_workers_says_what_is_right(value: str) -> None:
    error = refusal(ETL_WORKERS=value)
    assert error.finding == f"ETL_WORKERS must be a whole number from 1 to 64, found {value!r}."
    # The default as it is shown is no value that could be pasted.
    assert error.advice == (Advice(Action.SET, "ETL_WORKERS", str(min(os.cpu_count() or 1, 8))),)


@pytest.mark.parametrize("value", ["5%", "1.5", "-0.1", "nan", "inf", "1e-2", "0,05", "half"])
def test_a_wrong_reject_ratio_says_what_is_right(value: str) -> None:
    """Fails: `ETL_MAX_REJECT_RATIO=nan` lets every share of rejects pass."""
    error = refusal(ETL_MAX_REJECT_RATIO=value)
    assert error.finding == f"ETL_MAX_REJECT_RATIO must be a share from 0 to 1, found {value!r}."
    assert error.advice == (Advice(Action.SET, "ETL_MAX_REJECT_RATIO", "0.05"),)


@pytest.mark.parametrize("name", ["ETL_MEMORY_LIMIT", "ETL_MAX_UNPACKED"])
@pytest.mark.parametrize("value", ["1024", "63MB", "0GB", "-1GB", "1.5GB", "2TB", "2GiB", "lots", "MB"])
def test_a_wrong_size_says_what_is_right(name: str, value: str) -> None:
    error = refusal(**{name: value})
    assert error.finding == f"{name} must be a size of at least 64MB like 512MB or 2GB, found {value!r}."
    default = {"ETL_MEMORY_LIMIT": "700MB", "ETL_MAX_UNPACKED": "16384MB"}[name]
    assert error.advice == (Advice(Action.SET, name, default),)


@pytest.mark.parametrize("value", ["-1", "soon", "604801", "1.5"])
def test_a_wrong_time_limit_says_what_is_right(value: str) -> None:
    error = refusal(ETL_SHARD_TIMEOUT_S=value)
    assert error.finding == f"ETL_SHARD_TIMEOUT_S must be a whole number from 0 to 604800, found {value!r}."


def test_all_wrong_variables_are_named_at_once() -> None:
    """Fails: a person corrects one variable after another, and starts the command each time."""
    error = refusal(ETL_NUM_SHARDS="many", ETL_HOEM="x", ETL_MEMORY_LIMIT="lots", ETL_WORKERS="0", ETL_NUM_SHARD="3")
    assert error.finding.splitlines() == [
        "ETL_HOEM is set, and there is no such setting: did you mean ETL_HOME?",
        "ETL_NUM_SHARD is set, and there is no such setting: did you mean ETL_NUM_SHARDS?",
        "ETL_NUM_SHARDS must be a whole number from 1 to 1000, found 'many'.",
        "ETL_WORKERS must be a whole number from 1 to 64, found '0'.",
        "ETL_MEMORY_LIMIT must be a size of at least 64MB like 512MB or 2GB, found 'lots'.",
    ]
    assert {advice.setting for advice in error.advice if advice.action is Action.SET} == {
        *("ETL_HOME", "ETL_NUM_SHARDS", "ETL_WORKERS", "ETL_MEMORY_LIMIT"),
    }


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("ETL_SHARDS", "ETL_NUM_SHARDS"),
        ("ETL_SOURCE", "ETL_SOURCES"),
        ("ETL_WORKER", "ETL_WORKERS"),
        ("ETL_MEM_LIMIT", "ETL_MEMORY_LIMIT"),
        ("ETL_MAX_REJECTS_RATIO", "ETL_MAX_REJECT_RATIO"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest_one(misspelt: str, meant: str) -> None:
    """Fails: `ETL_SHARDS=64` has no effect, and there is no warning."""
    error = refusal(**{misspelt: "64"})
    assert error.finding == f"{misspelt} is set, and there is no such setting: did you mean {meant}?"
    assert error.subject == misspelt
    assert error.advice == (Advice(Action.UNSET, misspelt), Advice(Action.SET, meant, "64"))


@pytest.mark.parametrize("name", ["ETL_ASSETS_ORIGIN", "ETL_TEAM_CONTACT", "ETLX", "HOME", "MY_ETL_HOME"])
def test_a_name_that_looks_like_no_setting_is_left_alone(name: str) -> None:
    """Fails: another program's variables stop this one."""
    assert load_settings({name: "x"}) == load_settings({})


def test_unknown_names_are_those_that_begin_as_settings_do() -> None:
    environment = dict.fromkeys(["ETL_ZZZ", "ETL_HOME", "ETL_AAA", "ETL_ASSETS_X", "PATH", "CHAOS_FAIL_SHARDS"], "x")
    assert unknown_variables(environment) == ["ETL_AAA", "ETL_ZZZ"]


@pytest.mark.parametrize(
    ("value", "memory_mb"), [("64MB", 64), ("512mb", 512), ("2 GB", 2048), (" 1gb ", 1024), ("64 Mb", 64)]
)
def test_a_memory_limit_is_read_as_people_write_it(value: str, memory_mb: int) -> None:
    assert load_settings({"ETL_MEMORY_LIMIT": value}).memory_limit == memory_mb


@pytest.mark.parametrize(("value", "ratio"), [("0", 0.0), ("1", 1.0), ("1.0", 1.0), (".5", 0.5), (" 0.1 ", 0.1)])
def test_the_bounds_of_the_reject_ratio_are_allowed(value: str, ratio: float) -> None:
    assert load_settings({"ETL_MAX_REJECT_RATIO": value}).max_reject_ratio == ratio


def test_settings_cannot_be_changed_or_extended() -> None:
    """Fails: a step changes what a later one is given, or a misspelt argument in code has no effect."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings({}).num_shards = 3
    with pytest.raises(ValidationError, match="num_shard"):
        Settings(num_shard=3)  # type: ignore[call-arg]


def test_the_table_has_a_line_for_every_setting_and_its_defaults_are_true() -> None:
    """Fails: the documentation, which is made from it, says something else than the program does."""
    rows = {name: default for name, default, _ in table()}
    assert list(rows) == [variable(name) for name in Settings.model_fields]
    shown = {name: value for name, value in rows.items() if value not in ("not set", "number of cores, at most 8")}
    # Not set, DAGSTER_HOME is a folder that the instance decides on.
    assert shown.pop("DAGSTER_HOME") == ".dagster"
    assert load_settings(shown) == load_settings({})
    unset = [name for name, value in rows.items() if value == "not set"]
    fields = {variable(name): name for name in Settings.model_fields}
    assert [name for name in unset if getattr(load_settings({}), fields[name])] == []
    assert all(meaning and not meaning.endswith(".") for _, _, meaning in table())


def test_what_is_passed_wins_over_the_environment_and_none_is_left_to_it(tmp_path: Path) -> None:
    """Fails: two projects in one process get one ETL_HOME."""
    environment = {"ETL_NUM_SHARDS": "7", "ETL_HOME": str(tmp_path / "of_environment"), "ETL_WORKERS": "3"}
    settings = load_settings(environment, home=tmp_path / "passed", num_shards=None, memory_limit="2GB")
    assert (settings.home, settings.num_shards) == (tmp_path / "passed", 7)
    assert (settings.workers, settings.memory_limit) == (3, 2048)


def test_what_is_wrong_is_named_as_it_was_given() -> None:
    """Fails: a program passes a bad value, and the message names a variable that is not set."""
    with pytest.raises(ConfigError) as raised:
        load_settings({"ETL_WORKERS": "many"}, num_shards=0, memory_limit="much")
    assert str(raised.value).splitlines() == [
        "num_shards must be a whole number from 1 to 1000, found 0.",
        "ETL_WORKERS must be a whole number from 1 to 64, found 'many'.",
        "memory_limit must be a size of at least 64MB like 512MB or 2GB, found 'much'.",
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("s3://bucket/exports/", "s3://bucket/exports"),
        ("s3://bucket/a,gs://other/b", "s3://bucket/a,gs://other/b"),
        (" s3://bucket/a , /data/my exports", "s3://bucket/a,file:///data/my%20exports"),
        ("/data/x, s3://bucket/a", "file:///data/x,s3://bucket/a"),
        ("file:///data/exports", Path("/data/exports")),
        # A folder's name may have commas.
        ("/data/exports, 2026", Path("/data/exports, 2026")),
    ],
)
def test_exports_may_lie_in_a_store_and_in_several_places(written: str, expected: Path | str) -> None:
    """Fails: a place is read as the name of a folder, or a folder as two places."""
    assert load_settings({"ETL_SOURCES": written}).sources == expected


@pytest.mark.parametrize(
    "written",
    ["s3:/bucket/a", "s3://bucket/a,", "s3://bucket/a,s3://bucket/a", "file:///a,file:///b", "s3://bucket/a b"],
)
def test_places_that_are_none_are_refused(written: str) -> None:
    """Fails: a mistyped URL is a folder that is made, or a part of the exports is left out."""
    with pytest.raises(ConfigError, match="ETL_SOURCES"):
        load_settings({"ETL_SOURCES": written})


def test_a_folder_among_places_is_written_as_from_the_project(tmp_path: Path) -> None:
    """Fails: the project's file means another folder for each folder in which a command is started."""
    (tmp_path / "etl_assets.yaml").write_text("settings:\n  sources: s3://bucket/a,../exports\n")
    assert declared_in(tmp_path)["sources"] == f"s3://bucket/a,{tmp_path.parent / 'exports'}"
