"""What Dagster shows: thin assets over the engine, one module each."""
