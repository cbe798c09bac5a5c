"""The folder of the Dagster instance: where it is, and that it has this project's settings. No Dagster import."""

import contextlib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from etl_assets.engine.files import locks
from etl_assets.errors import ConfigError

DEFAULT_HOME = Path(".dagster")
_SETTINGS = "dagster.yaml"
# Dagster puts the path into the address of its SQLite databases, where these characters have a meaning.
_UNUSABLE = "?%"


def dagster_home(environment: Mapping[str, str]) -> Path:
    """The instance's folder, created if need be: `DAGSTER_HOME`, else `.dagster` in the current folder; absolute.

    A folder that is created here, an empty one and the default one get a link to the shipped dagster.yaml. A link into
    an environment that was removed is replaced. The user's own settings stay. An instance that has run without settings
    keeps Dagster's defaults. Raises ConfigError when Dagster cannot use the folder.
    """
    named = environment.get("DAGSTER_HOME", "").strip()
    home = Path(named or DEFAULT_HOME).expanduser().absolute()
    unusable = [character for character in _UNUSABLE if character in str(home)]
    if unusable:
        raise _unusable(home, f"Dagster's SQLite databases cannot be in a path with {' or '.join(unusable)}")
    try:
        # For its owner alone if it is made here: previews have customers' data. A folder that is there keeps its mode.
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ours = not named or not any(home.iterdir())
        if is_ours or (home / _SETTINGS).is_symlink():
            _link_settings(home / _SETTINGS)
    except OSError as error:
        raise _unusable(home, error.strerror or str(error)) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise _unusable(home, "it is not writable")
    return home


def _link_settings(link: Path) -> None:
    if link.exists():
        return
    link.unlink(missing_ok=True)
    # Another run may create it at the same time.
    with contextlib.suppress(FileExistsError):
        link.symlink_to(str(resources.files("etl_assets.orchestration.instance") / _SETTINGS))


def opened_alone(home: Path) -> contextlib.AbstractContextManager[None]:
    """Let one process at a time open the instance: two that create its databases at once fail."""
    return locks.exclusive(home)


def _unusable(home: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"The Dagster home {home} cannot be used: {reason}. Set DAGSTER_HOME to another folder, for example: "
        f"export DAGSTER_HOME=~/.local/share/etl_assets/dagster"
    )
