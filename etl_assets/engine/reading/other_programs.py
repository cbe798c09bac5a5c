"""What other programs leave in folders of exports: their marks, which are no data, and signs that files are not whole.

The one list of names that are passed over without a word. Everything else in a source's folder is read or refused by
`strays`.
"""

from pathlib import Path

from etl_assets.engine.reading.formats import suffix_of

# Windows, macOS, Synology and file systems; in lower case.
_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
    | {"lost+found"}
)
_BEGINNINGS = (
    ".",  # hidden: unfinished copies, macOS's ._name.csv, locks of LibreOffice, .gitkeep
    "~$",  # locks of Microsoft Office
)
_CHECKSUM_ENDINGS = (".crc", ".md5", ".sha1", ".sha256", ".sha512", ".sig", ".asc")
# Documentation and programs. No system exports records in these formats.
_DOCUMENT_ENDINGS = (
    *(".md", ".rst", ".pdf", ".doc", ".docx", ".odt", ".png", ".jpg", ".jpeg", ".gif", ".svg"),
    *(".sql", ".py", ".ipynb", ".sh", ".ps1", ".bat", ".r", ".yaml", ".yml", ".toml", ".ini", ".log"),
)
# Folders of table formats: the files beside them hold deleted and replaced rows as well.
_TABLE_FORMATS = {"_delta_log": "a Delta Lake table", ".hoodie": "a Hudi table"}
_OF_SPARK = frozenset({"_temporary", "_delta_log", "_spark_metadata", "_change_data"})
_UNFINISHED, _FINISHED = "_temporary", "_SUCCESS"


def is_mark(name: str) -> bool:
    """Whether a file of this name is another program's mark, or a note for people: no data."""
    # Those of Spark and Databricks, such as _SUCCESS, _committed_123 and _metadata, have no ending.
    is_note = name.startswith("_") and not suffix_of(name)
    is_for_people = name.lower().startswith("readme")
    return is_note or is_for_people or is_kept_apart(name) or name.lower().endswith(_CHECKSUM_ENDINGS)


def is_kept_apart(name: str) -> bool:
    """Whether a file or folder of this name belongs to another program, with all that is in it."""
    return name.lower() in _NAMES or name.startswith(_BEGINNINGS) or name in _OF_SPARK


def is_document(name: str) -> bool:
    """Whether a file of this name is text for people or for programs: no data, and no mark either."""
    return name.lower().endswith(_DOCUMENT_ENDINGS)


def not_whole(folder: Path) -> str | None:
    """Why the files in a folder are not the rows that they seem to be; None when nothing says so."""
    for name, what in _TABLE_FORMATS.items():
        if (folder / name).is_dir():
            return f"is {what}, whose files hold deleted and replaced rows as well. Export its rows as Parquet or CSV."
    if (folder / _UNFINISHED).is_dir() and not (folder / _FINISHED).exists():
        return f"has a folder {_UNFINISHED} and no {_FINISHED}: the job that writes it is not done, or has failed."
    metadata = folder / "metadata"
    if metadata.is_dir() and any(path.name.endswith(".metadata.json") for path in metadata.iterdir()):
        return "is an Iceberg table, whose files hold deleted rows as well. Export its rows as Parquet or CSV."
    return None
