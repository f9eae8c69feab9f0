"""What else a space of features knows: a linear probe for site, scanner, sex or view, judged on other patients."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .intervals import Estimate, estimates
from .resampling import Drawn, PatientBootstrap

FOLDS = 5
PENALTY = 0.01  # C of the logistic regression: strong, for there may be more features than images


def context_probe(features: np.ndarray, values: Sequence[str], patients: Sequence[str], *, seed: int = 0) -> Estimate:
    """Return the balanced accuracy of a cross-fitted logistic regression; chance is one over the number of values.

    Args:
        features: (N, D).
        values: N names of sites, scanners, ...
        patients: N names; a patient is trained on or judged, never both.
        seed: Of the resamples of patients.
    """
    names, value = np.unique(np.asarray(values, str), return_inverse=True)
    who = np.unique(np.asarray(patients, str), return_inverse=True)[1]
    fewest = min((len(np.unique(who[value == k])) for k in range(len(names))), default=0)
    if len(names) < 2:
        return Estimate(float("nan"), reason="one value alone")
    if fewest < FOLDS:
        return Estimate(float("nan"), reason=f"{fewest} patients of the rarest value: {FOLDS} needed")
    right = np.zeros(len(value), bool)
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, value, who):
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=500))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that stops early is a weaker probe
            right[test] = fit.fit(features[train], value[train]).predict(features[test]) == value[test]
    member = np.eye(len(names))[value]
    hits, counts = member * right[:, None], member
    accuracy = float((hits.sum(axis=0) / counts.sum(axis=0)).mean())
    bootstrap = PatientBootstrap(np.asarray(patients, str).tolist(), seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (bootstrap.sums(hits) / bootstrap.sums(counts)).mean(axis=1, keepdims=True)
    return estimates(np.array([accuracy]), Drawn(draws, None, None), [""], [fewest])[0]
