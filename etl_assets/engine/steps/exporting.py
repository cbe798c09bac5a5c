"""A lake's last version as one DuckDB file, with every table: what the local mode publishes."""

from pathlib import Path

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.hashing import digest, total
from etl_assets.engine.published.lake_versions import close_copy, fetch_profiles, fetch_publication
from etl_assets.engine.published.tables import profiles_table
from etl_assets.engine.published.warehouse import (
    LAKE_FILES,
    LAKE_VERSION,
    PROFILES_TABLE,
    Publication,
    add_profiles_view,
    hash_by_shard,
    read_publication,
)
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, ConfigError, WriteError


def export_warehouse(site: Site, limits: duck.Limits, target: Path) -> Publication:
    """Write the file, whole or not at all, and read it back.

    ConfigError when there is no lake, nothing is published or the file exists; WriteError when its rows are not those
    that were published.
    """
    home = site.home
    if site.lake is None:
        raise ConfigError(
            f"ETL_LAKE is not set, and {home.warehouse} is such a file.",
            Advice(Action.SET, "ETL_LAKE"),
            subject="ETL_LAKE",
        )
    if publishing.size_bytes(target) is not None:
        raise ConfigError(f"{target} exists. Expected a name that is free: nothing is replaced.", subject=str(target))
    version = fetch_publication(home, site.lake, site.contract)
    publication = read_publication(home)
    if version is None or publication is None:
        raise ConfigError(f"There is no publication in {site.lake_url} yet.", Advice(Action.RUN))
    fetch_profiles(home, site.lake, version.files)
    with (
        publishing.scratch_directory(home) as scratch,
        publishing.publish_file(target, what=None) as temporary,
        duck.workbench(limits, scratch, folders=[home.shards, target.parent], keep_order=False) as connection,
    ):
        publishing.copy_published(home.warehouse, temporary)
        duck.attach_writable(connection, temporary, "warehouse")
        connection.execute("USE warehouse")
        add_profiles_view(connection, home)
        connection.execute(f"CREATE TABLE warehouse.whole AS FROM {PROFILES_TABLE}")
        connection.execute(f"DROP VIEW temp.{PROFILES_TABLE}")
        connection.execute(f"DROP TABLE warehouse.{PROFILES_TABLE}")
        connection.execute(f"ALTER TABLE warehouse.whole RENAME TO {PROFILES_TABLE}")
        for name in (LAKE_FILES, LAKE_VERSION):
            connection.execute(f"DROP TABLE warehouse.{name}")
        profiles_table(site.contract).comment(connection)
        found = digest(total(hash_by_shard(connection).values()))
        if found != publication.digest:
            raise WriteError(
                f"{target} is not written: its rows have the digest {found}, the publication {publication.digest}.",
                Advice(Action.CHECK_DISK),
            )
        close_copy(connection)
    return publication
