"""What else a space of features knows: a linear probe for site, scanner, sex or view, judged on other patients."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .intervals import Estimate

FOLDS = 5
PENALTY = 0.01  # C of the logistic regression: strong, for there may be more features than images

# In simulation (60 runs, 60 patients of 2 images) a bootstrap by patient covers 90 %: it does not fit the probe anew.
SHARED = "no interval: the folds share what they were trained on"


def context_probe(features: np.ndarray, values: Sequence[str], patients: Sequence[str], *, seed: int = 0) -> Estimate:
    """Return the balanced accuracy of a cross-fitted logistic regression; chance is one over the number of values.

    Args:
        features: (N, D).
        values: N names of sites, scanners, ...
        patients: N names; a patient is trained on or judged, never both.
        seed: Of the folds.
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
    accuracy = float(np.mean([right[value == k].mean() for k in range(len(names))]))
    return Estimate(accuracy, reason=SHARED)
