"""The Dagster instance: its folder, settings, launcher and `dagster dev`. Private Dagster imports live here only."""
