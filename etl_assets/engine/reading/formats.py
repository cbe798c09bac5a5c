"""The formats of exports, by the endings of their names: what is in a file, and what it is packed in.

Everything that has to know a format asks here: which files of a folder are exports, how a file is read, what a draft
can be made from. Upper and lower case do not count. A file of another name, that a pattern of the contract names, is
read as delimited text.
"""

from enum import StrEnum
from urllib.parse import unquote

from etl_assets.project.dialect import Dialect


class Format(StrEnum):
    """What a file holds."""

    TEXT = "delimited text"
    OBJECTS = "JSON Lines"
    SHEET = "a workbook"
    PARQUET = "Parquet"


class Packing(StrEnum):
    """What a text is packed in; the value is its name for messages."""

    GZIP = "gzip"
    ZSTD = "zstd"
    ZIP = "zip"


_ENDINGS = {
    ".csv": Format.TEXT,
    ".tsv": Format.TEXT,
    ".tab": Format.TEXT,
    ".txt": Format.TEXT,
    ".jsonl": Format.OBJECTS,
    ".ndjson": Format.OBJECTS,
    ".xlsx": Format.SHEET,
    ".xlsm": Format.SHEET,
    ".parquet": Format.PARQUET,
}
_PACKINGS = {".gz": Packing.GZIP, ".zst": Packing.ZSTD, ".zip": Packing.ZIP}
_WITH_TABS = (".tsv", ".tab")
# They pack their own contents.
_PACKED_ITSELF = (Format.PARQUET, Format.SHEET)
# How Hive writes null in the name of a folder.
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
# Workbooks that are not read.
_OTHER_WORKBOOKS = (".xls", ".xlsb", ".ods")
# Formats of other programs, which no pattern makes readable, and what to do with a file of one.
_OTHER_FORMATS = {
    ".json": "is JSON. Export it as JSON Lines (.jsonl), an object on each line.",
    **dict.fromkeys((".html", ".htm", ".xml"), "is no table. Export it as .csv."),
    **dict.fromkeys((".numbers", ".gsheet"), "is no file of records. Export it as .xlsx or .csv."),
    **dict.fromkeys((".gpg", ".pgp", ".enc", ".aes"), "is encrypted. Decrypt it."),
    **dict.fromkeys(
        (".dbf", ".sav", ".dta", ".rds", ".pkl", ".mdb", ".accdb", ".sqlite", ".db"),
        "is of a format that is not read. Export its records as CSV or Parquet.",
    ),
    **dict.fromkeys((".orc", ".avro", ".feather", ".arrow"), "is of a format that is not read. Export it as Parquet."),
    **dict.fromkeys(
        (".bz2", ".xz", ".lz4", ".sz", ".7z", ".rar", ".tar", ".tgz", ".lz"),
        "is packed in a way that is not read. Unpack it, or pack it as .gz, .zst or .zip.",
    ),
    **dict.fromkeys(
        (".tmp", ".part", ".partial", ".filepart", ".crdownload"),
        "is the unfinished copy of a file. Wait until it is whole.",
    ),
}
# A plain `.zip` is read by the ending of the file in it.
SUFFIXES = (
    *_ENDINGS,
    *(f"{ending}{packing}" for ending, kind in _ENDINGS.items() if kind not in _PACKED_ITSELF for packing in _PACKINGS),
    ".zip",
)
LISTED = f"{', '.join(_ENDINGS)}, a text also as {', '.join(_PACKINGS)}"


def packing_of(name: str) -> Packing | None:
    """What a file of this name is packed in."""
    return next((packing for suffix, packing in _PACKINGS.items() if name.lower().endswith(suffix)), None)


def format_of(name: str) -> Format:
    """What a file of this name holds, packed or not."""
    return _ENDINGS.get(_ending(name), Format.TEXT)


def suffix_of(name: str) -> str:
    """The ending of an export's name as it is written, such as `.csv.gz`; empty for another file."""
    found = max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[len(name) - len(found) :]


def refusal(name: str) -> str | None:
    """What is wrong with a file of this name, whatever is in it; None for one that may be read."""
    if _ending(name) in _OTHER_WORKBOOKS:
        return f"is a workbook of the format {_ending(name)}. Save it as .xlsx or .csv."
    if packing_of(name) and format_of(name) in _PACKED_ITSELF:
        return f"is {format_of(name)} in an archive; only texts may be packed. Unpack it."
    return None


def unreadable(name: str) -> str | None:
    """Why a file of this name cannot be read, and what helps; None for one that can."""
    return refusal(name) or _OTHER_FORMATS.get(_ending(name))


def dialect_of(declared: Dialect, name: str) -> Dialect:
    """The dialect of a file of this name: `.tsv` says that tabs separate the cells, unless the contract says more."""
    if _ending(name) not in _WITH_TABS or declared.delimiter is not None:
        return declared
    return declared.model_copy(update={"delimiter": "\t"})


def partition_of(name: str) -> dict[str, str | None]:
    """The columns that the folders of a Parquet file name, as in `day=2026-05-01/part-0.parquet`, with their texts."""
    if format_of(name) is not Format.PARQUET:
        return {}
    pairs = [part.partition("=") for part in name.split("/")[:-1]]
    # Capitals do not tell columns apart; the innermost folder counts.
    texts = {
        unquote(column).lower(): (unquote(column), unquote(text)) for column, sign, text in pairs if column and sign
    }
    return {column: None if text == _NO_PARTITION else text for column, text in texts.values()}


def _ending(name: str) -> str:
    """The last ending of a name, without that of its packing."""
    packing = next((suffix for suffix in _PACKINGS if name.lower().endswith(suffix)), "")
    inner = name[: len(name) - len(packing)].lower()
    return inner[inner.rfind(".") :] if "." in inner else ""
