"""Objects in the store at a URL: read, list, put, create only, replace only what was read.

A PUT is whole or not there, so there are no temporary names. After any "exists" or "conflict" the object is read back:
the client repeats a request whose answer was lost, and is then refused because of its own object; and some stores
answer so when nothing was written at all (docs/adr/0010).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from etl_assets.engine.files import locks, publishing, sweeping
from etl_assets.errors import Action, Advice, ConfigError, StoreError, escaped, shown

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SETTING = "ETL_LAKE"
# What each kind of store takes its address and its credentials from; the same for both libraries.
VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and, for a store that is not "
    "Amazon's, AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true for http)",
    "gs": "GOOGLE_SERVICE_ACCOUNT, the path of a key file",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "file": "",
}
_PROFILES = {
    "s3": " Keys in the shared files of the AWS tools (profiles, SSO) are not read: export them, as with "
    "`aws configure export-credentials --format env`."
}
# Requests at once; more wait for the store, not for this machine.
_AT_ONCE = 16
# A competing request can be refused for a moment although nothing was written.
_TRIES = 5
# The addresses at which machines of a cloud ask for their credentials.
_NO_CREDENTIALS = re.compile(
    r"169\.254\.|/latest/api/token|security-credentials|metadata\.google|Account must be specified"
    r"|loading credentials|IMDS"
)
# How deltalake words a 403.
_NO_ACCESS = re.compile(r" 403 |lacked the necessary privileges")
# The names under which the libraries write a file before they rename it: obstore's, and those of a commit.
_UNFINISHED = re.compile(r"#\d+$|^_commit_.+\.json\.tmp$")
_SKEWED = "RequestTimeTooSkewed"
_COLOURS = re.compile("\x1b\\[[0-9;]*m|↳")
_CHARS_SHOWN = 300
# What Amazon S3 allows.
MAX_SKEW_S = 15 * 60

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Stat:
    """An object's size, and a tag that changes with its content; some stores give none."""

    size_bytes: int
    e_tag: str | None
    modified_s: float = 0.0


@dataclass(frozen=True)
class Found:
    """An object's content and its stat."""

    content: bytes
    stat: Stat


class Store:
    """The objects below a URL such as `s3://bucket/prefix`; keys are relative to it."""

    def __init__(self, url: str, setting: str = SETTING, *, is_read_only: bool = False) -> None:
        require_extra(setting)
        self.url = url.rstrip("/")
        # What the messages name.
        self._setting = setting
        self._is_read_only = is_read_only
        self._uses = "read and list" if is_read_only else "read, write, list and delete"
        self.scheme = urlsplit(url).scheme
        self._known: dict[str, Found] = {}

    @property
    def folder(self) -> Path | None:
        """The folder that holds the objects, for `file://`."""
        return Path(unquote(urlsplit(self.url).path)) if self.scheme == "file" else None

    @cached_property
    def _store(self) -> "ObjectStore":
        from obstore.store import from_url

        with self._explained(""):
            if self.folder is not None:
                if not self._is_read_only:
                    publishing.ensure_directory(self.folder)
                return from_url(self.folder.as_uri())
            return from_url(self.url)

    def get(self, key: str) -> Found | None:
        """The object; None when there is none."""
        import obstore

        with self._explained(key):
            try:
                result = obstore.get(self._store, key)
                return Found(bytes(result.bytes()), _stat(result.meta))
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                return None

    def get_listed(self, listed: Mapping[str, Stat]) -> dict[str, Found]:
        """Small objects that were listed just now, but those that are gone; each is read once while its tag stays."""

        def found(key: str) -> Found | None:
            known, stat = self._known.get(key), listed[key]
            if known and stat.e_tag and (known.stat.e_tag, known.stat.size_bytes) == (stat.e_tag, stat.size_bytes):
                return known
            return self.get(key)

        read = zip(listed, at_once(found, listed), strict=True)
        there = {key: one for key, one in read if one}
        self._known.update(there)
        return there

    def head(self, key: str) -> Stat | None:
        """The object's stat; None when there is none."""
        import obstore

        with self._explained(key):
            try:
                return _stat(obstore.head(self._store, key))
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                return None

    def list(self, folder: str) -> dict[str, Stat]:
        """Every object below a folder, by its whole key, in the order of the keys: folders list in none."""
        import obstore

        with self._explained(folder):
            found = {one["path"]: _stat(one) for batch in obstore.list(self._store, folder) for one in batch}
        return dict(sorted(found.items()))

    def download(self, key: str, target: Path) -> bool:
        """Write the object to a new file; False when there is none."""
        import obstore

        with self._explained(key):
            try:
                with target.open("wb") as file:
                    for chunk in obstore.get(self._store, key).stream():
                        file.write(chunk)
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                return False
            return True

    def put(self, key: str, content: bytes | Path) -> Stat:
        """Put an object, whatever was there: for names that no one else uses, and for content that names itself."""
        import obstore

        with self._explained(key):
            result = obstore.put(self._store, key, content)
            size_bytes = len(content) if isinstance(content, bytes) else publishing.size_bytes(content) or 0
            return Stat(size_bytes, result["e_tag"])

    def create(self, key: str, content: bytes) -> Found:
        """Put an object if there is none; returns the one that is there now, which may be another writer's."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        for _ in range(_TRIES):
            with self._explained(key):
                try:
                    result = obstore.put(self._store, key, content, mode="create")
                    return Found(content, Stat(len(content), result["e_tag"]))
                except AlreadyExistsError:
                    pass
            there = self.get(key)
            if there is not None:
                return there
        raise StoreError(f"{self._at(key)}: the store says that it exists, and does not give it.", subject=self.url)

    def replace(self, key: str, content: bytes, known: Stat) -> Found | None:
        """Replace an object if it still has this stat; returns the one that is there now."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        if self.folder is not None:
            return self._replace_file(self.folder, key, content, known)
        with self._explained(key):
            try:
                result = obstore.put(self._store, key, content, mode={"e_tag": known.e_tag})
                return Found(content, Stat(len(content), result["e_tag"]))
            except (PreconditionError, AlreadyExistsError, FileNotFoundError):
                pass
        return self.get(key)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is gone already is no error."""
        import obstore

        def remove(key: str) -> None:
            with self._explained(key), suppress(FileNotFoundError):
                obstore.delete(self._store, key)

        at_once(remove, keys)

    def sweep_unfinished(self, oldest_s: float) -> None:
        """Remove what killed puts have left in a folder and is no object; in a bucket, a rule of it does that."""
        if self.folder is None:
            return
        sweeping.remove_old(self.folder, _UNFINISHED, oldest_s)

    def _replace_file(self, folder: Path, key: str, content: bytes, known: Stat) -> Found | None:
        """As `replace`; the library has no conditional put for folders, so their writers take turns."""
        with locks.exclusive(folder):
            there = self.get(key)
            if there is None or there.stat.e_tag != known.e_tag:
                return there
            return Found(content, self.put(key, content))

    def _at(self, key: str) -> str:
        return escaped(f"{self.url}/{key}" if key else self.url)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn the library's errors into ConfigError for what a person must change, else into StoreError."""
        try:
            yield
        except (ConfigError, StoreError):
            raise
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            raise
        except Exception as error:
            # The library has a class of its own for each, and plain ones for some.
            if type(error).__module__.partition(".")[0] not in ("obstore", "builtins", "_obstore"):
                raise
            raise self.refusal(key, error) from error

    def refusal(self, key: str, error: BaseException) -> ConfigError | StoreError:
        """The error that says what a person must change, or that the store has failed."""
        text, kind = _first_line(error), type(error).__name__
        variables = VARIABLES.get(self.scheme, "")
        named = f" Expected in {variables}.{_PROFILES.get(self.scheme, '')}" if variables else ""
        self._refuse_missing_bucket(error)
        if _NO_CREDENTIALS.search(str(error)):
            return ConfigError(f"{self._at('')}: no credentials were found.{named}", subject=self._setting)
        if _SKEWED in str(error):
            return skewed(self.url, "not the store's, which therefore refuses the signatures of requests")
        if kind in ("PermissionDeniedError", "UnauthenticatedError", "PermissionError") or _NO_ACCESS.search(text):
            return ConfigError(
                f"{self._at(key)}: the store refuses access ({text}). The credentials must be valid and let it "
                f"{self._uses} there.{named}",
                subject=self._setting,
            )
        if kind in ("InvalidPathError", "UnknownConfigurationKeyError") or "Unable to recognise URL" in text:
            return ConfigError(f"{self._setting}: {text}.", Advice(Action.SET, self._setting), subject=self._setting)
        advice = Advice(Action.CHECK_STORE, value=self.url)
        return StoreError(f"{self._at(key)}: the store failed ({text}).", advice, subject=self.url)

    def _refuse_missing_bucket(self, error: BaseException) -> None:
        """ConfigError when it is the bucket that is missing, not the object."""
        if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
            raise ConfigError(
                f"{self._at('')}: there is no such bucket. Expected one that exists: none is created.",
                Advice(Action.SET, self._setting),
                subject=self._setting,
            ) from error


def skewed(url: str, how: str) -> ConfigError:
    """The error of a machine whose clock is wrong."""
    return ConfigError(
        f"{escaped(url)}: the clock of this machine is {how}. Expected a difference of {MAX_SKEW_S // 60} minutes at "
        "most, for it dates attempts and publications. Set it, on systems with systemd: timedatectl set-ntp true",
        subject=url,
    )


def require_extra(setting: str = SETTING) -> None:
    """ConfigError when the libraries of the extra, which a setting needs, are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("obstore", "deltalake") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{setting} names an object store, and {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not "
            "installed.",
            Advice(Action.INSTALL, value="etl_assets[lake]"),
            Advice(Action.UNSET, setting),
            subject=setting,
        )


def at_once(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """The results for all items, in their order; many requests are under way at once, in the caller's context."""
    listed = list(items)
    if len(listed) < 2:
        return [work(item) for item in listed]
    with ThreadPoolExecutor(min(_AT_ONCE, len(listed)), thread_name_prefix="lake") as pool:
        # A context of its own for each: no two threads may enter one.
        contexts = [copy_context() for _ in listed]
        return list(pool.map(lambda context, item: context.run(work, item), contexts, listed))


def _stat(meta: Any) -> Stat:
    return Stat(meta["size"], meta["e_tag"], meta["last_modified"].timestamp())


def _first_line(error: BaseException) -> str:
    """The finding, without the library's own view of its source."""
    text = _COLOURS.sub("", str(error).partition("Debug source")[0])
    return shown(" ".join(text.split())[:_CHARS_SHOWN])
