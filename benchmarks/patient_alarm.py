"""What share of swapped images the patient alarm catches, at which share of right claims that it flags.

    python benchmarks/patient_alarm.py MODEL MANIFEST [--rates 0.05 0.1 0.2] [--folds 5] [--seed 0]

The patients with two or more images are dealt into folds. Of each fold in turn the newest image of every patient (the
last id) is new; the earlier ones are in the archive. The head learns from other folds, the limit is of the next one,
both by `stages.patient_alarm`, as `clinvit audit --alarm` makes them. Every new image claims its own patient, then two
patients at a time are swapped. 95 % intervals are Clopper-Pearson's over patients and over swapped
pairs; that of swapped images is of resampled pairs.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from clinvit.datasets.manifest.seen import case_hash, patient_hash
from clinvit.stages.case_features import feature_maker, features_of
from clinvit.stages.data import open_manifest
from clinvit.stages.patient_alarm import make_alarm
from scipy.stats import beta


def interval(hits: np.ndarray) -> str:
    """Return a share and its exact interval."""
    k, n = int(hits.sum()), len(hits)
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return f"{k / n:.2f} ({low:.2f} to {high:.2f})"


def claims(
    maker, features: np.ndarray, table: pd.DataFrame, newest: dict[str, int], folds: list[np.ndarray], fold: int,
    rate: float, seed: int,
) -> tuple[list[bool], list[list[bool]]]:  # fmt: skip
    """Return of a fold whether each right claim is flagged, and both images of each swapped pair."""
    asked = folds[fold].tolist()
    val = set(folds[(fold + 1) % len(folds)])
    archive = ~table.index.isin([newest[patient] for patient in asked])
    split = np.where(table["patient"].isin(val), "val", np.where(table["patient"].isin(asked), "test", "train"))
    with tempfile.TemporaryDirectory() as folder:
        known = table.assign(split=split)[archive]
        alarm = make_alarm(Path(folder) / "alarm.safetensors", maker, features[archive], known, rate, seed)

    def flagged(patient: str, claimed: str) -> bool:
        row = newest[patient]
        [vector] = alarm.vectors(features[row : row + 1])
        return alarm.flags(alarm.likeness(vector, patient_hash(claimed), case_hash(table["id"][row])))

    pairs = zip(asked[::2], asked[1::2], strict=False)  # of an odd number one stays
    return [flagged(each, each) for each in asked], [[flagged(a, b), flagged(b, a)] for a, b in pairs]


def main() -> None:
    """Print a row for each rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    manifest, maker = open_manifest(options.manifest), feature_maker(options.model)
    features, reasons = features_of(maker, manifest)
    good = np.array([not reason for reason in reasons])
    features, table = features[good], manifest.table[good].sort_values("id", kind="stable")
    features = features[np.searchsorted(np.flatnonzero(good), table.index)]
    table = table.reset_index(drop=True)
    newest = {patient: rows[-1] for patient, rows in table.groupby("patient").groups.items() if len(rows) > 1}
    folds = np.array_split(np.random.default_rng(options.seed).permutation(sorted(newest)), options.folds)
    print(f"{len(table)} images of {table['patient'].nunique()} patients, {len(newest)} with two or more")
    print("| --alarm-rate | right claims flagged | swapped images flagged | swapped pairs of which one is flagged |")
    print("|---|---|---|---|")
    for rate in options.rates:
        right, swapped = [], []
        for fold in range(options.folds):
            own, pairs = claims(maker, features, table, newest, folds, fold, rate, options.seed)
            right += own
            swapped += pairs
        found = np.array(swapped)
        draws = found[np.random.default_rng(0).integers(0, len(found), (2000, len(found)))].mean(axis=(1, 2))
        low, high = np.quantile(draws, (0.025, 0.975))
        images = f"{found.mean():.2f} ({low:.2f} to {high:.2f})"
        print(f"| {rate:g} | {interval(np.array(right))} | {images} | {interval(found.any(axis=1))} |", flush=True)


if __name__ == "__main__":
    main()
