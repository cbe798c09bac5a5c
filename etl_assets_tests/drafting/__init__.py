"""Tests of drafts: made-up exports in the layouts that real systems write."""
