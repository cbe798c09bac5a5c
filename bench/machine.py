"""What the figures were measured on: processor, memory, versions, and how busy the machine was."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import data
from bench.ways import CHECKOUT

_PACKAGES = ("dagster", "duckdb", "numpy", "xxhash")
_PEER_PACKAGES = ("dagster-duckdb-pandas", "duckdb", "matplotlib", "pandas", "polars", "pyarrow", "xxhash")


def circumstances(peer_python: Path, repeat: int, load: float) -> dict[str, Any]:
    """The facts that a reader needs to judge the figures. None of them identifies the machine or its owner."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": " ".join([platform.system(), *platform.release().split(".")[:2]]),
            "load_average_before": round(load, 2),
        },
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "peer_versions": _peer_versions(peer_python),
        "repeat": repeat,
        "data": f"clean sample exports in CSV, seed {data.SEED}: the peers have no quarantine",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _peer_versions(python: Path) -> dict[str, str]:
    code = (
        "import json, sys; from importlib import metadata; "
        "print(json.dumps({name: metadata.version(name) for name in sys.argv[1:]}))"
    )
    text = _output(str(python), "-c", code, *_PEER_PACKAGES)
    return dict(json.loads(text)) if text else {}


def _output(*command: str) -> str | None:
    """The output of a command; None when it cannot be started or fails."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
