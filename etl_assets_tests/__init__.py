"""Tests: they mirror the package; whole-process tests are in `whole/`."""
