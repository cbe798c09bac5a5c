"""The Dagster instance: its folder, settings, event log and launcher, and the servers of the UI.

Imports of Dagster's private modules belong here and nowhere else. A contract test covers each of them.
"""
