"""The settings in deploy/: Dagster and its launchers accept them; they differ from the shipped ones only as meant."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s import K8sRunLauncher
from dagster_postgres import PostgresRunStorage

from etl_assets.orchestration.instance.opening import open_instance
from etl_assets.orchestration.instance.ray_launcher import WaitingRayRunLauncher
from etl_assets_tests.cluster.deployed import DEPLOY, dagster_home, ray_settings
from etl_assets_tests.cluster.postgres_server import PostgresServer

# What a cluster needs otherwise.
_DIFFERENT = {"storage", "run_launcher", "concurrency", "run_monitoring"}


def _shipped() -> dict[str, Any]:
    text = (resources.files("etl_assets.orchestration.instance") / "dagster.yaml").read_text()
    settings: dict[str, Any] = yaml.safe_load(text)
    return settings


def _values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((DEPLOY / "k8s" / "values.yaml").read_text())
    return values


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: f"_{found[0].lower()}", name)


def test_dagster_opens_the_instance_of_a_cluster(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a user copies the file, and Dagster refuses it."""
    for name, value in {**postgres.new_database(), "RAY_JOBS_ADDRESS": "http://head:8265"}.items():
        monkeypatch.setenv(name, value)
    with open_instance(dagster_home(tmp_path / "dagster", ray_settings())) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, WaitingRayRunLauncher)
        assert (launcher.address, launcher.num_cpus, launcher.memory) == ("http://head:8265", 1, 1_200_000_000)
        assert isinstance(instance.run_storage, PostgresRunStorage)
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.get_concurrency_config().run_queue_config is not None
        assert instance.get_runs() == []


def test_what_a_cluster_does_not_need_otherwise_is_as_on_one_machine() -> None:
    """Fails: a setting that was corrected for one machine stays wrong for several."""
    deployed, shipped = ray_settings(), _shipped()
    assert {name: part for name, part in deployed.items() if name not in _DIFFERENT} == {
        name: part for name, part in shipped.items() if name not in _DIFFERENT
    }
    assert deployed["run_monitoring"].keys() == shipped["run_monitoring"].keys()


def test_dagsters_launcher_for_kubernetes_accepts_the_values() -> None:
    """Fails: the first thing that a user of Kubernetes sees is a refusal of the shipped values."""
    config = _values()["runLauncher"]["config"]["k8sRunLauncher"]
    names = {"envSecrets", "envConfigMaps"}
    # As the chart's template writes them into dagster.yaml, with what it adds.
    written = {
        _snake(key): [one["name"] for one in value] if key in names else value
        for key, value in config.items()
        if key != "runK8sConfig"
    }
    written["run_k8s_config"] = {_snake(key): value for key, value in config["runK8sConfig"].items()}
    written |= {"service_account_name": "dagster", "instance_config_map": "dagster-instance", "dagster_home": "/opt"}
    result = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), written)
    assert result.success, result.errors
    # It refuses what it does not know, or this would prove nothing.
    assert not process_config(resolve_to_config_type(K8sRunLauncher.config_type()), {**written, "cpu": 1}).success


def test_kubernetes_watches_and_repeats_runs_as_ray_does() -> None:
    """Fails: a lost pod is not repeated, or every error of a shard is."""
    daemon = _values()["dagsterDaemon"]
    shipped = _shipped()
    assert {_snake(key) for key in daemon["runMonitoring"]} == shipped["run_monitoring"].keys()
    assert {_snake(key): value for key, value in daemon["runRetries"].items()} == shipped["run_retries"]


def test_the_cluster_of_kuberay_has_a_token_and_a_head_that_runs_nothing() -> None:
    """Fails: anyone who can reach the cluster can run programs in it, or shards take the head's memory."""
    spec = yaml.safe_load((DEPLOY / "ray" / "kuberay.yaml").read_text())["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = spec["workerGroupSpecs"]
    cpu_count = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert ray_settings()["concurrency"]["runs"]["max_concurrent_runs"] == workers["maxReplicas"] * cpu_count


def test_dagster_yaml_holds_no_secret() -> None:
    """Fails: a password comes into version control, and into the command line of every run."""
    fields = ray_settings()["storage"]["postgres"]["postgres_db"]
    assert all(isinstance(value, dict) and set(value) == {"env"} for key, value in fields.items() if key != "scheme")
