"""Other ways to the same profiles, each as somebody who knows its tool would write it; started as `SOURCES OUT`.

None imports the pipeline. They take clean exports: none validates, quarantines, retries or publishes atomically.
"""
