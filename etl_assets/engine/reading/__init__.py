"""Exports in: files, records, quarantine, and the contract as SQL."""
