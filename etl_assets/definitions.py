"""What Dagster loads: `defs`, the stable entry point, and nothing else."""

from etl_assets.orchestration.code_location import build_defs
from etl_assets.pipeline.configuration import arm_faults
from etl_assets.project.settings import load_settings

_settings = load_settings()
# The processes of runs load this module; those of the command line arm what they run themselves.
arm_faults(_settings)
defs = build_defs(settings=_settings)
