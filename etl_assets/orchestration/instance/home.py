"""The folder of the Dagster instance: where it is, and that it has this project's settings. No Dagster import."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from etl_assets.errors import ConfigError

DEFAULT_HOME = Path(".dagster")
# Tag of a run that no code server started but `etl-assets run`, with the host of its process.
HOST_TAG = "etl_assets/host"
_SETTINGS = "dagster.yaml"


def dagster_home(environment: Mapping[str, str]) -> Path:
    """The instance's folder, made if need be: `DAGSTER_HOME`, else `.dagster` in the current folder; absolute.

    A folder made here, an empty one and the default one get a link to the shipped dagster.yaml; it is pointed anew when
    the environment it pointed into is gone. Settings of the user's own stay, and an instance that has run without any
    is taken to mean Dagster's defaults. ConfigError when the folder cannot be written.
    """
    named = environment.get("DAGSTER_HOME", "").strip()
    home = Path(named or DEFAULT_HOME).expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
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
    # Another run may make it at the same time.
    with contextlib.suppress(FileExistsError):
        link.symlink_to(str(resources.files("etl_assets.orchestration.instance") / _SETTINGS))


@contextlib.contextmanager
def opened_alone(home: Path) -> Iterator[None]:
    """Let one process at a time open the instance: two that make its databases at once get in each other's way.

    The lock is on the folder itself and leaves nothing behind; where the file system has no locks, it is not taken.
    """
    descriptor = os.open(home, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unusable(home: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"The Dagster home {home} cannot be used: {reason}. Set DAGSTER_HOME to a folder that can be written."
    )
