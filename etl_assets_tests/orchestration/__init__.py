"""Tests of etl_assets.orchestration."""
