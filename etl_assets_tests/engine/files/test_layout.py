"""Names under ETL_HOME: what people, documentation and other programs rely on."""

from etl_assets.engine.files.layout import Home


def test_the_layout_of_the_home_is_the_documented_one(home: Home) -> None:
    """Fails: a notebook that opens the warehouse, or a person who looks for a shard, finds nothing."""
    assert home.warehouse == home.root / "warehouse.duckdb"
    assert home.shard_file("shard_03") == home.root / "shards" / "shard_03.duckdb"
    assert home.manifest("shard_03") == home.root / "shards" / "shard_03.json"
    assert home.attempts_at("shard_03") == home.root / "attempts" / "shard_03"
    assert home.snapshot("crm", "abc") == home.root / "staged" / "crm" / "abc"
    assert home.source_pointer("crm") == home.root / "staged" / "crm" / "current.json"
    assert home.refused_pointer("crm") == home.root / "staged" / "crm" / "refused.json"
    assert home.refused_merge == home.root / "refused_merge.json"
    assert home.scratch == home.root / "scratch"


def test_a_name_makes_no_folder(home: Home) -> None:
    """Fails: asking where something would be makes folders in a home that a user only looked at."""
    home.snapshot("crm", "abc")
    home.attempts_at("shard_03")
    assert not home.root.exists()
