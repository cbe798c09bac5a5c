"""The steps that make the published files: stage, build, merge."""
