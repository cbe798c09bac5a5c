"""The encoding of a file from its bytes: marks, NULs of UTF-16, UTF-8 throughout, else a detector's guess."""

import codecs
import contextlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO

# What gives a file's bytes, from its first one on.
Opened = Callable[[], AbstractContextManager[IO[bytes]]]
_CHUNK_BYTES = 1 << 20
_EVIDENCE_BYTES = 64 << 10
_UTF32_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Every second byte of Latin text in UTF-16 is NUL; other text has none.
_NUL_SHARE = 0.3
# The encodings of exports that are met; among more, short texts are taken for exotic ones.
_WESTERN = "cp1252"
_MET = [
    *(_WESTERN, "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gb18030", "big5", "euc_kr", "mac_roman"),
    *("cp850", "cp437", "koi8_r"),
]
# Encodings that differ from the western one in a few letters; where either may be right, that one is.
_LIKE_WESTERN = frozenset({"cp1250", "cp1254", "mac_roman", "cp850", "cp437"})
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Encoding:
    """An encoding, and on what it rests where that is no proof."""

    name: str
    guess: str = ""


def detect_in(data: bytes) -> Encoding:
    """The encoding of these bytes."""
    return detect(lambda: contextlib.closing(io.BytesIO(data)))


def detect(opened: Opened) -> Encoding:
    """The encoding of the stream that `opened` gives; reads all of it."""
    with opened() as stream:
        start = b"".join(chunks_of(stream, _CHUNK_BYTES))
    if start.startswith(_UTF32_MARKS):
        return Encoding("utf-32")
    if start.startswith(_UTF16_MARKS):
        return Encoding("utf-16")
    by_nul = _by_nuls(start)
    if by_nul is not None:
        return Encoding(by_nul, "UTF-16 without a byte order mark")
    good, bad, evidence = _as_utf8(opened)
    # Text of other encodings is hardly ever sound UTF-8 by chance: a file with damaged records stays what it is.
    if bad <= good:
        return Encoding("utf-8", f"UTF-8, in which {bad} places are damaged" if bad else "")
    name = _detected(evidence)
    shown = next((line for line in evidence.decode(name, "replace").splitlines() if not line.isascii()), "")
    return Encoding(name, f"reads as: {shown.strip()[:60]}")


def chunks_of(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """The next bytes of a stream, `size` of them where it has as many: one that unpacks may give fewer at a time."""
    while size and (chunk := stream.read(size)):
        yield chunk
        size -= len(chunk)


def _by_nuls(start: bytes) -> str | None:
    half = len(start) // 2
    if half and start[1::2].count(0) > _NUL_SHARE * half:
        return "utf-16-le"
    return "utf-16-be" if half and start[0::2].count(0) > _NUL_SHARE * half else None


def _as_utf8(opened: Opened) -> tuple[int, int, bytes]:
    """Characters beyond ASCII that are sound UTF-8, places that are not, and the lines around the first of these."""
    good = bad = 0
    evidence = b""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with opened() as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            text = decoder.decode(chunk)
            if text.isascii():
                continue
            damaged = text.count("\ufffd")
            good, bad = good + sum(not mark.isascii() for mark in text) - damaged, bad + damaged
            if damaged and len(evidence) < _EVIDENCE_BYTES:
                lines = [line for line in chunk.splitlines() if not line.isascii()]
                evidence = b"\n".join([evidence, *lines])[:_EVIDENCE_BYTES]
    return good, bad, evidence


def _detected(evidence: bytes) -> str:
    # Here: only text that is no UTF-8 needs it.
    from charset_normalizer import from_bytes

    matches = from_bytes(evidence, cp_isolation=_MET)
    best = matches.best()
    if best is None:
        return _WESTERN
    chaos = {name: match.chaos for match in matches for name in (match.encoding, *match.could_be_from_charset)}
    is_western = chaos.get(_WESTERN, 1.0) <= best.chaos + _TOLERANCE or best.encoding in _LIKE_WESTERN
    return _WESTERN if is_western and _decodes(evidence, _WESTERN) else str(best.encoding)


def _decodes(evidence: bytes, encoding: str) -> bool:
    try:
        evidence.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
