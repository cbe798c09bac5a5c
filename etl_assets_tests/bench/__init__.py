"""Tests of the benchmark that need none of the peers' libraries."""
