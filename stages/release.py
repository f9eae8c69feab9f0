"""The stage `audit`: before an encoder, a model or an archive is released, what it gives away of patients and sites."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.alone import folder_alone
from ..core.errors import DataError
from ..core.files import write_json, write_text
from ..datasets.manifest.cells import for_spreadsheets, write_csv
from ..datasets.manifest.columns import fact
from ..datasets.manifest.seen import TRAINED_ON, case_hash, read_hashes
from ..datasets.manifest.tables import Manifest
from ..eval.statistics.identification import Identification
from ..eval.statistics.intervals import Estimate
from ..eval.statistics.robustness_index import Robustness
from .case_features import feature_maker, features_of, is_model

PAGE, CONTENT, CANDIDATES, SIGNED = "audit.html", "audit.json", "candidates.csv", "signed"
CONTEXTS = ("site", "scanner", "view", "sex")
GROUP = "scanner"
MOST_PAIRS = 50
MOST_BYTES = 10**7  # of a page that is signed


@dataclass
class Released:
    """What was found.

    Attributes:
        images: That were read.
        patients: Of these.
        failed: Images that could not be read.
        frozen: How well the features as they are link a patient's images.
        trained: The same of a head that was trained on other patients; None where too few have two images.
        groups: Column whose values negatives share; empty without.
        probes: Balanced accuracy of a probe by column, and how many values it has.
        robustness: Index by (finding, column).
        member: AUROC of the attack by the loss; None of an encoder, which has no loss of a case.
        members: How many cases the model was trained on; None where it does not say.
        notes: What was not looked at, and why.
        shadow: AUROC of the attack by the loss beside that of shadow heads; None where `member` is, or none was fitted.
    """

    images: int
    patients: int
    failed: int
    frozen: Identification
    trained: Identification | None
    groups: str
    probes: dict[str, tuple[Estimate, int]] = field(default_factory=dict)
    robustness: dict[tuple[str, str], Robustness] = field(default_factory=dict)
    member: Estimate | None = None
    members: int | None = None
    notes: list[str] = field(default_factory=list)
    shadow: Estimate | None = None


def audit_stage(source: str | Path, manifest: Manifest, out: Path, labels: Sequence[str], seed: int = 0) -> Released:
    """Write `audit.html` and `audit.json`, which hold numbers alone, and `candidates.csv`, which stays in the house.

    Args:
        source: Encoder or model folder, checkpoint, or public name.
        manifest: The archive.
        out: Folder to write.
        labels: Findings for the robustness index; empty for all of the manifest.
        seed: Of folds, heads and resamples.

    Raises:
        UserError: `source` is neither.
        DataError: Fewer than two images could be read, or one patient alone.
    """
    from ..eval.report.audit_page import audit_json, audit_page

    if len(manifest) < 2:
        raise DataError(f"{manifest.path}: one image alone: nobody can be told from anybody.")
    with folder_alone(out):
        maker = feature_maker(source)
        features, reasons = features_of(maker, manifest)
        good = np.array([not reason for reason in reasons])
        table = manifest.table[good].reset_index(drop=True)
        if len(table) < 2 or table["patient"].nunique() < 2:
            raise DataError(
                f"{manifest.path}: {len(table)} images of {table['patient'].nunique()} patients could be read: an "
                "audit needs two patients at least."
            )
        features = features[good]
        found = _linked(features, table, seed, int((~good).sum()))
        _look_at_contexts(found, features, table, labels or manifest.labels, seed)
        _look_at_membership(found, source, manifest, out, seed, dict(zip(table["id"], features, strict=True)))
        _write_candidates(features, table, out / CANDIDATES, seed)
        facts = {"sha256": maker.sha256, "of": "model" if is_model(source) else "encoder"}
        write_json(out / CONTENT, audit_json(found, facts))
        write_text(out / PAGE, audit_page(found, facts))
    return found


def _linked(features: np.ndarray, table: pd.DataFrame, seed: int, failed: int) -> Released:
    """Measure how well images of a patient are linked, by features as they are and by a trained head."""
    from ..eval.statistics.identification import identification
    from ..finetune.reidentify import FOLDS, LEAST_PATIENTS, linked_features

    patients = table["patient"].astype(str).tolist()
    column = next((name for name in table if fact(name) == GROUP), None)
    groups = None if column is None else table[column].astype(str).tolist()
    frozen = identification(features, patients, groups)
    found = Released(len(table), table["patient"].nunique(), failed, frozen, None, column or "")
    folds = linked_features(features, patients, seed)
    if folds:
        rows = np.concatenate([rows for rows, _ in folds])
        place = np.repeat(np.arange(len(folds)), [len(rows) for rows, _ in folds]).astype(str)
        inside = place if groups is None else np.char.add(np.char.add(place, "\0"), np.asarray(groups, str)[rows])
        vectors = np.concatenate([vectors for _, vectors in folds])
        found.trained = identification(vectors, np.asarray(patients)[rows].tolist(), inside.tolist())
        found.notes.append(
            f"The head was trained on other patients, {FOLDS} times; each image was looked for among those of its fold."
        )
    else:
        found.notes.append(
            f"No head was trained: fewer than {LEAST_PATIENTS} patients have two images. Features as they are "
            "understate what a stranger with data of his own can do."
        )
    if column is None:
        found.notes.append("The archive names no scanners: features may tell patients apart by them.")
    return found


def _look_at_contexts(
    found: Released, features: np.ndarray, table: pd.DataFrame, labels: Sequence[str], seed: int
) -> None:
    """Probe for site, scanner, view and sex, and compute the robustness index against sites and scanners."""
    from ..eval.statistics.context_probe import context_probe
    from ..eval.statistics.robustness_index import robustness_index

    patients = table["patient"].astype(str)
    for column in table:
        kind = fact(column)
        if kind not in CONTEXTS:
            continue
        values = table[column].fillna("").astype(str).str.strip()
        known = (values != "").to_numpy()
        if values[known].nunique() < 2:
            found.notes.append(f"{column} has fewer than two values: not probed.")
            continue
        probe = context_probe(features[known], values[known].tolist(), patients[known].tolist(), seed=seed)
        found.probes[column] = probe, values[known].nunique()
        if kind not in ("site", "scanner"):
            continue
        for label in labels:
            truth = pd.to_numeric(table[label], errors="coerce")
            both = known & truth.notna().to_numpy()
            if truth[both].nunique() == 2:
                found.robustness[label, column] = robustness_index(
                    features[both], truth[both].astype(int).astype(str).tolist(), values[both].tolist(),
                    patients[both].tolist(),
                )  # fmt: skip
    missing = [kind for kind in CONTEXTS if kind not in {fact(column) for column in table}]
    if missing:
        found.notes.append(f"Not probed, for the archive has no such column: {', '.join(missing)}.")


def _look_at_membership(
    found: Released, source: str | Path, manifest: Manifest, out: Path, seed: int, features: Mapping[str, np.ndarray]
) -> None:
    """Attack a model by its losses: small ones for cases that it was trained on, alone and beside shadow heads."""
    from ..eval.statistics.membership import losses, membership
    from ..eval.statistics.shadow_attack import difficulty
    from ..finetune.model import load_card
    from .predict import Request, predict_stage

    if not is_model(source):
        found.notes.append("Membership was not attacked: an encoder gives no loss of a case.")
        return
    hashes = read_hashes(Path(source) / TRAINED_ON)
    if hashes is None:
        found.notes.append("Membership was not attacked: the model does not say what it was trained on.")
        return
    card = load_card(source)
    if card.dense:
        found.notes.append("Membership was not attacked: the model draws, and has learned places, not labels.")
        return
    labels = [label for label in card.labels if label in manifest.table]
    if not labels:
        found.notes.append("Membership was not attacked: the archive has none of the model's labels.")
        return
    place = out / "scores.csv"
    try:
        table = predict_stage(Request(Path(source), [str(manifest.path)], place))
    finally:
        for path in out.glob("scores*"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    assert table is not None, "one process alone gives the table"
    scored = table[(table["status"] == "ok") & table["id"].isin(features.keys())]
    truth = scored[[f"y_{label}" for label in labels]].to_numpy(float)
    loss = losses(truth, scored[[f"p_{label}" for label in labels]].to_numpy(float))
    member = scored["id"].map(case_hash).isin(hashes).to_numpy()
    found.members = int(member.sum())
    patients = scored["patient"].astype(str).tolist()
    found.member = membership(member, loss, patients, seed=seed)
    hard = difficulty(np.stack([features[case] for case in scored["id"]]), truth, patients, seed=seed)
    if np.isnan(hard).all():
        found.notes.append("No shadow attack: too few patients with or without each finding to fit a head on half.")
    else:
        found.shadow = membership(member, loss - hard, patients, seed=seed)


def _write_candidates(features: np.ndarray, table: pd.DataFrame, path: Path, seed: int) -> None:
    """Write pairs of images of two patients that are most alike: a person judges whether they are one."""
    from ..eval.statistics.identification import alike_patients
    from ..finetune.reidentify import LEAST_PATIENTS, head_vectors

    patients = table["patient"].astype(str).tolist()
    several = table["patient"].value_counts().gt(1).sum()
    vectors = head_vectors(features, patients, seed) if several >= LEAST_PATIENTS else features
    rows = [
        {
            "id": table["id"][row], "patient": table["patient"][row], "split": table["split"][row],
            "other_id": table["id"][other], "other_patient": table["patient"][other],
            "other_split": table["split"][other], "likeness": round(value, 4),
        }
        for row, other, value in alike_patients(vectors, patients, MOST_PAIRS)
    ]  # fmt: skip
    columns = ["id", "patient", "split", "other_id", "other_patient", "other_split", "likeness"]
    write_csv(path, for_spreadsheets(pd.DataFrame(rows, columns=columns)))


def sign_page(out: Path, key: Path) -> Path:
    """Sign the page and its numbers, alone in a folder of their own beside the cases' table; return the signature."""
    from ..core.documents import regular_bytes
    from ..core.files import own_folder
    from ..core.signing import sign_folder

    folder = own_folder(out / SIGNED)
    for name in (PAGE, CONTENT):
        write_text(folder / name, regular_bytes(out / name, MOST_BYTES).decode())
    return sign_folder(folder, key)
