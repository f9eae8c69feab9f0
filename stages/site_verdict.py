"""The stage `merge --verify`: what a hospital finds of a merged model on its validation, and its calibrated copy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.alone import folder_alone
from ..core.documents import read_json
from ..core.errors import DataError, UserError
from ..core.files import copy_folder, file_sha256, write_json
from ..datasets.manifest.tables import Manifest, Predictions, write_predictions
from ..eval.inputs import open_predictions
from ..finetune.scored import calibrated
from .data import open_manifest
from .facts import refuse_groups
from .finetune import store_thresholds
from .recalibrate import recalibrate_stage

if TYPE_CHECKING:
    from ..eval.statistics.compare import Comparison
    from ..finetune.model import ModelCard

KIND = "verdict of a site"
SPLIT = "val"
VERDICT, MERGED, OWN = "verdict.json", "merged.csv", "own.csv"
BETTER, WORSE, OPEN, EQUAL, NONE = "better", "worse", "no difference shown", "equal", "not judged"
_P = 0.05
# What a verdict holds, and of which kind.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "kind": str, "site": str, "merged": str, "own": str, "split": str, "cases": int, "patients": int, "failed": int,
    "labels": dict, "mean": dict, "margin": dict, "calibration": dict, "notes": list,
}  # fmt: skip


def verify_stage(
    merged: Path,
    out: Path,
    own: Path | None = None,
    data: Path | Manifest | None = None,
    verdicts: Sequence[Path] = (),
    *,
    method: str | None = None,
    rule: str = "youden",
    margin: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Write `out/model`, a copy of a merged model whose card holds verdicts of sites; return them by site.

    With a site's own model and its validation cases the site's verdict is found: the merged model minus its own, AUROC
    by label, by DeLong's paired test. The copy is calibrated on these cases, and its thresholds are chosen on them.
    `out/verdict.json` holds numbers alone; the scores of cases beside it stay in the house.

    Args:
        merged: Model folder of `clinvit merge`.
        out: Run folder to write; it must not exist, or be empty.
        own: The site's own model, one of those that were merged; None to collect verdicts alone.
        data: The site's manifest, or its folder.
        verdicts: Files `verdict.json` of other sites.
        method: Of the calibration (`recalibrate_stage`).
        rule: For the thresholds.
        margin: Of the mean AUROC, by which the merged model may be worse; None asks no such question.

    Raises:
        UserError: Not a merged model, another model than those merged, a verdict on another merge, or `out` exists.
        DataError: No case, no label of which enough patients are known, or cases that a site has trained on.
    """
    from ..eval.evaluation import Evaluation
    from ..eval.statistics.compare import compare
    from ..eval.statistics.questions import NON_INFERIORITY, Margin
    from ..eval.statistics.rules import parse_rule
    from ..eval.statistics.scaling import check_method
    from ..finetune.model import load_card

    out, card = Path(out), load_card(merged)
    refuse_groups(card, "the verdict on a merged model")
    if not card.merge:
        raise UserError(f"{merged}: not a merged model (`clinvit merge` makes one).")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists; name a new folder for the copy, or remove it.")
    if card.calibration:
        raise UserError(f"{merged}: calibrated already, for a site: give the merged model as `clinvit merge` wrote it.")
    card.refuse_changed_weights(merged)
    sha256 = file_sha256(merged / card.weights_file)
    known: dict[str, dict[str, Any]] = {}
    for path in verdicts:
        verdict = read_verdict(path, sha256, card)
        if verdict["site"] in known:
            raise UserError(f"{path}: a second verdict of {verdict['site']}: leave one out.")
        known[verdict["site"]] = verdict
    if own is None:
        with folder_alone(out):
            copy_folder(Path(merged), out / "model")
            _with_sites(card, known).write(out / "model")
        return {**card.merge.get("sites", {}), **known}
    assert data is not None, "a site has cases"
    parse_rule(rule)
    if margin is not None:
        Margin(NON_INFERIORITY, margin)
    if method is not None:
        check_method(method, card.exclusive)
    site, own_sha256 = _site(card, own)
    if site in known:
        raise UserError(f"a verdict of {site} is given, and found anew: leave the file out.")
    cases = _cases(open_manifest(data), card, merged)
    # All that can be refused is refused before anything is written.
    tables = {name: _scores(path, cases) for path, name in ((merged, MERGED), (own, OWN))}
    comparison = compare(tables[MERGED], tables[OWN], Evaluation(split=SPLIT))
    with folder_alone(out):
        for name, table in tables.items():
            write_predictions(out / name, table)
        notes = _notes(own, comparison)
        try:
            recalibrate_stage(merged, out / MERGED, out / "model", method, SPLIT)
        except DataError as error:  # a verdict is worth most where the scores are worth nothing
            copy_folder(Path(merged), out / "model")
            notes.append(f"scores stay as they are: {str(error).partition(': ')[2]}")
        copy = load_card(out / "model")
        verdict = _verdict(comparison, tables, margin) | {
            "kind": KIND, "site": site, "merged": sha256, "own": own_sha256, "split": SPLIT,
            "calibration": copy.calibration, "notes": notes,
        }  # fmt: skip
        known[site] = {name: verdict[name] for name in _FIELDS}
        _with_sites(copy, known).write(out / "model")
        store_thresholds(out / "model", _shown(tables[MERGED], copy), rule)
        write_json(out / VERDICT, known[site])
    return {**card.merge.get("sites", {}), **known}


def read_verdict(path: Path, sha256: str, card: "ModelCard") -> dict[str, Any]:
    """Return another site's verdict on a merged model.

    Raises:
        UserError: It is none, or of another merged model or site.
    """
    remedy = "Get verdict.json from the site again."
    try:
        found = read_json(path, remedy=remedy)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {remedy}") from None
    if found.get("kind") != KIND or any(not isinstance(found.get(name), kind) for name, kind in _FIELDS.items()):
        raise UserError(f"{path}: not a verdict of `clinvit merge --verify`. {remedy}")
    try:
        verdict_lines(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: damaged. {remedy}") from None
    if found["merged"] != sha256:
        raise UserError(f"{path}: of {found['site']}, on another merged model. {remedy}")
    if found["site"] not in (names := [each["name"] for each in card.merge["models"]]):
        raise UserError(f"{path}: of {found['site']}, but merged were {', '.join(names)}.")
    return {name: found[name] for name in _FIELDS}


def _with_sites(card: "ModelCard", known: Mapping[str, dict]) -> "ModelCard":
    return replace(card, merge=card.merge | {"sites": {**card.merge.get("sites", {}), **known}})


def _site(card: "ModelCard", own: Path) -> tuple[str, str]:
    """Return under which name a site's model was merged, and its fingerprint.

    Raises:
        UserError: It was not.
    """
    from ..finetune.model import load_card

    sha256 = file_sha256(own / load_card(own).weights_file)
    for each in card.merge["models"]:
        if each["sha256"] == sha256:
            return each["name"], sha256
    names = ", ".join(each["name"] for each in card.merge["models"])
    raise UserError(f"{own}: not one of the models that were merged ({names}): its weights are others.")


def _cases(manifest: Manifest, card: "ModelCard", merged: Path) -> Manifest:
    """Return the cases to verify on.

    Raises:
        DataError: There are none, too few patients with and without each label, or some that a site has trained on.
    """
    from ..datasets.manifest.seen import TRAINED_ON, read_hashes, seen_cases
    from ..eval.statistics.resampling import PatientBootstrap
    from ..eval.statistics.reservations import FEW

    cases = manifest.rows(SPLIT)
    if not len(cases):
        raise DataError(
            f"{manifest.path}: no case in the split {SPLIT} to verify on. Give this split to patients that nobody was "
            "trained on."
        )
    labels = [label for label in card.labels if label in cases.labels]
    if not labels:
        raise DataError(f"{manifest.path}: has none of the merged model's labels {', '.join(card.labels)}.")
    few = PatientBootstrap(cases.table["patient"]).smaller_class(cases.truth(labels))
    if few.max() < FEW:
        most = max(zip(few, labels))
        raise DataError(
            f"{manifest.path}: {SPLIT} has no label with {FEW} patients with it and {FEW} without it: nothing can be "
            f"said of the merged model. The most are {int(most[0])}, of {most[1]}."
        )
    hashes = read_hashes(Path(merged) / TRAINED_ON)
    if hashes is not None and (seen := int(seen_cases(cases.table, hashes)[0].sum())):
        raise DataError(
            f"{manifest.path}: a merged model was trained on {seen:,} of {len(cases):,} {SPLIT} cases: they cannot "
            "verify. Give other cases the split {SPLIT}."
        )
    return cases


def _scores(model: Path, cases: Manifest) -> pd.DataFrame:
    """Return a model's scores of the cases, as its network gives them, without calibration.

    Raises:
        DataError: Every case failed.
    """
    from ..finetune.model import load_model
    from ..finetune.pipeline import manifest_cases, predicted
    from ..finetune.predict import model_predictor

    network, card = load_model(model)
    card = replace(card, calibration={}, thresholds={})
    rows, truth = manifest_cases(cases, card.asked)
    table = predicted(rows, truth, model_predictor(network, card))
    if (table["status"] != "ok").all():
        raise DataError(f"{model}: none of {len(table):,} cases got a score. The first: {table['reason'].iloc[0]}")
    return table


def _verdict(comparison: "Comparison", tables: Mapping[str, pd.DataFrame], margin: float | None) -> dict[str, Any]:
    """Return the numbers: by label, of the mean, and the answer to the question of non-inferiority."""
    from ..eval.statistics.margins import margin_test
    from ..eval.statistics.metrics import auroc
    from ..eval.statistics.questions import NON_INFERIORITY, Margin

    labels: dict[str, dict[str, Any]] = {}
    both = tables[MERGED]["status"].eq("ok") & tables[OWN]["status"].eq("ok")
    for place, (label, test) in enumerate(zip(comparison.labels, comparison.tests)):
        truth = tables[MERGED].loc[both, f"y_{label}"].to_numpy(float)
        before, after = (
            auroc(truth[:, None], tables[name].loc[both, f"p_{label}"].to_numpy(float)[:, None])[0]
            for name in (OWN, MERGED)
        )
        gap, p = test.difference, float(comparison.adjusted[place])
        labels[label] = {
            "own": _number(before), "merged": _number(after), "difference": _number(gap.value), "low": _number(gap.low),
            "high": _number(gap.high), "p": _number(test.p), "p_holm": _number(p), "reason": gap.reason,
            "verdict": _word(gap.value, p, comparison.identical),
        }  # fmt: skip
    mean = comparison.macro["auroc"]
    answer: dict[str, Any] = {}
    if margin is not None:
        found = margin_test(comparison, Margin(NON_INFERIORITY, margin))
        answer = {"margin": margin, "verdict": found.verdict or NONE, "further cases": found.needed}
    return {
        "cases": comparison.cases, "patients": comparison.patients, "failed": comparison.left_out, "labels": labels,
        "mean": {
            "difference": _number(mean.value), "low": _number(mean.low), "high": _number(mean.high),
            "reason": mean.reason,
        },
        "margin": answer,
    }  # fmt: skip


def _word(difference: float, p: float, identical: bool) -> str:
    if identical:
        return EQUAL
    if np.isnan(p):
        return NONE
    if p >= _P:
        return OPEN
    return BETTER if difference > 0 else WORSE


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _notes(own: Path, comparison: "Comparison") -> list[str]:
    """Return what to bear in mind."""
    from ..eval.statistics.reservations import left_out_words
    from ..finetune.model import load_card

    notes = [f"of the mean {left_out_words(comparison.rare)}"] if comparison.rare else []
    if load_card(own).recipe.get("select", "best") != "last":
        notes.append("the own model's epoch was chosen on these cases: its AUROC is too good here")
    if comparison.not_shared:
        notes.append(f"labels that one model alone has were not compared: {', '.join(comparison.not_shared)}")
    return notes


def _shown(table: pd.DataFrame, card: "ModelCard") -> Predictions:
    """Return the cases with calibrated scores, for the thresholds."""
    found = open_predictions(table, MERGED).scored()
    scores = calibrated(card, found.scores()[:, [found.labels.index(label) for label in card.labels]])
    new = {f"p_{label}": scores[:, place] for place, label in enumerate(card.labels)}
    return replace(found, table=found.table.assign(**new))


def verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    """Return a verdict in words: a line a label, the mean, the question that was asked, and what to bear in mind."""
    site = verdict["site"]
    lines = [
        f"{site}: merged minus own on {verdict['cases']:,} {verdict['split']} cases of {verdict['patients']:,} patients"
        + (f", {verdict['failed']:,} failed" if verdict["failed"] else "")
    ]
    for label, found in verdict["labels"].items():
        if found["own"] is None or found["merged"] is None:
            lines.append(f"  {label}: {NONE} ({found['reason']})")
            continue
        both = f"AUROC {found['own']:.3f} to {found['merged']:.3f}"
        why = f" ({found['reason']})" if found["reason"] and found["verdict"] != EQUAL else ""
        lines.append(f"  {label}: {found['verdict']}{why}, {both}{_gap(found)}")
    if len(verdict["labels"]) > 1:
        mean = verdict["mean"]
        lines.append(
            f"  mean over labels{_gap(mean) or f': {NONE}'}" + (f" ({mean['reason']})" if mean["reason"] else "")
        )
    if asked := verdict["margin"]:
        further = f", {asked['further cases']:,} further cases like these would" if asked["further cases"] else ""
        lines.append(f"  not worse by {asked['margin']:g}: {asked['verdict']}{further}")
    return lines + [f"  note: {note}" for note in verdict["notes"]]


def _gap(found: Mapping[str, Any]) -> str:
    """Return a difference with its interval in words, empty where there is none."""
    if found["difference"] is None:
        return ""
    interval = "" if found["low"] is None else f" (95 % interval {found['low']:+.3f} to {found['high']:+.3f})"
    p = "" if found.get("p_holm") is None else f", p {found['p_holm']:.2g} by DeLong and Holm"
    return f", difference {found['difference']:+.3f}{interval}{p}"
