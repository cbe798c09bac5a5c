"""Errors in words for the Dagster UI: the finding, and what helps as an action in the UI.

The command line has words of its own, in `cli.wording`.
"""

from etl_assets.errors import Action, Advice, EtlError


def explained(error: BaseException) -> str:
    """An error's finding and what helps, for a failed run's page."""
    if not isinstance(error, EtlError):
        return str(error) or type(error).__name__
    return " ".join([error.finding, *filter(None, map(_action, error.advice))])


def _action(advice: Advice) -> str:
    match advice.action:
        case Action.RUN if advice.shards:
            return f"Materialize these partitions of shard_profiles: {', '.join(advice.shards)}; the merge follows."
        case Action.RUN:
            return "Materialize the sources, then all partitions of shard_profiles; the merge follows."
        case Action.RUN_FORCED:
            return "Materialize the sources with force set in their configuration, then all partitions."
        case Action.STAGE:
            return "Materialize the assets of the group 'sources' first."
        case Action.GENERATE:
            return f"Or write sample exports to {advice.value}."
        case Action.EXPORT_AGAIN:
            return "Export it again, then materialize the source."
        case Action.ACCEPT_SHRUNK:
            return "If it is right, materialize it with accept_shrunk set in its configuration."
        case Action.SET:
            return f"Set {advice.setting}" + (f" to {advice.value}." if advice.value else ".")
        case Action.UNSET:
            return f"Unset {advice.setting}."
        case Action.EDIT:
            return f"Change {advice.value} of the project, then reload the definitions."
        case Action.REPORT:
            return "This is a defect of etl_assets: please report it."
        case Action.ALLOW:
            return f"Let the user of the UI read it: change the mode or the owner of {advice.value}."
        case Action.CHECK_DISK:
            return "Check the disk under ETL_HOME, then materialize it again."
        case Action.CHECK_STORE:
            return f"Look whether {advice.value} can be reached and has room, then materialize it again."
        case Action.INSTALL:
            return f"Install {advice.value} where the runs work."
        case Action.RELEASE:
            return "The command `restore --release`, or `replace_restored` in the run's configuration, replaces it."
        case Action.LIST_KEPT:
            return "The command `restore --list` lists them."
        case Action.REJECTS:
            # The rows are personal data, which the UI does not show.
            return f"The command `rejects {advice.value}` shows the rejected rows."
        case Action.QUERY:
            return ""
