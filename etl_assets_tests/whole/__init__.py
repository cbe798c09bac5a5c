"""Whole processes: what a user starts, driven from outside as a user would."""
