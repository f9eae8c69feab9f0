"""Checks of a data set before anything runs: files, duplicates, shortcuts."""
