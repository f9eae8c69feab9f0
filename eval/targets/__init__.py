"""Numbers, grades and times: their metrics, with intervals by patient, and their report."""
