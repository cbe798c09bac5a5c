"""The projects in `examples/`, and a copy of them in which commands can be run."""

import re
import shutil
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
EXAMPLES = CHECKOUT / "examples"
NAMES = ("software_company", "web_shop", "customer360")
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What a run of someone who tried an example has left.
_MADE = shutil.ignore_patterns("data", ".dagster", "__pycache__")


def shell_blocks(text: str) -> list[str]:
    """The commands of a page, a block each."""
    return _SHELL.findall(text)


def copied_checkout(folder: Path) -> Path:
    """A folder that holds the examples as a checkout does; their links lead to this checkout's package."""
    shutil.copytree(EXAMPLES, folder / "examples", symlinks=True, ignore=_MADE)
    (folder / "etl_assets").symlink_to(CHECKOUT / "etl_assets")
    return folder
