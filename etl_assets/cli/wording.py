"""Errors in words for the command line: the finding, and what helps as a command that can be pasted.

The only place that turns the engine's advice into commands. The Dagster UI has words of its own, in
`orchestration.ui_wording`.
"""

import shlex
from collections.abc import Sequence

from etl_assets.cli.program import command
from etl_assets.errors import Action, Advice, EtlError, shown


def explained(error: BaseException) -> str:
    """An error's finding and what helps, the most likely first; an unforeseen error's type and text."""
    if not isinstance(error, EtlError):
        text = str(error).strip()
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    return advised(error.finding.strip(), error.advice)


def advised(finding: str, advice: Sequence[Advice]) -> str:
    """A finding and what helps: on one line, or on a line each when there is more than one thing."""
    sentences = [_sentence(one) for one in advice]
    if len(sentences) == 1 and "\n" not in finding:
        return f"{finding} {sentences[0]}"
    return "\n  ".join([finding, *sentences])


def run_command(shards: tuple[str, ...] = ()) -> str:
    """The command that runs the pipeline, or only these shards of it."""
    return command(f"run --shards {','.join(shards)}" if shards else "run")


def _sentence(advice: Advice) -> str:
    match advice.action:
        case Action.RUN | Action.STAGE:
            return f"Run: {run_command(advice.shards)}"
        case Action.RUN_FORCED:
            return f"Rebuild it: {command('run --force')}"
        case Action.GENERATE:
            folder = shlex.quote(advice.value or "")
            return f"Write sample data: {command(f'generate --rows 100000 --out {folder}')}"
        case Action.EXPORT_AGAIN:
            return f"Export it again, then run: {run_command()}"
        case Action.ACCEPT_SHRUNK:
            return f"If it is right, accept it this once: {command('run --accept-shrunk')}"
        case Action.SET if advice.value is not None:
            return f"Try: export {advice.setting}={shlex.quote(advice.value)}"
        case Action.SET:
            return f"Change the setting {advice.setting}."
        case Action.UNSET:
            return f"Try: unset {advice.setting}"
        case Action.EDIT:
            return f"Change {advice.value}."
        case Action.REPORT:
            return "This is a defect of etl-assets: please report it."
        case Action.ALLOW:
            return f"Let this user read it: change the mode or the owner of {shown(advice.value or '')}."
        case Action.CHECK_DISK:
            return f"Check the disk under ETL_HOME, then run: {run_command()}"
        case Action.CHECK_STORE:
            return f"Look whether {shown(advice.value or '')} can be reached and has room, then run: {run_command()}"
        case Action.INSTALL:
            return f"Install it: pip install {shlex.quote(advice.value or '')}"
        case Action.RELEASE:
            return f"Let the next merge replace it: {command('restore --release')}"
        case Action.LIST_KEPT:
            return f"List them: {command('restore --list')}"
        case Action.REJECTS:
            return f"Look at the rejected rows: {command(f'rejects {advice.value}')}"
        case Action.QUERY:
            statement = shlex.quote(advice.value or "")
            return f"Try: {command(f'query {statement}')}"
