"""Tests of etl_assets.engine.published."""
