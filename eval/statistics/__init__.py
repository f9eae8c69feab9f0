"""Metrics, intervals, tests and calibration, on NumPy and SciPy only."""
