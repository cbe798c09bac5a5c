"""`ProfilesComponent` in someone else's `dg` project: several instances, each with settings of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.scaffold.scaffold import NoParams
from pydantic import ValidationError

import etl_assets
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.errors import ConfigError
from etl_assets.orchestration.component import ProfilesComponent, ProfilesScaffolder
from etl_assets.project.loading import load_project, shipped_folder
from etl_assets_tests import dg_projects
from etl_assets_tests.command_line import environment
from etl_assets_tests.dg_projects import CHECKOUT, DgProject, names
from etl_assets_tests.factory import PROJECT, PROJECT_FOLDER, row, write_exports

SOURCES = PROJECT.contract.source_names
ASSETS = {*SOURCES, "shard_profiles", "merged_profiles"}
OTHERS = {"download_crm", "mailing"}
# Dagster gives this warning about itself: it makes the checks of every component again, with a parameter in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `execution_type` of function `AssetsDefinition.__init__`")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DgProject:
    """An empty dg project, while the environment names the settings of something else."""
    for name in ("ETL_HOME", "ETL_SOURCES", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("ETL_NUM_SHARDS", "7")
    return dg_projects.importable(dg_projects.write(tmp_path / "shop"), monkeypatch)


@pytest.fixture
def two(shop: DgProject) -> DgProject:
    """Two instances with exports of their own, three customers in one and five in the other."""
    shop.add("customers", home="data/customers", sources="exports/a", key_prefix=["customers"], num_shards=2)
    shop.add("emea/suppliers", home="data/suppliers", sources="exports/b", key_prefix="emea/suppliers", num_shards=3)
    write_exports(shop.root / "exports/a", crm=[row(name) for name in "abc"])
    write_exports(shop.root / "exports/b", crm=[row(name) for name in "defgh"])
    return shop


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def keys(defs: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}


def cause(error: BaseException | None, kind: type[Exception] = ConfigError) -> BaseException:
    """The error that Dagster has wrapped."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    assert error is not None
    return error


def test_two_instances_live_beside_other_assets(two: DgProject) -> None:
    """Fails: a second instance, or the first one, keeps someone's whole project from loading."""
    defs = two.load()
    dg.Definitions.validate_loadable(defs)
    prefixes = ("customers", "emea/suppliers")
    assert keys(defs) == OTHERS | {f"{prefix}/{name}" for prefix in prefixes for name in ASSETS}
    assert names(defs) == {
        "jobs": [f"{prefix}_{name}" for prefix in ("customers", "emea_suppliers") for name in JOBS],
        "sensors": [f"{prefix}_{name}" for prefix in ("customers", "emea_suppliers") for name in SENSORS],
        "schedules": ["customers_daily_refresh", "emea_suppliers_daily_refresh"],
    }
    graph = defs.resolve_asset_graph()
    checks = [(key.asset_key, key.name) for key in graph.asset_check_keys]
    assert len(checks) == len(set(checks)) == 2 * (len(SOURCES) + 2 + 6)
    assert graph.get(dg.AssetKey("mailing")).parent_keys == {dg.AssetKey(["customers", "merged_profiles"])}


JOBS = ("rebuild_shards", "refresh_sources")
SENSORS = ("publish_when_complete", "rebuild_stale_shards", "refresh_when_exports_change")


def test_the_settings_of_an_instance_win_over_the_environment(
    two: DgProject, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Fails: two instances write into one ETL_HOME, or read the exports of something else."""
    defs = two.load()
    job = defs.resolve_implicit_global_asset_job_def()
    for prefix, shards in (("customers", 2), ("emea/suppliers", 3)):
        tags = {
            "dagster/asset_partition_range_start": "shard_00",
            "dagster/asset_partition_range_end": f"shard_{shards - 1:02}",
        }
        for wanted, range_tags in ((SOURCES, {}), (("shard_profiles",), tags), (("merged_profiles",), {})):
            selected = [dg.AssetKey([*prefix.split("/"), name]) for name in wanted]
            assert job.execute_in_process(instance=instance, asset_selection=selected, tags=range_tags).success
    published = {name: read_publication(Home(two.root / "data" / name)) for name in ("customers", "suppliers")}
    assert {name: (found.record_count, found.shard_count) for name, found in published.items() if found} == {
        "customers": (3, 2),
        "suppliers": (5, 3),
    }
    assert not (tmp_path / "elsewhere").exists()


def test_what_an_instance_does_not_set_is_read_from_the_environment(shop: DgProject) -> None:
    shop.add("customers", home="data")
    partitions = shop.load().resolve_asset_graph().get(dg.AssetKey("shard_profiles")).partitions_def
    assert partitions is not None
    assert len(partitions.get_partition_keys()) == 7


def test_two_instances_with_one_home_are_refused_by_name(shop: DgProject) -> None:
    """Fails: after a copied defs.yaml, two pipelines make each other's shards stale for ever."""
    shop.add("customers", home="data/customers", key_prefix=["customers"])
    shop.add("copy", home="data/../data/customers", key_prefix=["copy"])
    with pytest.raises(Exception, match="ProfilesComponent") as raised:
        shop.load()
    assert str(cause(raised.value)) == (
        f"2 instances of etl_assets.ProfilesComponent have the home {shop.root / 'data/customers'}: those with the "
        "key_prefix copy, customers. Each needs one of its own."
    )


@pytest.mark.parametrize(
    ("attributes", "finding"),
    [
        ({"num_shards": 5000}, "num_shards must be a whole number from 1 to 1000, found 5000."),
        ({"memory_limit": "much"}, "memory_limit must be a size of at least 64MB like 512MB or 2GB, found 'much'."),
        ({"project": "nowhere"}, "defs/customers/nowhere/etl_assets.yaml cannot be read"),
    ],
)
def test_a_wrong_attribute_is_the_load_error_under_its_own_name(
    shop: DgProject, attributes: dict[str, Any], finding: str
) -> None:
    """Fails: the error names an environment variable that was never set."""
    shop.add("customers", home="data", **attributes)
    with pytest.raises(Exception, match="customers") as raised:
        shop.load()
    assert finding in str(cause(raised.value))


def test_a_home_must_be_named(shop: DgProject) -> None:
    shop.add("customers", sources="exports")
    with pytest.raises(Exception, match="customers") as raised:
        shop.load()
    assert re.search(
        r"attributes\.home at .*defs\.yaml:\d+`?\n.*Field required", str(cause(raised.value, ValidationError))
    )


def test_the_executor_is_that_of_the_project_and_the_jobs_keep_theirs(shop: DgProject) -> None:
    """Fails: the steps of all other assets run in one process, because of one component."""
    shop.add("customers", home="data", key_prefix=["customers"])
    defs = shop.load()
    assert defs.executor is None
    assert {defs.resolve_job_def(f"customers_{name}").executor_def for name in JOBS} == {dg.in_process_executor}
    (shop.defs / "executor.py").write_text(
        "import dagster as dg\n\ndefs = dg.Definitions(executor=dg.multiprocess_executor)\n"
    )
    assert shop.load().executor is dg.multiprocess_executor


def test_a_prefix_may_have_hyphens(shop: DgProject) -> None:
    shop.add("customers", home="data", key_prefix=["my-360"])
    defs = shop.load()
    dg.Definitions.validate_loadable(defs)
    assert "my-360/crm" in keys(defs)
    assert names(defs)["jobs"] == [f"my_360_{name}" for name in JOBS]


def test_upstream_assets_and_groups_are_set_by_post_processing(shop: DgProject) -> None:
    """The example of the documentation, on the tests' project."""
    file = shop.add("customers", home="data", key_prefix=["customers"])
    text = (CHECKOUT / "docs/how-to/embed.md").read_text().split("post_processing:\n", 1)[1].split("```", 1)[0]
    file.write_text(f"{file.read_text()}\npost_processing:\n{text}")
    graph = shop.load().resolve_asset_graph()
    assert graph.get(dg.AssetKey(["customers", "crm"])).parent_keys == {dg.AssetKey("download_crm")}
    assert {graph.get(dg.AssetKey(["customers", name])).group_name for name in ASSETS} == {"customers"}


def test_owners_are_those_of_every_asset(shop: DgProject) -> None:
    shop.add("customers", home="data", key_prefix=["customers"], owners=["team:data"])
    graph = shop.load().resolve_asset_graph()
    assert {tuple(graph.get(dg.AssetKey(["customers", name])).owners) for name in ASSETS} == {("team:data",)}


def test_it_works_outside_of_a_dg_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: every Python file in the current folder is run, because Dagster looks for other components there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text("raise RuntimeError('this script must not run')\n")
    component = ProfilesComponent(project=str(PROJECT_FOLDER), home="data", key_prefix=["a", "b"])
    assert keys(dg.build_defs_for_component(component)) == {f"a/b/{name}" for name in ASSETS}


def test_an_instance_in_python_is_one_like_that_in_yaml(shop: DgProject) -> None:
    scaffold(shop, "in_python", "python")
    assert keys(shop.load()) == OTHERS | {f"in_python/{name}" for name in SHIPPED}


SHIPPED = {*load_project(shipped_folder()).contract.source_names, "shard_profiles", "merged_profiles"}


def scaffold(shop: DgProject, path: str, scaffold_format: Any = "yaml", *, append: bool = False) -> Path:
    """What `dg scaffold defs etl_assets.ProfilesComponent PATH` does; returns the folder."""
    folder = shop.defs / path
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "defs.yaml" if append else folder
    ProfilesScaffolder().scaffold(
        dg.ScaffoldRequest(
            type_name=dg_projects.TYPE,
            target_path=target,
            scaffold_format=scaffold_format,
            project_root=shop.root,
            params=NoParams(),
            append=append,
        )
    )
    return folder


def test_what_is_scaffolded_loads_as_it_is_twice(shop: DgProject) -> None:
    scaffold(shop, "customers")
    folder = scaffold(shop, "emea/customers")
    assert keys(shop.load()) == OTHERS | {
        f"{prefix}/{name}" for prefix in ("customers", "emea/customers") for name in SHIPPED
    }
    attributes = yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]
    assert attributes == {
        "project": "project",
        "sources": "data/emea/customers/sources",
        "home": "data/emea/customers",
        "key_prefix": ["emea", "customers"],
    }
    # The same project as the shipped one, with all that belongs to it.
    assert load_project(folder / "project").version == load_project(shipped_folder()).version
    shipped = {path.relative_to(shipped_folder()) for path in shipped_folder().rglob("*") if path.is_file()}
    assert {path.relative_to(folder / "project") for path in folder.rglob("project/**/*") if path.is_file()} == {
        path for path in shipped if path.suffix != ".pyc"
    }
    assert all(os.access(path, os.W_OK) for path in folder.rglob("*"))


def test_an_instance_is_appended_to_a_defs_yaml_that_has_another(shop: DgProject) -> None:
    (shop.defs / "both").mkdir()
    (shop.defs / "both/defs.yaml").write_text("type: dagster.DefsFolderComponent\n")
    text = (scaffold(shop, "both", append=True) / "defs.yaml").read_text()
    first, second = yaml.safe_load_all(text)
    assert (first["type"], second["type"]) == ("dagster.DefsFolderComponent", dg_projects.TYPE)


def test_a_project_that_is_there_is_not_overwritten(shop: DgProject) -> None:
    mine = shop.defs / "customers/project"
    mine.mkdir(parents=True)
    (mine / "etl_assets.yaml").write_text("name: mine\n")
    with pytest.raises(ConfigError, match=r"customers/project exists already\. Choose another folder; nothing was"):
        scaffold(shop, "customers")
    assert (mine / "etl_assets.yaml").read_text() == "name: mine\n"
    assert not (shop.defs / "customers/defs.yaml").exists()


def test_every_attribute_has_a_description_and_the_documented_ones_exist() -> None:
    """Fails: the schema that editors and `dg docs` show has a word that says nothing."""
    model = ProfilesComponent.get_model_cls()
    assert model is not None
    properties = model.model_json_schema()["properties"]
    assert [name for name, schema in properties.items() if not schema.get("description")] == []
    page = (CHECKOUT / "docs/how-to/embed.md").read_text()
    examples = [yaml.safe_load(block.split("```", 1)[0]) for block in page.split("```yaml\n")[1:]]
    assert examples
    for example in examples:
        assert example["type"] == dg_projects.TYPE
        assert example["attributes"].keys() <= properties.keys()


def test_dagster_loads_the_component_without_a_warning() -> None:
    """Fails: the next release of Dagster drops something that the component uses, although a warning had said so."""
    schema = "etl_assets.ProfilesComponent.get_model_cls().model_json_schema()"
    code = f"import json, etl_assets; {schema}; print(json.dumps(dir(etl_assets)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:dagster", "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(etl_assets.__all__) <= set(json.loads(done.stdout))
