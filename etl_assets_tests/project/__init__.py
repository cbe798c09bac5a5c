"""Tests of etl_assets.project."""
