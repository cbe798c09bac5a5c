"""Tests of etl_assets.engine.steps."""
