"""Tests of etl_assets.orchestration.instance."""
