"""What a file is, by its first bytes: packed, a workbook, Parquet, a web page, JSON, a program's answer, or text."""

import re
from dataclasses import dataclass

_CHARS_SHOWN = 80
_WORKBOOK, _OLD = "an Excel workbook", "an Excel workbook of the old format (.xls), or an encrypted one"
_SAVE = "Save it as .xlsx or .csv, without a password."
_UNPACK = "Unpack it, or pack it as .gz, .zst or .zip."
_PARQUET = "Export it as Parquet or CSV."
_AGAIN = "Download it again and look into it: what came is no export."
_MARKS: tuple[tuple[bytes, str, str, str], ...] = (
    (b"\x1f\x8b", "gzip", ".gz", ""),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst", ""),
    (b"PAR1", "Parquet", ".parquet", ""),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLD, "", _SAVE),
    (b"BZh", "packed as bzip2", "", _UNPACK),
    (b"\xfd7zXZ\0", "packed as xz", "", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "packed as 7z", "", _UNPACK),
    (b"Rar!", "packed as rar", "", _UNPACK),
    (b"\x04\x22\x4d\x18", "packed as lz4", "", _UNPACK),
    (b"ORC", "ORC", "", _PARQUET),
    (b"Obj\x01", "Avro", "", _PARQUET),
    (b"ARROW1", "Arrow", "", _PARQUET),
    (b"SQLite format 3\0", "a SQLite database", "", "Export its table as CSV."),
    (b"%PDF", "a PDF document", "", "Export the records as CSV."),
    (b"{\\rtf", "an RTF document", "", "Export the records as CSV."),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file", "", "Fetch it: git lfs pull"),
)
_XML = re.compile(r"\s*<(\?xml|[A-Za-z][\w:.-]*[\s/>])")
_HTML = re.compile(r"<(!doctype\s+html|html|head|body|table|script|style|meta|div)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"<(Code|Message|faultstring|error)>([^<]+)</\1>", re.IGNORECASE)
_OBJECT = re.compile(r"\s*\{\s*(\"|\})")
_FAILURE = re.compile(r'"(error|errors|message|detail|status|code)"', re.IGNORECASE)
_ARRAY = re.compile(r"\s*\[\s*(\{|\[|\])")


@dataclass(frozen=True)
class Kind:
    """What a file is. With `ending`, a file of that name is read; else `advice` says what helps."""

    what: str
    ending: str = ""
    advice: str = ""

    @property
    def is_old_workbook(self) -> bool:
        """Whether it is of the format that encrypted workbooks are packed in, too."""
        return self.what == _OLD


def kind_of(start: bytes) -> Kind | None:
    """What the first bytes of a file say; None for what may be delimited text."""
    if start.startswith(b"PK\x03\x04"):
        return _zip(start)
    for mark, what, ending, advice in _MARKS:
        if start.startswith(mark):
            return Kind(what, ending, advice)
    if start[257:262] == b"ustar":
        return Kind("packed as tar", "", _UNPACK)
    return _text_kind(start)


def _zip(start: bytes) -> Kind:
    if b"xl/" in start:
        return Kind(_WORKBOOK, ".xlsx")
    if b"mimetypeapplication/vnd.oasis" in start:
        return Kind("a spreadsheet of the format .ods", "", _SAVE)
    return Kind("zip", ".zip")


def _text_kind(start: bytes) -> Kind | None:
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    text = start.decode(encoding, "replace").lstrip("\ufeff").lstrip()
    if _XML.match(text) or _HTML.match(text):
        return _markup(text)
    if _ARRAY.match(text):
        return Kind("a JSON array", "", "Write an object on each line (jq -c '.[]') to a file named .jsonl.")
    if _OBJECT.match(text):
        first, _, rest = text.partition("\n")
        if first.rstrip().endswith("}") and rest.lstrip().startswith("{"):
            return Kind("JSON Lines", ".jsonl")
        # Only the answer of a program is shown: other objects may hold personal data.
        said = f" ({_short(text)})" if _FAILURE.search(text[:_CHARS_SHOWN]) else ""
        return Kind(f"a JSON object{said}", "", "Write its records to a file named .jsonl, an object on each line.")
    return None


def _markup(text: str) -> Kind:
    if "mso-application" in text or "urn:schemas-microsoft-com:office:spreadsheet" in text:
        return Kind("an Excel workbook saved as XML", "", _SAVE)
    code = _CODE.search(text)
    if not _HTML.search(text):
        said = f" ({_short(code[2])})" if code else ""
        return Kind(f"XML{said}", "", _AGAIN if code else "Export it as CSV.")
    title = _TITLE.search(text)
    if "<table" in text.lower() and not title:
        return Kind(
            "a web page with a table, as some systems export for Excel",
            "",
            "Open it in a spreadsheet program and save it as .xlsx or .csv.",
        )
    return Kind(f"a web page ({_short(title[1])})" if title else "a web page", "", _AGAIN)


def _short(text: str) -> str:
    return " ".join(text.split())[:_CHARS_SHOWN]
