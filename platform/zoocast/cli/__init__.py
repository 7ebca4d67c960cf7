"""The `pipelines` command: what can be typed, how it looks, and what is remembered of each run."""
