"""Tests of etl_assets.pipeline."""
