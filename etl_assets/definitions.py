"""What Dagster loads: `defs`, the stable entry point, and nothing else."""

from etl_assets.build import build_defs

defs = build_defs()
