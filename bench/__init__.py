"""The benchmark: the pipeline and other ways to the same profiles, measured side by side. Not part of the package."""
