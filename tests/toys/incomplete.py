"""A module that is no pipeline."""

SUMMARY = "nothing"
