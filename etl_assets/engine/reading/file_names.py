"""Which source a file's name speaks of: `parts_2026-05-02.csv` and `Parts (1).csv` may be data of `parts`."""

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum

# Words that systems and people put beside a name for another copy of the same export.
_COPY_WORDS = """
    copy kopie copie copia of the all full part parts partial sample test new newest old alt neu latest last current
    final fixed clean update updated prev previous orig original backup bak tmp temp filepart crdownload
    export exports exported dump download data output out report rows archive archived history version v rev q
    delta incremental inc daily weekly monthly utc am pm t z
    csv tsv tab txt dat json jsonl ndjson xlsx xlsm xls xlsb ods parquet orc avro feather arrow html htm xml
    gz zst zip bz xz lz sz tar tgz rar numbers gsheet dbf sav dta rds pkl mdb accdb sqlite db gpg pgp enc aes
    w cw kw h fy
    jan feb mar apr may jun jul aug sep oct nov dec january february march april june july august september october
    november december mon tue wed thu fri sat sun
"""
_OF_ANOTHER_COPY = frozenset(_COPY_WORDS.split())
_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Likeness(IntEnum):
    """How much a name speaks of a source."""

    NONE = 0
    MENTIONS = 1  # the source's name with other words: `parts_notes`
    SAME = 2  # the source's name, with nothing but dates, numbers and words for a copy


def tokens(name: str) -> list[str]:
    """The words and numbers of a name, in lower case."""
    return [token.casefold() for token in _TOKEN.findall(_CAMEL.sub("_", name))]


def likeness(entry: str, names: Iterable[str]) -> tuple[Likeness, int]:
    """How much a file's name speaks of a source that has these names, and by how many words."""
    found = [_likeness(tokens(entry), tokens(name)) for name in names]
    return max(found, default=(Likeness.NONE, 0))


def _likeness(entry: Sequence[str], name: Sequence[str]) -> tuple[Likeness, int]:
    if not name:
        return Likeness.NONE, 0
    # Without its own words for a copy: `parts_export.csv` is followed by `parts_export (1).csv`.
    size = len(name)
    for start in range(len(entry) - size + 1):
        if list(entry[start : start + size]) == list(name):
            rest = [*entry[:start], *entry[start + size :]]
            same = all(token.isdigit() or token in _OF_ANOTHER_COPY for token in rest)
            return (Likeness.SAME if same else Likeness.MENTIONS), size
    return Likeness.NONE, 0


def stem_of(pattern: str) -> str:
    """What a pattern's last step says before its first wildcard and its ending: `Account Export*.csv` says a name."""
    literal = re.split(r"[*?\[]", pattern.rsplit("/", 1)[-1])[0]
    kept = tokens(literal)
    while len(kept) > 1 and (kept[-1].isdigit() or kept[-1] in _OF_ANOTHER_COPY):
        kept.pop()
    return " ".join(kept)
