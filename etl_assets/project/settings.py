"""Environment variables to validated settings: one place, one clear error each.

Values are read when asked for, not at import, so that a test or a user changes them without a trick.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.duck import Limits
from etl_assets.engine.files.publishing import Home
from etl_assets.engine.routing import MAX_SHARDS
from etl_assets.engine.steps.stage import DEFAULT_MAX_UNPACKED_MB, StagingRequest
from etl_assets.errors import ConfigError

DEFAULT_SHARDS = 10
DEFAULT_MAX_REJECT_RATIO = 0.05
# Ten million customers in ten shards are built almost without spilling, in a process of less than 1 GB.
DEFAULT_MEMORY_MB = 700
# Rows of all columns that each thread of a merge collects, and the pages that it reads and writes.
_MERGE_MB_A_THREAD = 150
# Ten times what a shard of ten million customers takes; a hung disk or network is noticed within the hour.
DEFAULT_SHARD_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Settings:
    """What one run of the pipeline is configured with; README's configuration table is this class."""

    sources: Path
    home: Home
    shard_count: int
    max_reject_ratio: float
    workers: int
    memory_mb: int
    shard_timeout_s: int = DEFAULT_SHARD_TIMEOUT_S
    # What one .csv.gz may unpack to; beyond it the source is refused before it fills the disk.
    max_unpacked_mb: int = DEFAULT_MAX_UNPACKED_MB

    def limits(self) -> Limits:
        """What a run may use at any time, all that works at once together."""
        return Limits(memory_mb=self.memory_mb, threads=self.workers)

    def worker_limits(self) -> Limits:
        """What each of the `workers` may use when all of them are at work."""
        return self.limits().share(self.workers)

    def merge_limits(self) -> Limits:
        """What the merge may use. It passes rows on; more memory than this would but cache pages that are read once."""
        enough_mb = max(self.memory_mb // 3, _MERGE_MB_A_THREAD * self.workers)
        return Limits(memory_mb=min(self.memory_mb, enough_mb), threads=self.workers)

    def staging_request(self) -> StagingRequest:
        """What staging needs of these settings."""
        return StagingRequest(
            self.sources,
            self.home,
            self.shard_count,
            self.max_reject_ratio,
            self.worker_limits(),
            self.max_unpacked_mb,
        )


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read `ETL_*`; ConfigError names the variable, what was expected and what was found."""
    env = os.environ if environment is None else environment
    faults.arm(env)
    return Settings(
        sources=Path(env.get("ETL_SOURCES") or "data/sources").absolute(),
        home=Home(Path(env.get("ETL_HOME") or "data").absolute()),
        shard_count=_integer(env, "ETL_NUM_SHARDS", DEFAULT_SHARDS, 1, MAX_SHARDS),
        max_reject_ratio=_ratio(env, "ETL_MAX_REJECT_RATIO", DEFAULT_MAX_REJECT_RATIO),
        workers=_integer(env, "ETL_WORKERS", min(os.cpu_count() or 1, 8), 1, 64),
        memory_mb=_size_mb(env, "ETL_MEMORY_LIMIT", DEFAULT_MEMORY_MB),
        shard_timeout_s=_integer(env, "ETL_SHARD_TIMEOUT_S", DEFAULT_SHARD_TIMEOUT_S, 0, 7 * 24 * 3600),
        max_unpacked_mb=_size_mb(env, "ETL_MAX_UNPACKED", DEFAULT_MAX_UNPACKED_MB),
    )


def _integer(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = (env.get(name) or str(default)).strip()
    if not re.fullmatch(r"[0-9]+", text) or not low <= int(text) <= high:
        raise ConfigError(
            f"{name} must be a whole number from {low} to {high}, found {text!r}. Try: export {name}={default}"
        )
    return int(text)


def _ratio(env: Mapping[str, str], name: str, default: float) -> float:
    text = (env.get(name) or str(default)).strip()
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", text) or not 0 <= float(text) <= 1:
        raise ConfigError(f"{name} must be a share from 0 to 1, found {text!r}. Try: export {name}={default}")
    return float(text)


def _size_mb(env: Mapping[str, str], name: str, default: int) -> int:
    text = (env.get(name) or f"{default}MB").strip()
    match = re.fullmatch(r"([0-9]+)\s*(MB|GB)", text, re.IGNORECASE)
    size = int(match[1]) * (1024 if match[2].upper() == "GB" else 1) if match else 0
    if size < 64:
        raise ConfigError(
            f"{name} must be a size of at least 64MB like 512MB or 2GB, found {text!r}. Try: export {name}={default}MB"
        )
    return size
