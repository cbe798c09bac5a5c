"""What a user declares: the contract, the settings and the shipped project. No DuckDB, no Dagster."""
