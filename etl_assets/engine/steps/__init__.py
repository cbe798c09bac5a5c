"""What makes the published files: stage, build, merge."""
