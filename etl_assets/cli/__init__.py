"""The `etl-assets` command: one subcommand a module, wired together in `main`."""
