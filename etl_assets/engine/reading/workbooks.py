"""Workbooks (`.xlsx`): one sheet as CSV, read by another process (see `worksheets`) from the file that was checked."""

import contextlib
import json
import select
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, cast

from etl_assets.engine.reading import unpacking, verified, worksheets
from etl_assets.engine.reading.verified import FileStat
from etl_assets.engine.reading.worksheets import REFUSED, SheetForm
from etl_assets.engine.stopping import Stop
from etl_assets.errors import Action, Advice, InputError, shown
from etl_assets.project.contract import Source
from etl_assets.project.dialect import Dialect

_POLL_MS = 200
_CHUNK_BYTES = 1 << 20
# What a workbook may unpack to where no limit is given.
_MAX_UNPACKED_BYTES = 16 << 30
# The first bytes of the files of old; encrypted workbooks are packed in one.
_OLD_FORM = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_CHARS_SHOWN = 150
_CHILD = Path(worksheets.__file__)


def reading_of(source: Source, dialect: Dialect) -> SheetForm:
    """How the sheet of a source is read: fractions and truth values are written as its dialect reads them."""
    words = (dialect.true_word, dialect.false_word)
    return SheetForm(source.sheet, dialect.skip_lines, dialect.footer_lines, dialect.decimal, *words)


def write_sheet(root: Path, stat: FileStat, form: SheetForm, stop: Stop, limit_bytes: int, target: Path) -> None:
    """Write the sheet to a file of ours; InputError for what is no workbook, and beyond the limit."""
    with opened(root, stat, form, stop, limit_bytes) as stream, target.open("wb") as out:
        while chunk := stream.read(_CHUNK_BYTES):
            out.write(chunk)


@contextlib.contextmanager
def opened(
    root: Path, stat: FileStat, form: SheetForm, stop: Stop, limit_bytes: int | None = None
) -> Iterator[IO[bytes]]:
    """The sheet as a stream of CSV in UTF-8."""
    limit_bytes = limit_bytes or _MAX_UNPACKED_BYTES
    with verified.open_verified(root, stat) as stream:
        _check_archive(stream, stat, limit_bytes)
        stream.seek(0)
        command = [sys.executable, "-P", str(_CHILD), json.dumps(asdict(form))]
        with subprocess.Popen(command, stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            try:
                yield cast("IO[bytes]", _Sheet(child, stat, form, stop, limit_bytes))
            finally:
                child.kill()


def _check_archive(stream: IO[bytes], stat: FileStat, limit_bytes: int) -> None:
    if stream.read(len(_OLD_FORM)) == _OLD_FORM:
        raise InputError(
            f"{shown(stat.name)} is encrypted, or a workbook of the old format (.xls). Save it as .xlsx, without a "
            "password.",
            subject=stat.name,
        )
    with _directory(stream, stat) as archive:
        if sum(member.file_size for member in archive.infolist()) > limit_bytes:
            raise unpacking.unpacks_to_more(stat, limit_bytes)


def _directory(stream: IO[bytes], stat: FileStat) -> zipfile.ZipFile:
    try:
        return unpacking.read_directory(stream, stat)
    except InputError as error:
        raise _unreadable(stat, str(error.__cause__)) from error


def _unreadable(stat: FileStat, why: str) -> InputError:
    return InputError(
        f"{shown(stat.name)} is not a readable workbook ({shown(why[:_CHARS_SHOWN])}).",
        Advice(Action.EXPORT_AGAIN),
        subject=stat.name,
    )


class _Sheet:
    """What the other process writes. Reading it can be stopped; InputError at its end when the process failed."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", stat: FileStat, form: SheetForm, stop: Stop, limit_bytes: int
    ) -> None:
        assert child.stdout is not None, "it was opened with a pipe"
        self._child, self._out = child, child.stdout
        self._stat, self._form, self._stop, self._limit_bytes = stat, form, stop, limit_bytes
        self._read_bytes = 0
        # Deliberately not select(), which knows the first 1,024 descriptors only.
        self._waiting = select.poll()
        self._waiting.register(self._out, select.POLLIN)

    def read(self, size: int) -> bytes:
        """The next bytes."""
        while not self._waiting.poll(_POLL_MS):
            self._stop.check()
        self._stop.check()
        chunk = self._out.read1(min(size, _CHUNK_BYTES))  # type: ignore[attr-defined]
        self._read_bytes += len(chunk)
        if self._read_bytes > self._limit_bytes:
            raise unpacking.unpacks_to_more(self._stat, self._limit_bytes)
        if not chunk:
            self._check_end()
        return cast("bytes", chunk)

    def _check_end(self) -> None:
        assert self._child.stderr is not None, "it was opened with a pipe"
        said = self._child.stderr.read().decode("utf-8", "replace")
        code = self._child.wait()
        if not code:
            return
        name = shown(self._stat.name)
        if code != REFUSED:
            raise InputError(
                f"{name} could not be read as a workbook: its sheet takes more memory or time than there is (exit code "
                f"{code}). A cell far from the others may be the cause. Save the sheet as .csv.",
                subject=self._stat.name,
            )
        kind, *names = json.loads(said)
        if kind == "sheet":
            raise InputError(
                f"{name} has no sheet '{shown(self._form.sheet)}'. Its sheets: "
                f"{', '.join(map(shown, names)) or 'none'}.",
                Advice(Action.EDIT, value="etl_assets.yaml"),
                subject=self._stat.name,
            )
        if kind == "password":
            raise InputError(f"{name} is encrypted. Save it without a password.", subject=self._stat.name)
        raise _unreadable(self._stat, names[0])
