"""One run of the whole pipeline in this process, from the first check to the note that Dagster knows the result.

The command line and `etl_assets.run()` both come here. Dagster is imported when there is something to do: a wrong
setting, and a run that would change nothing, do not wait a second for it.
"""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from etl_assets.engine.site import Site
from etl_assets.orchestration import interrupts
from etl_assets.orchestration.instance import reported
from etl_assets.orchestration.instance.home import dagster_home, opened_alone
from etl_assets.orchestration.instance.tags import CALL
from etl_assets.pipeline import preflight
from etl_assets.pipeline.configuration import arm_faults, site_of
from etl_assets.pipeline.embedding import Declared, configured
from etl_assets.pipeline.events import Observer, StepEvent, unobserved
from etl_assets.pipeline.report import Report
from etl_assets.project.settings import Settings


@dataclass(frozen=True)
class Order:
    """What a run is asked for: the shards to build (None: all), and the variables that name the Dagster instance."""

    shards: Sequence[str] | None = None
    force: bool = False
    allow_partial: bool = False
    accept_shrunk: bool = False
    launched_by: str = CALL
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def run(
    project: Declared = None,
    *,
    sources: Path | str | None = None,
    home: Path | str | None = None,
    num_shards: int | None = None,
    shards: Sequence[str] | None = None,
    force: bool = False,
    allow_partial: bool = False,
    accept_shrunk: bool = False,
    dagster_home: Path | str | None = None,
    on_event: Observer = unobserved,
) -> Report:
    """Stage the sources, build the shards, merge them and publish `warehouse.duckdb`, as `etl-assets run` does.

    Args:
        project: what `load_project` returned, or a folder; by default the one that `ETL_PROJECT` names, else the
            nearest folder upwards that holds a project, else the shipped customer 360.
        sources: folder of the exports; by default `ETL_SOURCES`, else the project's `settings:`, as for the next two.
        home: folder of everything the pipeline makes; by default `ETL_HOME`.
        num_shards: by default `ETL_NUM_SHARDS`.
        shards: build only these, such as `["shard_03"]`; the merge still needs all of them.
        force: rebuild what is current, too, and replace any warehouse.
        allow_partial: publish even when shards are missing; the warehouse is marked as partial.
        accept_shrunk: accept exports and a result that have far fewer rows than the last publication, in this run.
        dagster_home: folder of the Dagster instance; by default `DAGSTER_HOME`, as for `etl-assets run`.
        on_event: called with the progress of sources, shards and merge.

    Returns:
        The report. Its `ok` says whether a result was published and passed its checks; it is complete unless
        `allow_partial` was asked for. `is_warehouse_replaced` says whether the warehouse changed.

    Raises:
        ConfigError: a setting or the project is wrong; nothing was done.
        InputError: an export is missing or breaks the contract as a whole; nothing was done.
        KeyboardInterrupt: Ctrl-C. What was finished is kept, and the next run goes on from there.
    """
    declared, settings = configured(project, sources=sources, home=home, num_shards=num_shards)
    arm_faults(settings)
    order = Order(shards, force, allow_partial, accept_shrunk, CALL, _instance_of(settings, dagster_home))
    return launch(site_of(declared, settings), settings, order, on_event)


def _instance_of(settings: Settings, named: Path | str | None) -> Mapping[str, str]:
    """The variable of the Dagster instance: what is passed, else what is set."""
    home = named or settings.dagster_home
    return {"DAGSTER_HOME": str(home)} if home else {}


def launch(
    site: Site,
    settings: Settings,
    order: Order,
    on_event: Observer,
    *,
    while_loading: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Report:
    """Do what is ordered, or only verify what is published when nothing is to do.

    `while_loading` surrounds the import of Dagster and the opening of the instance. Raises Interrupted after
    Ctrl-C or SIGTERM, OSError when the history of runs cannot be written, and what `preflight` refuses.
    """
    with interrupts.watch() as ctrl_c:
        try:
            report = _launched(site, settings, order, _until(ctrl_c, on_event), while_loading)
        except KeyboardInterrupt as error:
            raise ctrl_c.ending() from error
        if ctrl_c.happened:
            raise ctrl_c.ending()
    return report


def _launched(
    site: Site,
    settings: Settings,
    order: Order,
    observe: Observer,
    while_loading: Callable[[], AbstractContextManager[None]],
) -> Report:
    preflight.refuse_impossible(site, settings, shards=order.shards, force=order.force)
    home = dagster_home(order.environment)
    if not order.force and reported.is_reported(site, home):
        unchanged = preflight.nothing_to_do(site, settings)
        if unchanged is not None:
            return unchanged
    preflight.refuse_bad_sql(site)
    with while_loading():
        from etl_assets.orchestration.instance import history, opening
        from etl_assets.orchestration.run import run_pipeline
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(history.synced_once())
            with opened_alone(home), while_loading():
                opened = opening.open_instance(home)
            instance = stack.enter_context(opened)
            report = run_pipeline(
                site,
                settings,
                instance=instance,
                shards=order.shards,
                force=order.force,
                allow_partial=order.allow_partial,
                accept_shrunk=order.accept_shrunk,
                launched_by=order.launched_by,
                on_event=observe,
            )
    except Exception as error:
        refusal = _refusal_of_database(error)
        if refusal is None:
            raise
        raise OSError(None, f"the run history cannot be written: {refusal}", str(home)) from error
    # A run that has warnings to show is not skipped.
    if report.ok and not report.warned_checks:
        reported.remember(site, home)
    return report


def _refusal_of_database(error: BaseException) -> str | None:
    """What a database says that cannot be reached or written to; None for another error.

    Dagster wraps it: in an error of dagster-postgres after some attempts to connect, or in that of the step.
    """
    from sqlalchemy.exc import InterfaceError, OperationalError

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, InterfaceError | OperationalError):
            return " ".join(str(found.orig).split())
        found = found.__cause__ or found.__context__
    return None


def _until(ctrl_c: interrupts.Interrupts, on_event: Observer) -> Observer:
    """An observer that ends the step after Ctrl-C, which Dagster would take for an error to retry."""

    def observe(event: StepEvent) -> None:
        on_event(event)
        if ctrl_c.happened:
            import dagster as dg

            raise dg.Failure("interrupted", allow_retries=False)

    return observe
