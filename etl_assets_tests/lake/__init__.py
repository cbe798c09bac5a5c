"""Tests of the lake mode (`ETL_LAKE`). They need its libraries and an S3 server, and run with `make test-cluster`.

`make test` leaves this folder out as a whole (`norecursedirs` in setup.cfg), because its environment has neither. What
can be tested of the mode without them is in the other folders.
"""
