"""What can be said of the lake mode where its libraries are not installed; `etl_assets_tests/lake` has the rest."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from etl_assets.cli.wording import explained
from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.column_types import require_types, schema_json
from etl_assets.engine.lake.store import Store, require_extra
from etl_assets.errors import ConfigError
from etl_assets.pipeline.configuration import exports_of, home_of
from etl_assets.project.settings import load_settings

_LOCAL = """
import sys
import etl_assets.definitions, etl_assets.cli.main, etl_assets.cli.query_command, etl_assets.orchestration.run
import etl_assets.engine.steps.committing
_heavy = {"obstore", "deltalake", "boto3", "ray", "dagster_ray", "dagster_postgres", "psycopg2"}
print(sorted(_heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "url",
    [
        "s3:/bucket",
        "bucket/prefix",
        "s3://",
        "https://bucket/x",
        "s3://bucket/a b",
        "file://relative",
        "s3://b",
        "s3://bucket/../other",
    ],
)
def test_a_url_of_another_form_is_refused_with_one_that_works(url: str) -> None:
    """Fails: the mistake surfaces in the middle of a run, in the words of a library."""
    with pytest.raises(ConfigError, match="ETL_LAKE must be a URL") as caught:
        load_settings({"ETL_LAKE": url})
    assert "export ETL_LAKE=s3://bucket/prefix" in explained(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/prefix/", "gs://bucket/a/b", "az://box", "file:///a/b.c"])
def test_the_url_of_a_store_is_taken(url: str) -> None:
    assert load_settings({"ETL_LAKE": url}).lake == url.rstrip("/")


def test_a_project_can_declare_its_lake(tmp_path: Path) -> None:
    """Fails: every command and every worker needs the variable."""
    (tmp_path / "etl_assets.yaml").write_text("name: any\nsettings: {lake: 's3://bucket/x'}\n")
    assert load_settings({}, tmp_path).lake == "s3://bucket/x"
    assert load_settings({"ETL_LAKE": "s3://other/x"}, tmp_path).lake == "s3://other/x"


@pytest.mark.parametrize(
    "url", ["s3:/bucket", "https://host/exports", "s3://bucket/a b", "abfss://box/x", "s3://bucket/../c"]
)
def test_exports_at_a_url_of_another_form_are_refused(url: str) -> None:
    """Fails: the URL is taken for the name of a folder, which does not exist."""
    with pytest.raises(ConfigError, match="ETL_SOURCES must be a folder, or URLs"):
        load_settings({"ETL_SOURCES": url})


def test_exports_at_a_url_are_read_in_their_copy_and_those_in_a_folder_where_they_are(tmp_path: Path) -> None:
    """Fails: two prefixes share a copy, or a project cannot declare where its exports lie."""
    settings = [
        load_settings({"ETL_SOURCES": url, "ETL_HOME": str(tmp_path)})
        for url in ("s3://bucket/one/", "s3://bucket/two", "file:///exports", "exports")
    ]
    assert [one.sources for one in settings] == [
        "s3://bucket/one",
        "s3://bucket/two",
        Path("/exports"),
        Path("exports").absolute(),
    ]
    one, two, *local = map(exports_of, settings)
    assert one.parent == two.parent == tmp_path / "exports"
    assert one != two
    assert local == [settings[2].sources, settings[3].sources]
    (tmp_path / "etl_assets.yaml").write_text("name: any\nsettings: {sources: 's3://bucket/three'}\n")
    assert load_settings({}, tmp_path).sources == "s3://bucket/three"


def test_without_the_libraries_the_command_that_installs_them_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the user of a small installation meets a ModuleNotFoundError."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="obstore and deltalake are not installed") as caught:
        require_extra()
    assert "pip install 'etl_assets[lake]'" in explained(caught.value)
    with pytest.raises(ConfigError, match="not installed"):
        Store("s3://bucket/prefix")


def test_local_work_imports_none_of_the_libraries() -> None:
    """Fails: everyone pays for what some use, and what starts threads is there before a fork."""
    done = subprocess.run([sys.executable, "-c", _LOCAL], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_lake_has_a_scratch_of_its_own(tmp_path: Path) -> None:
    """Fails: a copy of one lake's result takes the place of another's, or of the local warehouse."""
    homes = [
        home_of(load_settings({"ETL_HOME": str(tmp_path), **lake}))
        for lake in ({}, {"ETL_LAKE": "s3://bucket/a"}, {"ETL_LAKE": "s3://bucket/b"})
    ]
    assert homes[0] == Home(tmp_path)
    assert len({home.root for home in homes}) == 3
    assert [home.is_lake for home in homes] == [False, True, True]


def test_types_that_a_table_cannot_hold_exactly_are_refused_by_name() -> None:
    """Fails: Parquet holds a HUGEINT as a DOUBLE, and sums come back rounded."""
    sound = {"a": "VARCHAR", "b": "DECIMAL(18,2)", "c": "VARCHAR[]", "d": "TIMESTAMP WITH TIME ZONE", "e": "BIGINT"}
    require_types(sound, "sql/profiles.sql")
    assert '"nullable": true' in schema_json(sound)
    with pytest.raises(ConfigError, match="x is HUGEINT; y is UINTEGER\\[\\]"):
        require_types({**sound, "x": "HUGEINT", "y": "UINTEGER[]"}, "sql/profiles.sql")
