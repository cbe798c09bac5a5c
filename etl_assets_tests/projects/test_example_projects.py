"""The projects in `examples/`: sound, published with the same result by any number of shards, as their pages say."""

import fnmatch
import gzip
import importlib.util
import subprocess
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_assets.drafting.folder import write_template
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import check_warehouse, warehouse_checks
from etl_assets.engine.site import Site
from etl_assets.pipeline.inspection import inspect
from etl_assets.project.loading import load_project
from etl_assets.project.settings import load_settings
from etl_assets_tests.command_line import environment
from etl_assets_tests.factory import LIMITS, query, run_engine
from etl_assets_tests.projects.example_folders import CHECKOUT, EXAMPLES, NAMES, copied_checkout, shell_blocks

# Not of customer 360: its SQL is that of the shipped project, and may change without a test turning red.
DIGESTS = {
    "software_company": "v2-80-4dd2c11c32ef5e95-c4a757b38495e82e",
    "web_shop": "v2-90-c0e9db48476b445a-95992335481ad133",
}
WARNINGS = {"web_shop": {"buyers_are_customers"}}
PAGES = sorted(path.relative_to(CHECKOUT).as_posix() for path in EXAMPLES.rglob("README.md"))


def _site(name: str, home: Path, shard_count: int) -> Site:
    return Site(load_project(EXAMPLES / name), Home(home), shard_count)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Site]:
    """Every example, published by four shards."""
    sites = {name: _site(name, tmp_path_factory.mktemp(name) / "home", 4) for name in NAMES}
    for name, site in sites.items():
        run_engine(EXAMPLES / name / "exports", site)
    return sites


def _rows(site: Site, statement: str) -> list[tuple[Any, ...]]:
    return query(site.home.warehouse, statement)


@pytest.mark.parametrize("name", NAMES)
def test_check_finds_no_mistake_in_an_example(name: str, tmp_path: Path) -> None:
    settings = load_settings({}, EXAMPLES / name)
    assert settings.sources == EXAMPLES / name / "exports"
    found = inspect(_site(name, tmp_path / "home", 4), settings)
    assert (found.mistakes, found.unread_files) == ([], [])


@pytest.mark.parametrize("name", NAMES)
def test_an_example_passes_its_checks(published: dict[str, Site], name: str) -> None:
    """Fails: the first thing that a newcomer runs ends with 1. What warns does so on purpose."""
    site = published[name]
    findings = check_warehouse(site, LIMITS, warehouse_checks(site.project))
    assert {finding.name for finding in findings if not finding.passed} == WARNINGS.get(name, set())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shard_count", [1, 7])
def test_an_example_has_one_result_for_any_number_of_shards(
    published: dict[str, Site], name: str, shard_count: int, tmp_path: Path
) -> None:
    """Fails: a result depends on which rows share a shard."""
    site = _site(name, tmp_path / "home", shard_count)
    digest = run_engine(EXAMPLES / name / "exports", site).publication.digest
    assert _rows(published[name], "SELECT digest FROM publication") == [(digest,)]


@pytest.mark.parametrize("name", DIGESTS)
def test_an_example_has_the_result_that_is_pinned(published: dict[str, Site], name: str) -> None:
    """Fails: an example changed, or the engine gives other rows for the same exports (see CONTRIBUTING)."""
    assert _rows(published[name], "SELECT digest FROM publication") == [(DIGESTS[name],)]


def test_accounts_have_what_their_systems_say(published: dict[str, Site]) -> None:
    """The expected numbers were counted in the exports, without the engine and its SQL."""
    site = published["software_company"]
    statement = (
        "SELECT account_name, employees, annual_revenue, subscription_count, mrr, event_count, active_days, "
        "ticket_count, open_ticket_count, last_event_at::TEXT FROM merged_profiles WHERE account_name IN "
        "('Rheinblick GmbH', 'Blauwal AG', 'Müller & Söhne KG', 'Señor Café KG') ORDER BY ALL"
    )
    assert _rows(site, statement) == [
        ("Blauwal AG", 3406, Decimal("62743305.75"), 1, Decimal("464.00"), 8, 6, 2, 2, "2026-06-29 15:47:25"),
        ("Müller & Söhne KG", 2341, Decimal("30359318.86"), 1, Decimal("338.33"), 0, 0, 1, 1, "2026-05-30 00:29:17"),
        ("Rheinblick GmbH", 234, Decimal("51054399.55"), 1, Decimal("297.50"), 15, 11, 4, 1, "2026-06-22 17:16:17"),
        ("Señor Café KG", 2146, Decimal("18740192.06"), 0, Decimal("0.00"), 30, 17, 2, 1, "2026-06-29 12:32:19"),
    ]
    rows = _rows(site, "SELECT source, reason, cell FROM quarantine ORDER BY ALL")
    assert rows == [
        ("accounts", "invalid:last_activity", "gestern"),
        *[("tickets", "missing_account_id", None)] * 3,
        ("tickets", "unmapped_account_id", None),
    ]


def test_orders_are_counted_and_not_their_lines(published: dict[str, Site]) -> None:
    site = published["web_shop"]
    totals = "SELECT sum(order_count), sum(revenue), max(last_order_at)::TEXT FROM merged_profiles"
    assert _rows(site, totals) == [(148, Decimal("10876.40"), "2026-06-30 13:27:11")]


def test_the_customer360_of_the_examples_is_what_init_writes(tmp_path: Path) -> None:
    """Fails: the shipped project changed and the folder beside it did not. Copy etl_assets.yaml and set its sources."""
    write_template(tmp_path / "customer360")
    example = EXAMPLES / "customer360"
    written = {
        path.relative_to(tmp_path / "customer360"): path.read_text(encoding="utf-8")
        for path in sorted((tmp_path / "customer360").rglob("*"))
        if path.is_file() and path.name not in ("README.md", ".gitkeep")
    }
    assert len(written) >= 9
    contract = Path("etl_assets.yaml")
    written[contract] = written[contract].replace("  sources: data/sources\n", "  sources: exports\n")
    assert {path: (example / path).read_text(encoding="utf-8") for path in written} == written


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_the_files_that_init_writes(name: str) -> None:
    """Fails: an editor does not complete an example's file, or its warehouse is committed."""
    folder = EXAMPLES / name
    first = (folder / "etl_assets.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./.etl_assets.schema.json"
    assert (folder / ".etl_assets.schema.json").resolve() == CHECKOUT / "etl_assets/project/etl_assets.schema.json"
    assert (folder / ".gitignore").read_text(encoding="utf-8") == "data/\n.dagster/\n"


def test_the_exports_are_what_their_script_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: someone who changes the script cannot tell what else will change. `python examples/make_exports.py`."""
    spec = importlib.util.spec_from_file_location("make_exports", EXAMPLES / "make_exports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "EXAMPLES", tmp_path)
    module.main()
    # Those of customer 360 are a sample, which may come out otherwise tomorrow.
    for name in DIGESTS:
        assert _exports(EXAMPLES / name) == _exports(tmp_path / name)


def _exports(folder: Path) -> dict[str, bytes]:
    """The exports of an example by their names, unpacked: another zlib packs the same bytes otherwise."""
    files = [path for path in (folder / "exports").rglob("*") if path.is_file()]
    assert files
    return {
        path.relative_to(folder).as_posix(): gzip.decompress(path.read_bytes())
        if path.suffix == ".gz"
        else path.read_bytes()
        for path in files
    }


@pytest.mark.parametrize("name", NAMES)
def test_exports_are_small(name: str) -> None:
    assert {file for file, data in _exports(EXAMPLES / name).items() if len(data) > 200_000} == set()


def test_examples_are_not_installed() -> None:
    """Fails: a wheel brings a package `examples` into other people's environments."""
    packaging = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = packaging["tool"]["setuptools"]["packages"]["find"]["include"]
    assert not any(fnmatch.fnmatch("examples", pattern) for pattern in patterns)
    assert not packaging["tool"]["setuptools"]["include-package-data"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_an_examples_page_run_as_they_are_written(page: str, tmp_path: Path) -> None:
    """Fails: a newcomer pastes a block, and it ends in an error."""
    env = environment()
    env.pop("ETL_PROJECT")
    env["PYTHONPATH"] = str(CHECKOUT)
    (tmp_path / "checkout").mkdir()
    checkout = copied_checkout(tmp_path / "checkout")
    blocks = shell_blocks((CHECKOUT / page).read_text(encoding="utf-8"))
    assert blocks
    # In one shell, as a person types them: the second begins where the first one ended.
    script = "\n".join(blocks)
    done = subprocess.run(
        ["sh", "-ec", script], cwd=checkout, env=env, capture_output=True, encoding="utf-8", timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nPublished") >= len(blocks)
