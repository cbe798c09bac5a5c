"""Tests of etl_assets.engine.files."""
