"""Tests of etl_assets.engine.reading."""
