"""The books of a snapshot: every row is accepted or quarantined, and not too many are."""

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import QUARANTINE_FILE, Snapshot
from etl_assets.engine.published.unmatched import key_map_facts, unmatched_texts
from etl_assets.engine.steps.damaged_ids import damaged_text
from etl_assets.engine.steps.reject_examples import examples_text
from etl_assets.errors import AccountingError, Action, Advice, RejectRatioError, shown
from etl_assets.project.contract import Source


def close_books(snapshot: Snapshot) -> None:
    """AccountingError unless each row of the files is accepted or quarantined."""
    if snapshot.rows_in != snapshot.rows_accepted + snapshot.rows_quarantined:
        raise AccountingError(
            f"Source '{snapshot.source}': {snapshot.rows_in} rows in the files, but {snapshot.rows_accepted} accepted "
            f"and {snapshot.rows_quarantined} quarantined. Nothing was published. Files: "
            f"{', '.join(map(shown, snapshot.files))}.",
            Advice(Action.REPORT),
            subject=snapshot.source,
        )


def check_reject_ratio(home: Home, source: Source, snapshot: Snapshot, max_reject_ratio: float) -> None:
    """RejectRatioError when more of the rows broke the contract than are allowed."""
    if snapshot.reject_ratio <= max_reject_ratio:
        return
    counts = ", ".join(
        [f"{reason} {count}" for reason, count in sorted(snapshot.reasons.items())]
        + [f"{reason} {count} cells" for reason, count in sorted(snapshot.cell_reasons.items())]
    )
    path = home.snapshot(snapshot.source, snapshot.folder) / QUARANTINE_FILE
    unmatched = "".join(f" {text}." for text in unmatched_texts(source.name, key_map_facts(source, snapshot)))
    examples = examples_text(source, path, snapshot.rows_in) + damaged_text(source, path)
    raise RejectRatioError(
        f"Source '{snapshot.source}': {snapshot.reject_ratio:.1%} of {snapshot.rows_in} rows broke the contract, at "
        f"most {max_reject_ratio:.1%} are allowed ({counts}).{unmatched}{examples} The rejected rows with file, line "
        f"and reason are in {path}.",
        Advice(Action.REJECTS, value=source.name),
        Advice(Action.EXPORT_AGAIN),
        Advice(Action.SET, "ETL_MAX_REJECT_RATIO", f"{_rounded_up(snapshot.reject_ratio):g}"),
        subject=snapshot.source,
    )


def _rounded_up(share: float) -> float:
    return min(1.0, int(share * 100 + 1) / 100)
