"""What lies in an object store, fetched to ETL_HOME: what readers need of a lake, and exports."""

from pathlib import Path

from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.store import Store
from etl_assets.engine.published.lake_versions import fetch_profiles, fetch_publication
from etl_assets.engine.steps.copying_exports import copy_exports, look_at_exports
from etl_assets.pipeline.configuration import exports_of, home_of, project_of
from etl_assets.project.setting_types import places_of
from etl_assets.project.settings import Settings


def readable_home(settings: Settings, *, with_profiles: bool = True) -> Home:
    """The folder whose warehouse is the published one, and with a lake a copy of it that was fetched just now."""
    home = home_of(settings)
    if settings.lake:
        store = Store(settings.lake)
        version = fetch_publication(home, store, project_of(settings).contract)
        if version is not None and with_profiles:
            fetch_profiles(home, store, version.files)
    return home


def fetch_exports(settings: Settings) -> None:
    """With exports in a store, make their copy what lies there now; InputError, ConfigError, StoreError say why not."""
    if isinstance(settings.sources, str):
        publishing.require_writable(Home(settings.home))
        copy_exports(places_of(settings.sources), exports_of(settings))


def unfetched_exports(settings: Settings) -> str | None:
    """With exports in a store that are not those of the copy: a stamp of them. None otherwise. Fetches nothing."""
    if isinstance(settings.sources, Path):
        return None
    stamp, is_copied = look_at_exports(places_of(settings.sources), exports_of(settings))
    return None if is_copied else stamp
