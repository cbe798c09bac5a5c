"""What the tables of the warehouse and their columns mean; written into the database as comments."""

from etl_assets.project.contract import SOURCES

_PROFILE = {
    "customer_id": "The customer; unique",
    "email": "E-mail address: the first that CRM, Billing, Product or Support has",
    "health_score": "Health of the relationship, 0 to 100; see engine/sql/health_score.sql",
    "churn_risk": "LOW, MEDIUM or HIGH; see engine/sql/churn_risk.sql",
    "expansion_potential": "LOW, MEDIUM or HIGH; see engine/sql/expansion_potential.sql",
    "sources": "The sources the customer stands in, in contract order",
    "shard_id": "The shard that holds the customer",
    "idempotency_key": "customer_id, a colon and the xxh3_128 of the customer's source records; unique",
}

TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "merged_profiles": (
        "One enriched profile for each customer of the accepted input",
        {column.name: f"{column.description} ({source.title})" for source in SOURCES for column in source.columns}
        | _PROFILE,
    ),
    "shard_manifest": (
        "What each shard of this publication was made from and what it holds; one row a shard",
        {
            "shard_id": "The shard",
            "shard_count": "Number of shards the customers are routed to",
            "source_snapshots": "JSON: the snapshot of each source that was read",
            "source_data_hash": "Hash of the shard's slices of all sources",
            "code_version": "Hash of the code and SQL that decide the records",
            "record_count": "Profiles in the shard",
            "content_hash": "Hash of the shard's rows, whatever their order, shard_id left out",
            "run_id": "The Dagster run that built it",
            "attempt": "Which attempt of that run, from 1",
            "started_at": "Start of the attempt that built it (UTC)",
            "ended_at": "When it was complete (UTC)",
            "elapsed_ms": "Time to build it, in milliseconds",
            "read_ms": "Of that, opening and preparing",
            "write_ms": "Of that, joining, scoring, keying and writing",
        },
    ),
    "merged_files": (
        "The file of each shard that was merged: a later merge keeps the rows of those that are still the same",
        {"shard_id": "The shard", "file_stamp": "Number, time of change and size of its file"},
    ),
    "shard_attempts": (
        "Every attempt at every shard, failed and killed ones included",
        {
            "shard_id": "The shard",
            "run_id": "The Dagster run",
            "attempt": "Which attempt of that run, from 1",
            "status": "succeeded, failed, killed, cancelled or reused",
            "started_at": "Start (UTC)",
            "ended_at": "End (UTC); null when it was killed",
            "elapsed_ms": "Duration in milliseconds; null when it was killed",
            "record_count": "Profiles published or reused; null when it did not get there",
            "error": "What went wrong",
        },
    ),
    "quarantine": (
        "Every rejected row of the current snapshots, and why",
        {
            "source": "The source",
            "file": "The file, relative to ETL_SOURCES",
            "line_number": "Physical line on which the record starts, the header being line 1 (Parquet: row number)",
            "customer_id": "The customer, where the row had one that could be read",
            "raw_text": "The record as it stands in the file (Parquet: as JSON)",
            "reason": "missing_customer_id, superseded, malformed_row or invalid:<column>",
        },
    ),
    "source_snapshots": (
        "The accounting of each source: rows_in = rows_accepted + rows_quarantined",
        {
            "source": "The source",
            "snapshot": "Id of the snapshot: bytes of the files, shard count and code",
            "files": "The files it was made from",
            "rows_in": "Records in the files, blank lines left out",
            "rows_accepted": "Rows that went to the shards",
            "rows_quarantined": "Rows that went to quarantine",
            "data_hash": "xxh3_128 of the files' bytes",
            "size_bytes": "Size of the files",
            "extra_columns": "Columns of the files that the contract does not know; ignored",
        },
    ),
    "publication": (
        "This publication as a whole; one row",
        {
            "published_at": "When it was made (UTC)",
            "run_id": "The Dagster run that made it",
            "record_count": "Profiles in merged_profiles",
            "digest": "xxh3_128 over hashes of the rows in customer_id order, shard_id left out: equal for equal input "
            "and code_version",
            "shard_count": "Number of shards",
            "code_version": "Code version of the shards",
            "set_hash": "Hash of the shard manifests it was made from",
            "is_partial": "True when shards are missing because a partial merge was asked for",
            "missing_shards": "Those shards",
            "duplicates_dropped": "Records left out because their customer stood in another shard too",
        },
    ),
}
