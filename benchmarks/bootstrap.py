"""2,000 patient-bootstrap resamples of AUROC over 25,596 cases x 14 findings against a loop over scikit-learn.

    uv run --group bench python benchmarks/bootstrap.py

The size is ChestX-ray14's test list (2,797 patients). scikit-learn's time is extrapolated from a few resamples.
"""

import time

import numpy as np
from clinvit.eval.statistics.metrics import auroc
from clinvit.eval.statistics.resampling import PatientBootstrap
from side_by_side import machine
from sklearn.metrics import roc_auc_score

CASES, LABELS, PATIENTS, RESAMPLES, TIMED = 25_596, 14, 2_797, 2_000, 5


def main() -> None:
    """Time both and print the ratio."""
    print(machine("scikit-learn"))
    rng = np.random.default_rng(0)
    truth = (rng.random((CASES, LABELS)) < np.linspace(0.01, 0.2, LABELS)).astype(float)
    scores = np.clip(rng.normal(0.3 + 0.2 * truth, 0.2), 0, 1)
    patients = rng.integers(0, PATIENTS, CASES).astype(str)

    start = time.perf_counter()
    draws = PatientBootstrap(patients, RESAMPLES, 0).ranks(truth, scores)
    ours = time.perf_counter() - start

    start = time.perf_counter()
    for _ in range(TIMED):
        rows = rng.integers(0, CASES, CASES)
        for label in range(LABELS):
            roc_auc_score(truth[rows, label], scores[rows, label])
    theirs = (time.perf_counter() - start) / TIMED * RESAMPLES

    assert np.allclose(auroc(truth, scores), [roc_auc_score(t, s) for t, s in zip(truth.T, scores.T)])
    print(f"{RESAMPLES} resamples of {CASES} x {LABELS} (ours: AUROC and average precision, {len(draws)} tables)")
    print(f"scikit-learn loop, AUROC only  {theirs:9.1f} s")
    print(f"ours, both                     {ours:9.1f} s{theirs / ours:8.0f}x")


if __name__ == "__main__":
    main()
