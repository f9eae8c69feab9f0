"""The stage `audit`: before an encoder, a model or an archive is released, what it gives away of patients and sites."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..core.alone import folder_alone
from ..core.errors import DataError, UserError
from ..core.files import write_json, write_text
from ..datasets.manifest.cells import write_csv
from ..datasets.manifest.columns import fact
from ..datasets.manifest.seen import TRAINED_ON, case_hash, read_hashes
from ..datasets.manifest.tables import Manifest
from ..eval.statistics.identification import Identification
from ..eval.statistics.intervals import Estimate
from ..eval.statistics.robustness_index import Robustness
from .burned_text import MOST_IMAGES, BurnedText, burned_text
from .case_features import feature_maker, features_of, is_model
from .case_pixels import case_pixels
from .patient_alarm import alarm_sentences, make_alarm, refuse_few

if TYPE_CHECKING:
    from ..finetune.reidentify import Fit
    from ..finetune.reidentify_encoder import Tuning
    from .case_features import Maker

PAGE, CONTENT, CANDIDATES, SIGNED = "audit.html", "audit.json", "candidates.csv", "signed"
BURNED = "burned_text.csv"
CONTEXTS = ("site", "scanner", "view", "sex")
MOST_BYTES = 10**7  # of a page that is signed


@dataclass
class Released:
    """What was found.

    Attributes:
        images: That were read.
        patients: Of these.
        failed: Images that could not be read.
        frozen: How well the features as they are link a patient's images.
        trained: The same of what was trained on other patients; None where too few have two images.
        groups: Columns whose values negatives share, in words; empty without.
        probes: Balanced accuracy of a probe by column, and how many values it has.
        robustness: Index by (finding, column).
        member: AUROC of the attack by the loss; None of an encoder, which has no loss of a case.
        members: How many cases the model was trained on; None where it does not say.
        notes: What was not looked at, and why.
        shadow: AUROC of the attack by the loss beside that of shadow heads; None where `member` is, or none was fitted.
        attack: What was trained to link images, in words.
        by_time: The linking by the time between two images; see `Linked`.
        text: Text in the pixels.
        alarm: What the patient alarm that was written does, in sentences; they stay.
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
    attack: str = "a trained head"
    by_time: dict[str, dict[str, Identification]] = field(default_factory=dict)
    text: BurnedText = field(default_factory=BurnedText)
    alarm: list[str] = field(default_factory=list)


def audit_stage(
    source: str | Path, manifest: Manifest, out: Path, labels: Sequence[str], seed: int = 0,
    tuning: "Tuning | None" = None, text_images: int = MOST_IMAGES,
    alarm: Path | None = None, alarm_rate: float = 0.05,
) -> Released:  # fmt: skip
    """Write `audit.html` and `audit.json`, which hold numbers alone; `candidates.csv` and `burned_text.csv` stay.

    Args:
        source: Encoder or model folder, checkpoint, or public name.
        manifest: The archive.
        out: Folder to write.
        labels: Findings for the robustness index; empty for all of the manifest.
        seed: Of folds, heads and resamples.
        tuning: What is trained to link images; None for a head alone.
        text_images: Images in which text is looked for at most, drawn at random.
        alarm: File to write a patient alarm to; None for none.
        alarm_rate: Share of right claims that it flags at most.

    Raises:
        UserError: `source` is neither, or cannot be trained so.
        DataError: Fewer than two images could be read, or one patient alone.
    """
    from ..eval.report.audit_page import audit_json, audit_page
    from ..finetune.reidentify_encoder import Tuning, trained_parameters
    from .linked import candidates, linked

    if len(manifest) < 2:
        raise DataError(f"{manifest.path}: one image alone: nobody can be told from anybody.")
    if alarm is not None:
        if not is_model(source):
            raise UserError(f"{source}: --alarm is of a model folder, whose predictions it watches, not of an encoder.")
        refuse_few(manifest.table, alarm_rate)
    with folder_alone(out):
        maker = feature_maker(source)
        tuning = tuning or Tuning()
        if tuning.mode != "head":
            trained_parameters(maker.network, tuning)  # what cannot be trained is refused before anything is read
        features, reasons = features_of(maker, manifest)
        good = np.array([not reason for reason in reasons])
        table = manifest.table[good].reset_index(drop=True)
        if len(table) < 2 or table["patient"].nunique() < 2:
            raise DataError(
                f"{manifest.path}: {len(table)} images of {table['patient'].nunique()} patients could be read: an "
                "audit needs two patients at least."
            )
        features = features[good]
        files = [file for file, read in zip(manifest.files(), good, strict=True) if read]
        fit = _fit(maker, features, table, files, tuning)
        link = linked(features, table, fit, tuning.words(), seed)
        found = Released(
            len(table), table["patient"].nunique(), int((~good).sum()), link.frozen, link.trained, link.groups,
            notes=link.notes, attack=tuning.words(), by_time=link.by_time,
        )  # fmt: skip
        _look_at_contexts(found, features, table, labels or manifest.labels, seed)
        _look_at_membership(found, source, manifest, out, seed, dict(zip(table["id"], features, strict=True)))
        write_csv(out / CANDIDATES, candidates(features, table, fit, seed))
        lines = np.flatnonzero(good) + 2  # of the manifest, whose first line names the columns
        found.text = burned_text(table, files, lines, text_images, seed, still=maker.card.arch.frames == 1)
        write_csv(out / BURNED, found.text.boxes)
        facts = {"sha256": maker.sha256, "of": "model" if is_model(source) else "encoder"}
        if alarm is not None:
            found.alarm = alarm_sentences(alarm, make_alarm(alarm, maker, features, table, alarm_rate, seed))
        write_json(out / CONTENT, audit_json(found, facts))
        write_text(out / PAGE, audit_page(found, facts))
    return found


def _fit(
    maker: "Maker", features: np.ndarray, table: pd.DataFrame, files: list[Path], tuning: "Tuning"
) -> "Fit":  # fmt: skip
    """Return what is trained to link images."""
    from ..finetune.reidentify import HeadFit
    from ..finetune.reidentify_encoder import EncoderFit

    patients = table["patient"].astype(str).tolist()
    if tuning.mode == "head":
        return HeadFit(features, patients)
    pixels = case_pixels(maker.card, files, f"--reident {tuning.mode}")
    return EncoderFit(maker.network, maker.values, maker.card, pixels, features, patients, tuning)


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
        alone = []
        for label in labels:
            truth = pd.to_numeric(table[label], errors="coerce")
            both = known & truth.notna().to_numpy()
            if truth[both].nunique() != 2:
                alone.append(label)
            else:
                found.robustness[label, column] = robustness_index(
                    features[both], truth[both].astype(int).astype(str).tolist(), values[both].tolist(),
                    patients[both].tolist(),
                )  # fmt: skip
        if alone:
            found.notes.append(f"No robustness index against {column}, for all or none have it: {', '.join(alone)}.")
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


def sign_page(out: Path, key: Path) -> Path:
    """Sign the page and its numbers, alone in a folder of their own beside the cases' table; return the signature."""
    from ..core.documents import regular_bytes
    from ..core.files import own_folder
    from ..core.signing import sign_folder

    folder = own_folder(out / SIGNED)
    for name in (PAGE, CONTENT):
        write_text(folder / name, regular_bytes(out / name, MOST_BYTES).decode())
    return sign_folder(folder, key)
