"""Other ways to the same profiles, each as an experienced user of its tool would write it.

Each is a module that runs as `python -m bench.peers.NAME SOURCES OUT [SHARDS]`. None imports the pipeline. They need
clean exports: none validates, quarantines, retries or publishes atomically.
"""
