"""The application without Dagster and without a terminal: events, report, status, preflight, drill."""
