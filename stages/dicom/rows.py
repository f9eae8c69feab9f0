"""From a row of a predictions table to a case of results."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.label_groups import parts_of
from ...datasets.manifest.tables import Ordinal, Regression, Survival, Target
from ...finetune.pipeline import PREDICTED, WARNING
from ...finetune.scored import kinds_of
from ..requested_files import CHOSEN
from .case import Algorithm, Code, Estimate, Finding, ResultCase, Value


def result_case(
    card: Any, weights: str, row: Mapping[str, Any], sources: Sequence[Path], codes: Mapping[str, Code] | None = None
) -> ResultCase:
    """Return what the results say of a row of predictions, without maps.

    Args:
        card: Of the model.
        weights: SHA-256 of its weights.
        row: Of the predictions table.
        sources: DICOM files that it is about.
        codes: Of findings, by label (`stages.task.Task.codes`); others are coded privately.
    """
    reason, warning = row["reason"], row.get(WARNING, "")
    reason = reason if isinstance(reason, str) and reason else "no reason is known"
    return ResultCase(
        id=str(row["id"]), sources=tuple(sources), algorithm=algorithm_of(card, weights),
        findings=() if kinds_of(card) else tuple(_findings(card, row, codes or {})),
        estimates=tuple(_estimate(each, card, row, codes or {}) for each in kinds_of(card)),
        reason=f"{reason.rstrip('.')}." if row["status"] != "ok" else "",
        warning=warning if isinstance(warning, str) else "",
        facts={"Image": row[CHOSEN]} if isinstance(row.get(CHOSEN), str) and row[CHOSEN] else {},
    )  # fmt: skip


def algorithm_of(card: Any, weights: str) -> Algorithm:
    """Return how results name a model: by its weights, and by all that decides with them."""
    decides, of = [weights, card.thresholds, card.calibration], "labels"
    if kinds_of(card):
        decides, of = [*decides, list(card.targets)], "target" if len(card.targets) == 1 else "targets"
    fingerprint = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
    return Algorithm(f"{card.unit} model of {len(card.labels)} {of}", weights, fingerprint, card.network_words())


def _estimate(target: Target, card: Any, row: Mapping[str, Any], codes: Mapping[str, Code]) -> Estimate:
    """Return what a row says of a target; without values where it has none."""
    scores = np.array([row[column] for column in target.columns], dtype=np.float64)
    lost = row["status"] != "ok" or bool(np.isnan(scores).any())
    values = () if lost else tuple(_values(target, scores))
    return Estimate(target.name, values, card.meaning.get(target.name, target.words()), codes.get(target.name))


def _values(target: Target, scores: np.ndarray) -> Iterator[Value]:
    """Yield the numbers of (S,) scores, the one that sums them up first."""
    if isinstance(target, Regression):
        yield Value(target.name, float(scores[0]), target.unit)
    elif isinstance(target, Ordinal):
        ((grade,),) = target.decided(scores[None]).values()
        yield Value(f"grade of {target.name}", float(grade))
        for least, share in enumerate(scores, 1):
            yield Value(f"probability of {target.name} {least} or more", float(share))
    else:
        assert isinstance(target, Survival)
        yield Value(f"risk of {target.name}", float(scores[0]))
        unit = f" {target.unit}" if target.unit else ""
        for time, share in zip(target.times, scores[1:], strict=True):
            yield Value(f"probability of no {target.name} until {time:g}{unit}", float(share))


def _findings(card: Any, row: Mapping[str, Any], codes: Mapping[str, Code]) -> Iterator[Finding]:
    scores = np.array([row[f"p_{label}"] for label in card.labels], dtype=np.float64)
    failed = row["status"] != "ok" or bool(np.isnan(scores).any())
    classes = [part.places for part in parts_of(card.labels, card.exclusive) if part.exclusive]
    of = {place: places for places in classes for place in places}
    for place, (label, score) in enumerate(zip(card.labels, scores)):
        threshold, present = (card.thresholds.get(label) or {}).get("value"), None
        if place in of:
            threshold, present = None, bool(place == of[place][scores[of[place]].argmax()])
        elif threshold is not None:
            stored = str(row.get(PREDICTED + label, ""))  # text in a table that was read again, which may lack it
            present = stored.startswith("1") if stored[:1] in ("0", "1") else bool(score >= threshold)
        yield Finding(
            label, None if failed else float(score), None if failed else present, threshold,
            card.meaning.get(label, ""), codes.get(label),
        )  # fmt: skip
