"""The bytes of a file as those of UTF-8 text: unpacked, decoded, without the lines around the records.

Everything after this reads one kind of stream, whatever the file's packing and encoding. A byte that the encoding does
not have becomes NUL, which no sound record holds: the record that has it is damaged, and its neighbours are not.
"""

import codecs
import io
from collections.abc import Iterator
from typing import IO, cast

from etl_assets.project.dialect import Dialect

_CHUNK_BYTES = 1 << 20
_NOT_DECODED = "etl_assets.nul"
_UTF8 = frozenset({"utf-8", "utf-8-sig", "ascii"})


def _as_nul(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\0", error.end
    raise error


codecs.register_error(_NOT_DECODED, _as_nul)


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def text_of(stream: IO[bytes], dialect: Dialect) -> IO[bytes]:
    """The records of the file as UTF-8 bytes, header first; the stream itself where it is just that."""
    if dialect.encoding in _UTF8 and not dialect.skip_lines and not dialect.footer_lines:
        return stream
    chunks = _chunks(stream)
    if dialect.encoding not in _UTF8:
        chunks = _decoded(chunks, dialect.encoding)
    if dialect.skip_lines:
        chunks = _without_first(chunks, dialect.skip_lines)
    if dialect.footer_lines:
        chunks = _without_last(chunks, dialect.footer_lines)
    return cast("IO[bytes]", io.BufferedReader(_Chunks(chunks), _CHUNK_BYTES))


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(_NOT_DECODED)
    for chunk in chunks:
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()


def _without_first(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    left = count
    for chunk in chunks:
        start = 0
        while left and (end := chunk.find(b"\n", start)) >= 0:
            start, left = end + 1, left - 1
        if not left:
            yield chunk[start:]
            break
    yield from chunks


def _without_last(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Holds back the last `count` lines that were seen, with their ends."""
    held = b""
    for chunk in chunks:
        held += chunk
        # The last line may end without a line break, or its line break may end the text.
        cut = len(held) - 1 if held.endswith(b"\n") else len(held)
        for _ in range(count):
            cut = held.rfind(b"\n", 0, cut)
            if cut < 0:
                break
        if cut >= 0:
            yield held[: cut + 1]
            held = held[cut + 1 :]
