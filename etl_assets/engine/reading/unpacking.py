"""Texts packed as gzip, zstd or zip, unpacked while they are read: in bounded memory, up to a limit, to their very end.

A few MB can unpack to more than any disk. An archive that was cut off must never pass for a whole one: its rows would
be taken for all there are.
"""

import contextlib
import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, cast

from etl_assets.engine.reading.formats import Packing
from etl_assets.engine.reading.verified import FileStat
from etl_assets.engine.stopping import Stop
from etl_assets.errors import Action, Advice, InputError, shown

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionReader

_CHUNK_BYTES = 1 << 20
# The largest window that the command line tool reads without being told to.
_MAX_WINDOW_BYTES = 128 << 20
# An archive of one file has a short directory; a long one would be held in memory.
_MAX_DIRECTORY_BYTES = 4 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_NAMES_SHOWN = 5


class DamagedError(Exception):
    """The packing of a file is damaged or cut off."""


class Unpacked:
    """A file's text, unpacked as it is read; `stop` interrupts it.

    InputError when it is damaged, and when there are more than `limit_bytes`.
    """

    def __init__(
        self, stream: IO[bytes], packing: Packing, stat: FileStat, stop: Stop, limit_bytes: int | None
    ) -> None:
        self._stream, self._packing, self._stat, self._stop = stream, packing, stat, stop
        self._limit_bytes = limit_bytes
        self._read_bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes."""
        self._stop.check()
        with naming(self._stat, self._packing):
            chunk = self._stream.read(size)
        self._read_bytes += len(chunk)
        if self._limit_bytes is not None and self._read_bytes > self._limit_bytes:
            raise unpacks_to_more(self._stat, self._limit_bytes)
        return chunk


@contextlib.contextmanager
def naming(stat: FileStat, packing: Packing) -> Iterator[None]:
    """Turn the error of any packing into one that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, DamagedError) as error:
        raise InputError(
            f"{shown(stat.name)} is not a readable {packing} file ({shown(str(error))}).",
            Advice(Action.EXPORT_AGAIN),
            subject=stat.name,
        ) from error


def unpacks_to_more(stat: FileStat, limit_bytes: int) -> InputError:
    """The error for a file whose contents are longer than the limit."""
    limit_mb = limit_bytes >> 20
    return InputError(
        f"{shown(stat.name)} ({stat.size_bytes} bytes) unpacks to more than the {limit_mb} MB that are allowed.",
        Advice(Action.SET, "ETL_MAX_UNPACKED", f"{2 * limit_mb}MB"),
        subject=stat.name,
    )


@contextlib.contextmanager
def unpacked(
    stream: IO[bytes], packing: Packing, stat: FileStat, stop: Stop, limit_bytes: int | None
) -> Iterator[Unpacked]:
    """The text in a packed file."""
    with contextlib.ExitStack() as stack:
        if packing is Packing.ZIP:
            plain = stack.enter_context(_member(stream, stat, limit_bytes))
        elif packing is Packing.ZSTD:
            plain = cast("IO[bytes]", _Zstd(stream))
        else:
            plain = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=stream)))
        yield Unpacked(plain, packing, stat, stop, limit_bytes)


@contextlib.contextmanager
def _member(stream: IO[bytes], stat: FileStat, limit_bytes: int | None) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(read_directory(stream, stat))
        member = only_member(archive, stat)
        if limit_bytes is not None and member.file_size > limit_bytes:
            raise unpacks_to_more(stat, limit_bytes)
        with _naming_directory(stat):
            plain = stack.enter_context(archive.open(member))
        yield plain


def read_directory(stream: IO[bytes], stat: FileStat) -> zipfile.ZipFile:
    """A zip archive; InputError when it is none, or its directory is too long to be held."""
    bounded = _BoundedReads(stream)
    with _naming_directory(stat):
        archive = zipfile.ZipFile(cast("IO[bytes]", bounded))
    bounded.limit_bytes = None
    return archive


@contextlib.contextmanager
def _naming_directory(stat: FileStat) -> Iterator[None]:
    """The errors of directories that contradict themselves: names that are no text, unknown versions and the like."""
    with naming(stat, Packing.ZIP):
        try:
            yield
        except (ValueError, OverflowError, NotImplementedError) as error:
            raise DamagedError(str(error)) from error


def name_of_member(stream: IO[bytes], stat: FileStat) -> str:
    """The name of the one file in an archive."""
    with read_directory(stream, stat) as archive:
        return only_member(archive, stat).filename


def only_member(archive: zipfile.ZipFile, stat: FileStat) -> zipfile.ZipInfo:
    """The one file in an archive; InputError when it has several or none, or one that cannot be read."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    name = shown(stat.name)
    if len(members) != 1:
        listed = ", ".join(shown(member.filename) for member in members[:_NAMES_SHOWN])
        more = ", …" if len(members) > _NAMES_SHOWN else ""
        raise InputError(
            f"{name} holds {len(members) or 'no'} files{f' ({listed}{more})' if members else ''}; expected one. "
            "Pack each export on its own.",
            subject=stat.name,
        )
    member = members[0]
    inside = shown(member.filename)
    if member.flag_bits & _ENCRYPTED:
        raise InputError(f"{inside} in {name} is encrypted. Pack it without a password.", subject=stat.name)
    # Python unpacks the other methods in pieces of any length.
    if member.compress_type not in _METHODS:
        raise InputError(
            f"{inside} in {name} is packed by method {member.compress_type}; expected deflate. Pack it again.",
            subject=stat.name,
        )
    return member


class _BoundedReads:
    """A file of which no more than a limit is read at a time: `zipfile` reads the directory of an archive at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.limit_bytes: int | None = _MAX_DIRECTORY_BYTES

    def read(self, size: int = -1) -> bytes:
        if self.limit_bytes is None:
            return self._stream.read(size)
        data = self._stream.read(self.limit_bytes + 1 if size < 0 else min(size, self.limit_bytes + 1))
        if len(data) > self.limit_bytes:
            raise DamagedError(f"its directory has more than {self.limit_bytes >> 20} MB")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise DamagedError("its directory names a place before its start")
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True


class _Zstd:
    """The text in a zstd file, whole frames only.

    The library reads a frame that was cut off to where it ends, and says nothing. So a frame of our own is put behind
    the file: only if it comes out at the end as well was the file's last frame whole. Its checksum stands behind its
    text, so that a cut block, which takes our frame for its own bytes, does not end in the same way.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        # Here: commands that read no such file do without.
        import zstandard

        self._errors = zstandard.ZstdError
        self._mark = os.urandom(32)
        end = zstandard.ZstdCompressor(write_checksum=True).compress(self._mark)
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        source = cast("IO[bytes]", _Followed(stream, end))
        self._reader: ZstdDecompressionReader = unpacker.stream_reader(source, read_across_frames=True)
        self._held = b""

    def read(self, size: int) -> bytes:
        while True:
            try:
                chunk = self._reader.read(size)
            except self._errors as error:
                raise DamagedError(str(error)) from error
            if not chunk:
                if self._held != self._mark:
                    raise DamagedError("it ends before its end-of-frame mark")
                return b""
            data = self._held + chunk
            cut = max(0, len(data) - len(self._mark))
            self._held = data[cut:]
            if cut:
                return data[:cut]


class _Followed:
    """A stream with some bytes behind it."""

    def __init__(self, stream: IO[bytes], end: bytes) -> None:
        self._stream, self._end = stream, end

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size if size >= 0 else _CHUNK_BYTES)
        if not chunk:
            chunk, self._end = self._end, b""
        return chunk
