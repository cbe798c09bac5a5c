"""Records all of whose cells are empty, such as `,,,,`: the rows below its table that a spreadsheet exports too.

They are blank lines. Nearly every record begins with a letter or a digit, so only few are looked at.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from etl_assets.engine.reading.marks import Marks

if TYPE_CHECKING:
    from etl_assets.engine.reading.records import Mask, Offsets

_BLANKS = b" \t\n\r\v\f"


def empty_records(data: bytes, starts: "Offsets", ends: "Offsets", marks: Marks) -> "Mask":
    """Which records consist of delimiters, blanks and quotes around nothing; empty lines are not meant."""
    found = np.zeros(len(starts), np.bool_)
    buffer = np.frombuffer(data, np.uint8)
    is_mark = np.zeros(256, np.bool_)
    is_mark[[*_BLANKS, marks.delimiter[0], marks.quote[0]]] = True
    (candidates,) = np.nonzero(is_mark[buffer[starts]])
    # A cell in quotes begins with a mark as well: what is behind it, and the end, tell the others apart.
    for place in (1, 2, -1):
        candidates = candidates[_has_mark(buffer, is_mark, starts[candidates], ends[candidates], place)]
    for index, start, end in zip(
        candidates.tolist(), starts[candidates].tolist(), ends[candidates].tolist(), strict=True
    ):
        found[index] = start < end and marks.empty.fullmatch(data, start, end) is not None
    return found


def _has_mark(buffer: npt.NDArray[np.uint8], is_mark: "Mask", starts: "Offsets", ends: "Offsets", place: int) -> "Mask":
    """Whether there is a mark at this place of the record, or at the last one before it."""
    places = ends - 1 if place < 0 else np.minimum(starts + place, ends - 1)
    found: Mask = is_mark[buffer[np.maximum(places, 0)]]
    return found
