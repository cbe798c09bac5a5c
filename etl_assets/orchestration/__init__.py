"""Dagster: assets, checks, retries, automation and runs over the engine."""
