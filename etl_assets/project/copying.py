"""A new project folder: a copy of the shipped one, to start from."""

from pathlib import Path

from etl_assets.errors import ConfigError
from etl_assets.project.loading import shipped_folder

_DECLARED = ("*.yaml", "*.md", "sql/**/*.sql")


def copy_shipped(folder: Path) -> None:
    """Write the shipped project to `folder`, which must not exist yet (ConfigError).

    Only the text is copied: the files of an installed package may be read-only.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists already. Choose another folder; nothing was changed.", subject=str(folder))
    shipped = shipped_folder()
    for path in sorted(found for pattern in _DECLARED for found in shipped.glob(pattern)):
        target = folder / path.relative_to(shipped)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
