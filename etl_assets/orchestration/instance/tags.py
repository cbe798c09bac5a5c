"""The tags of the Dagster runs that `etl-assets run` and `etl_assets.run()` start. No Dagster import."""

import socket
import uuid

# The UI's list of runs shows what started each run.
LAUNCHED_BY_TAG = "etl_assets/launched_by"
COMMAND, CALL = "etl-assets run", "etl_assets.run()"
# The host of a run that no code server started. Its process can be seen on that host only.
HOST_TAG = "etl_assets/host"
# The same for all runs of one `etl-assets run`.
INVOCATION_TAG = "etl_assets/invocation"
# "true" on a run that was forked from the preloaded process; hidden in the UI, as its names begin with a dot.
FORKED_TAG = ".etl_assets/forked"
# Dagster's own: how often the daemon repeats a run that failed outside its steps.
MAX_RETRIES_TAG = "dagster/max_retries"


def command_tags(launched_by: str = COMMAND) -> dict[str, str]:
    """The tags that the runs of one command or call share; each is another invocation.

    The daemon does not repeat these runs: the person who started the command, and perhaps ended it, decides that.
    """
    return {
        LAUNCHED_BY_TAG: launched_by,
        HOST_TAG: socket.gethostname(),
        # Short, so that the list of runs shows it whole.
        INVOCATION_TAG: uuid.uuid4().hex[:8],
        MAX_RETRIES_TAG: "0",
    }
