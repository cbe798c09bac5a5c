"""Sample exports of the shipped project: believable customers in four systems and, on request, dirt like real exports'.

Other projects get plausible values for whatever their contract declares (`any_project`, `any_files`); those are made in
Python, from a hash of the seed and the record.

What belongs here is how the sample looks. What an export must look like is the contract's business, and reading one is
the engine's.

Everything is a function of the row number and the seed. DuckDB computes it in SQL with an integer hash that is written
out in `dice`, so the same arguments give the same bytes on every machine, on every day and with any number of threads.
For that reason the package uses no random numbers, no `hash()`, no floating-point arithmetic before the last division
and no date but a fixed one. Two outputs also depend on a library version: `.csv.gz` on zlib, `.parquet` on DuckDB.
"""
