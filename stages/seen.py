"""Which cases of a split a model has seen before it is scored on them.

In training, where its thresholds were chosen, or without labels in the pre-training of its encoder.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..datasets.manifest.seen import CHOSEN_ON, PRETRAINED_ON, TRAINED_ON, UNKNOWN, case_hash, read_hashes, seen_cases
from ..datasets.manifest.tables import SPLITS, Manifest
from .facts import facts_beside

GONE_ON = "its encoder went on from another one in pre-training, and what that had seen is not known"
_LISTS = {  # what a list of cases beside a model is of, and the key of its count
    "trained on": "trained_on",
    "chosen on (epoch, thresholds, calibration)": "chosen_on",
    "seen by the encoder in pre-training": "pretrained_on",
}
_PATIENTS = {"pretrained_on": "pretrained_patients"}


def seen_facts(model: Path, cases: pd.DataFrame) -> dict:
    """Return what a model folder stores about cases (`id, patient, split`), as plain values.

    Returns:
        By split `cases`; how many of them the model was `trained_on` and `chosen_on` (epoch, thresholds, calibration);
        `pretrained_on`, how many its encoder has seen, and `pretrained_patients`, of how many it has seen this or
        another image of the patient; `chosen_on_trained`, on how many cases of any split it was chosen after it was
        trained on them; `pretrained_at_least`, whether the encoder went on from one of which this is not known, so that
        it may have seen more. None where the folder does not say.
    """
    model = Path(model)
    trained, chosen, before = (read_hashes(model / name) for name in (TRAINED_ON, CHOSEN_ON, PRETRAINED_ON))
    both = None if trained is None or chosen is None else len(trained & chosen)
    facts = {}
    for split, part in cases.groupby("split", sort=False):
        images, patients = (None, None) if before is None else (int(seen.sum()) for seen in seen_cases(part, before))
        hashes = part["id"].map(case_hash)
        facts[str(split)] = {
            "cases": len(part),
            "trained_on": None if trained is None else int(hashes.isin(trained).sum()),
            "chosen_on": None if chosen is None else int(hashes.isin(chosen).sum()),
            "pretrained_on": images,
            "pretrained_patients": patients,
            "chosen_on_trained": both,
            "pretrained_at_least": None if before is None else UNKNOWN in before,
        }
    return facts


def seen_beside(predictions: Path, cases: pd.DataFrame) -> dict:
    """Return the same for a predictions table; empty where nothing is known.

    It is read from the file that `predict` wrote beside the table, or from the model folder there.
    """
    facts = facts_beside(predictions)
    if "seen" in facts:
        return facts["seen"]
    folder = Path(predictions).parent / "model"
    return seen_facts(folder, cases) if folder.is_dir() else {}


def seen_sentences(split: str, seen: Mapping) -> tuple[list[str], list[str]]:
    """Return what `seen_facts` means for one split: warnings, and what else is known, or not known."""
    warnings, facts = [], []
    counts = seen.get(split, {})
    count = counts.get("cases", 0)
    if counts.get("trained_on"):
        warnings.append(
            f"trained on {counts['trained_on']:,} of the {count:,} {split} cases, with their labels: the scores on "
            "these say nothing of other patients."
        )
    elif split == "train":
        warnings.append("split 'train' is what a model learns from: scores on it say nothing of other patients.")
    if counts.get("chosen_on"):
        warnings.append(
            f"epoch, thresholds or calibration were chosen on {counts['chosen_on']:,} of the {count:,} {split} cases: "
            "scores and predicted labels on these are optimistic."
        )
    if counts.get("chosen_on_trained"):
        warnings.append(
            f"epoch, thresholds or calibration were chosen on {counts['chosen_on_trained']:,} cases that the model was "
            "trained on, where it does too well: leave val out of --data.splits."
        )
    if counts.get("pretrained_on") or counts.get("pretrained_patients"):
        more = counts["pretrained_patients"] - counts["pretrained_on"]
        warnings.append(
            f"the encoder has seen {counts['pretrained_on']:,} of the {count:,} {split} cases in pre-training, without "
            "labels"
            + (f", and other images of the patients of {more:,} more" if more else "")
            + ": on new patients it may do worse. Pre-train with --data.splits '[train]' to rule that out."
        )
    unknown = [name for name, key in _LISTS.items() if counts.get(key) is None]
    if unknown:
        facts.append(
            f"it is not known whether any of the {split} cases was {_joined(unknown)}: no list of such cases lies "
            "beside the table. Whoever made the model must know."
        )
    clear = [name for name, key in _LISTS.items() if counts.get(key) == 0 and not counts.get(_PATIENTS.get(key, ""))]
    if counts.get("pretrained_at_least"):
        facts.append(f"{GONE_ON}: some of the {split} cases may be among it.")
        clear = [name for name in clear if _LISTS[name] != "pretrained_on"]
    if clear and not warnings:
        facts.insert(0, f"none of the {count:,} {split} cases was {_joined(clear)}, as far as ids and patients show.")
    return warnings, facts


def _joined(names: list[str]) -> str:
    """Return `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def encoder_sentences(folder: Path, manifest: Manifest) -> tuple[list[str], list[str]]:
    """Return facts and warnings on the cases that an encoder, or the encoder of a model, has seen.

    Raises:
        UserError: The folder does not say.
    """
    folder = Path(folder)
    is_model = (folder / "model.json").is_file()
    hashes = read_hashes(folder / (PRETRAINED_ON if is_model else TRAINED_ON))
    if hashes is None:
        raise UserError(
            f"{folder}: no list of the cases that this encoder has seen. Folders of `clinvit pretrain` have one; what "
            "others have seen, only their makers know."
        )
    facts, warnings = [], []
    if UNKNOWN in hashes:
        warnings.append(f"{GONE_ON}: the cases below are the least that were seen.")
    for split in SPLITS:
        cases = manifest.rows(split).table
        images, patients = seen_cases(cases, hashes)
        sentence = f"the encoder has seen {images.sum():,} of the {len(cases):,} {split} cases"
        if split == "train" or not patients.any():
            facts.append(sentence)
        else:
            more = np.count_nonzero(patients & ~images)
            warnings.append(
                f"{sentence} in pre-training, without labels"
                + (f", and other images of the patients of {more:,} more" if more else "")
                + f": scores on {split} may be better than on new patients. Pre-train with --data.splits '[train]'."
            )
    return facts, warnings
