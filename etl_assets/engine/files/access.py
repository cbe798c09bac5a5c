"""Why this user may not read a file, in words: the system says only that it is so."""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from etl_assets.errors import Action, Advice, InputError, shown


def unreadable(path: Path) -> str | None:
    """Which file or folder keeps this user from reading `path`, and whose it is; None when nothing does."""
    for folder in reversed(path.absolute().parents):
        if not _may(folder, os.X_OK):
            return _whose(folder, "may not be entered")
    wanted = os.R_OK | (os.X_OK if path.is_dir() else 0)
    return None if _may(path, wanted) or not os.path.lexists(path) else _whose(path, "may not be read")


@contextlib.contextmanager
def explained_to_users(path: Path, subject: str) -> Iterator[None]:
    """InputError for a file or folder that this user may not read; `path` where the system names none."""
    try:
        yield
    except PermissionError as error:
        named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
        finding = unreadable(named) or f"{shown(str(named))} may not be read ({error.strerror})."
        raise InputError(finding, Advice(Action.ALLOW, value=str(named)), subject=subject) from error


def _may(path: Path, wanted: int) -> bool:
    return os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids)


def _whose(path: Path, what: str) -> str:
    try:
        found = path.stat()
        belongs = (
            f"it belongs to {_user(found.st_uid)}, group {_group(found.st_gid)}, with mode "
            f"{stat.filemode(found.st_mode)}"
        )
    except OSError as error:
        belongs = error.strerror or str(error)
    return f"{shown(str(path))} {what} by {_user(os.geteuid())}: {belongs}."


def _user(number: int) -> str:
    with contextlib.suppress(KeyError):
        return f"{pwd.getpwuid(number).pw_name} (uid {number})"
    return f"uid {number}"


def _group(number: int) -> str:
    with contextlib.suppress(KeyError):
        return f"{grp.getgrgid(number).gr_name} (gid {number})"
    return f"gid {number}"
