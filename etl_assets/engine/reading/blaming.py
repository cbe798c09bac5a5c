"""Which file is to blame for an error of DuckDB."""

import contextlib
from collections.abc import Iterator, Sequence

import duckdb

from etl_assets.engine.reading import parquet
from etl_assets.engine.reading.quarantine import Reading
from etl_assets.engine.reading.unpacking import unpacks_to_more
from etl_assets.engine.stopping import Stop
from etl_assets.errors import shown


@contextlib.contextmanager
def naming_files(readings: Sequence[Reading], stop: Stop) -> Iterator[None]:
    """Turn DuckDB's error into an InputError for the file that caused it, if one did."""
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        stop.check()
        number = parquet.file_beyond(error)
        if number is not None:
            raise unpacks_to_more(readings[number].export.stat, readings[number].limit_bytes) from error
        parquet.require_readable(reading.export for reading in readings)
        # DuckDB quotes the names of files as they are.
        raise type(error)(shown(str(error))) from error
