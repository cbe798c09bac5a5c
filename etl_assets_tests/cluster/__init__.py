"""Runs on several machines: Ray, and Dagster's history in PostgreSQL. Only `make test-cluster` runs these tests."""
