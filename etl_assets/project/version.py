"""Code versions: a hash over the files that decide a result, so that a changed score makes its shards stale."""

from collections.abc import Sequence
from importlib import resources

import duckdb

from etl_assets.engine.keys import stable_hash

CODE_VERSION_CHARS = 12


def code_fingerprint(modules: Sequence[str], statements: Sequence[str]) -> str:
    """Hash the named modules of the package and `sql/` files, and the DuckDB version that runs them."""
    package, room = resources.files("etl_assets"), resources.files("etl_assets.engine")
    paths = [package / f"{name}.py" for name in modules] + [room / "sql" / f"{name}.sql" for name in statements]
    texts = [f"duckdb {duckdb.__version__}", *(path.read_text(encoding="utf-8") for path in paths)]
    return stable_hash("\0".join(texts))[:CODE_VERSION_CHARS]
