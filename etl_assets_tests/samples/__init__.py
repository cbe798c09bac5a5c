"""Tests of etl_assets.samples."""
