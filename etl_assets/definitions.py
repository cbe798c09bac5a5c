"""What Dagster loads: `defs`, the stable entry point, and nothing else."""

from etl_assets.orchestration.code_location import build_defs

defs = build_defs()
