"""The order of the house: small modules and functions, each fact in one room, no word of a domain in the engine.

Doors between the wings are import-linter's business (`make check`).
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import etl_assets
from etl_assets_tests.factory import PROJECT

PACKAGE = Path(etl_assets.__file__).parent
ENGINE = PACKAGE / "engine"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

MAX_MODULE_LINES = 330
MAX_FUNCTION_LINES = 60

# Calls that make, change, list or remove files.
_VERBS = {
    *("unlink", "rename", "replace", "write_text", "write_bytes", "mkdir", "rmdir", "touch", "iterdir", "glob"),
    *("rglob", "symlink_to", "hardlink_to"),
}
_MODULES_OF_FILES = {"shutil", "tempfile"}
_FUNCTIONS_OF_OS = {
    *("rename", "replace", "remove", "unlink", "rmdir", "mkdir", "makedirs", "listdir", "scandir", "truncate"),
    *("symlink", "link"),
}
# What does so beside the room for files, and not under ETL_HOME or on purpose.
_ALLOWED = {
    ("engine/reading/listing.py", "iterdir"): "lists the exports",
    ("engine/reading/patterns.py", "glob"): "lists the exports",
    ("engine/reading/patterns.py", "iterdir"): "lists the exports",
    ("engine/reading/strays.py", "iterdir"): "lists the exports",
    ("engine/reading/other_programs.py", "iterdir"): "lists the exports",
    ("engine/reading/header_checks.py", "rglob"): "lists the exports",
    ("engine/published/checks.py", "iterdir"): "lists the package's own statements",
    ("engine/faults.py", "truncate"): "damages files on purpose",
    ("orchestration/component.py", "write_text"): "scaffolds an instance for dg",
    ("orchestration/instance/home.py", "mkdir"): "sets up DAGSTER_HOME",
    ("orchestration/instance/home.py", "iterdir"): "looks into DAGSTER_HOME",
    ("orchestration/instance/home.py", "unlink"): "sets up DAGSTER_HOME",
    ("orchestration/instance/home.py", "symlink_to"): "sets up DAGSTER_HOME",
}


def _tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def _calls(module: str) -> Iterator[tuple[str | None, str]]:
    """Every call of the module: the name before the dot, None where it is no plain name, and the function's."""
    for node in ast.walk(_tree(module)):
        # A text's own `replace` takes two arguments, a path's one.
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            value, function = node.func.value, node.func.attr
            name = value.id if isinstance(value, ast.Name) else None
            if function != "replace" or name == "os" or len(node.args) == 1:
                yield name, function


def _modules_of(*wings: str) -> list[str]:
    return [module for module in MODULES if module.startswith(tuple(f"{wing}/" for wing in wings))]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_longer_than_a_person_reads_at_once(module: str) -> None:
    lines = (PACKAGE / module).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_MODULE_LINES


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_longer_than_a_screen(module: str) -> None:
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_no_two_modules_share_a_name_or_differ_by_a_plural() -> None:
    """Fails: a reader opens `status.py` and is in the wrong one."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        stem = Path(module).stem
        if stem != "__init__":
            by_name[stem.removesuffix("s")].append(module)
    # A package counts too: `published/` beside a `published.py` would be the same riddle.
    for folder in sorted({Path(module).parent for module in MODULES} - {Path()}):
        by_name[folder.name.removesuffix("s")].append(folder.as_posix())
    assert {name: modules for name, modules in by_name.items() if len(modules) > 1} == {}


@pytest.mark.parametrize(
    "module",
    [name for name in _modules_of("engine", "pipeline", "orchestration") if not name.startswith("engine/files/")],
)
def test_only_the_room_for_files_touches_files(module: str) -> None:
    """Fails: a file is written where no one syncs, sweeps or names it, and a power cut or a kill leaves half of it."""
    found = {
        function
        for name, function in _calls(module)
        if (function in _VERBS and name != "publishing")
        or name in _MODULES_OF_FILES
        or (name == "os" and function in _FUNCTIONS_OF_OS)
    }
    assert sorted(function for function in found if (module, function) not in _ALLOWED) == []


def test_everything_that_is_allowed_to_touch_files_still_does() -> None:
    """Fails: a permission outlives its reason."""
    calls = {module: {function for _, function in _calls(module)} for module, _ in _ALLOWED}
    assert [(module, function) for module, function in _ALLOWED if function not in calls[module]] == []


# What `duckdb` offers that opens no connection, neither a new one nor the default one that the whole process shares.
_WITHOUT_CONNECTION = {"__version__", "tokenize", "token_type", "Statement", "StatementType", "DuckDBPyConnection"}


@pytest.mark.parametrize("module", MODULES)
def test_every_connection_of_the_package_is_opened_in_one_place(module: str) -> None:
    """Fails: a connection without limits takes all of the machine's memory, and one without a lock fetches extensions.

    `duckdb.sql`, `duckdb.execute` and `duckdb.read_csv` use a connection of the module's own.
    """
    found = sorted(
        f"duckdb.{node.attr}"
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "duckdb"
        and node.attr not in _WITHOUT_CONNECTION
        and not node.attr.endswith(("Exception", "Error"))
    )
    assert found == (["duckdb.connect"] if module == "engine/duck.py" else [])


@pytest.mark.parametrize("module", MODULES)
def test_duckdb_is_imported_under_its_own_name_only(module: str) -> None:
    """Fails: the test above is blind to `from duckdb import connect` and to `import duckdb as db`."""
    names = [
        (alias.name, alias.asname)
        for node in ast.walk(_tree(module))
        for alias in (node.names if isinstance(node, ast.Import) else ())
        if alias.name.split(".")[0] in ("duckdb", "_duckdb")
    ]
    froms = [
        node.module
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.ImportFrom) and "duckdb" in str(node.module)
    ]
    assert set(names) <= {("duckdb", None)}
    assert froms == []


def _engine_texts() -> Iterator[tuple[str, str]]:
    for path in sorted([*ENGINE.rglob("*.py"), *ENGINE.rglob("*.sql")]):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8").lower()


def _words_of_the_domain() -> set[str]:
    """Names, titles and values of the tests' copy of the shipped project; the user's own may take any word."""
    contract = PROJECT.contract
    names = {
        *(contract.name, contract.entity, contract.entity.removesuffix("s"), contract.key.name),
        *contract.source_names,
        *(source.title.lower() for source in contract.sources if source.title),
        *(column.name for source in contract.sources for column in source.columns),
        *(column.name for column in contract.profile),
        *(value.lower() for column in contract.profile for value in column.values),
        *PROJECT.macros,
    }
    return {name for name in names if name}


def test_the_engine_knows_no_word_of_the_shipped_projects_domain() -> None:
    """Fails: a project about staff or machines meets columns, names and messages about customers."""
    words = _words_of_the_domain()
    assert {"customer", "email", "billing", "health_score"} <= words
    pattern = re.compile(rf"(?<![a-z])({'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})(?![a-z])")
    found = {
        (module, number + 1): sorted(set(pattern.findall(line)))
        for module, text in _engine_texts()
        for number, line in enumerate(text.splitlines())
        if pattern.search(line)
    }
    assert found == {}
