"""The contract of a deployed model: what it is for, within which bounds it is to stay, and when it is rolled back.

One YAML file beside the model, bound to the SHA-256 of its weights, with a SHA-256 of its own values at the end. It
holds sums over patients alone: no id, no patient, no score of a case.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from ..core.documents import YAML_BYTES, read_yaml
from ..core.errors import DataError, UserError
from ..core.files import write_text
from ..datasets.manifest.tables import Predictions, nearest
from .statistics.drift import ABOVE, BELOW, EDGES, FAILURE, SENSITIVITY, SPECIFICITY, Cases, Reference, references

FORMAT = 1
ALPHA, NOTICE = 0.05, 0.1
# What ends the use of a model at once; whatever else leaves its bounds is looked into by a person.
ROLLED_BACK = {SENSITIVITY: BELOW, SPECIFICITY: BELOW, FAILURE: ABOVE}
RULE = (
    "Sensitivity or specificity below its bound, or failure rate above: take the model out of use until a person has "
    "found the cause. Anything else out of bounds: a person looks for the cause and decides. Bounds are never moved: a "
    "changed model or a new reference gets a new contract."
)
BEFORE = "the way of working before the model"
_HEAD = (
    "# The contract of a deployed model, by `clinvit contract`; `clinvit monitor` holds predictions against it.\n"
    "# Not to be changed by hand: the SHA-256 at the end is that of all values. Calibration is truth minus score,\n"
    "# moved from -1..1 to 0..1; values of scores are shares of scores up to each edge.\n"
)


@dataclass(frozen=True)
class Contract:
    """What was agreed on when a model was deployed.

    Attributes:
        model: SHA-256 of its weights.
        labels: Names of its outputs.
        exclusive: Whether the largest score decides, not a threshold.
        thresholds, calibration: By label, as in its card.
        inputs: What it is made for: kind and size of input, network, what 1 means.
        reference: Of which cases the bounds are: split, cases, patients, failed.
        quantities: What is watched, with bounds.
        not_watched: What is not, with the reason.
        score_counts: Reference cases in each bin of scores, by label.
        edges: Upper ends of these bins but the last.
        alpha: Largest chance that a model that has not changed is ever said to be out of bounds.
        notice: Change that must not stay unseen.
        rollback: `rule`, `when` (side by quantity) and `to` what.
        written: UTC, ISO 8601.
    """

    model: str
    labels: tuple[str, ...]
    exclusive: bool
    thresholds: dict[str, Any]
    calibration: dict[str, Any]
    inputs: dict[str, Any]
    reference: dict[str, Any]
    quantities: tuple[Reference, ...]
    not_watched: dict[str, str]
    score_counts: dict[str, list[int]]
    edges: tuple[float, ...] = EDGES
    alpha: float = ALPHA
    notice: float = NOTICE
    rollback: dict[str, Any] = field(default_factory=dict)
    written: str = ""

    def cuts(self) -> np.ndarray:
        """Return (L,) thresholds, NaN where there is none."""
        return np.array([_cut(self.thresholds.get(label)) for label in self.labels])

    def plain(self) -> dict[str, Any]:
        """Return the values as YAML holds them."""
        return {"contract": FORMAT} | json.loads(json.dumps(asdict(self)))


def make_contract(
    table: Predictions,
    split: str,
    card: Mapping[str, Any],
    alpha: float = ALPHA,
    notice: float = NOTICE,
    back_to: str = BEFORE,
) -> Contract:
    """Return the contract of a model by its predictions of reference cases.

    Args:
        table: Predictions of the model.
        split: Of the reference cases.
        card: Of the contract's fields `model`, `labels`, `exclusive`, `thresholds`, `calibration`, `inputs`.
        alpha: As of `Contract`.
        notice: As of `Contract`.
        back_to: What is used once the model is rolled back.

    Raises:
        UserError: A number is out of its range, or the table has other labels or no scored case of the split.
    """
    _check(alpha, notice)
    refuse_other_labels(table, tuple(card["labels"]))
    rows = table.rows(split)
    if not len(rows.scored()):
        raise DataError(
            f"{table.path}: no scored case of the split {split!r} to take bounds from. Predict the validation cases, "
            "or name another split by --split."
        )
    labels = tuple(card["labels"])
    cuts = np.array([_cut(card["thresholds"].get(label)) for label in labels])
    cases = cases_of(rows, labels, cuts, card["exclusive"])
    found, missing = references(cases, labels, alpha)
    bins = np.searchsorted(EDGES, cases.scores[~cases.failed], side="left")
    counts = {label: np.bincount(bins[:, i], minlength=len(EDGES) + 1).tolist() for i, label in enumerate(labels)}
    reference = {
        "split": split, "cases": len(rows), "patients": int(rows.table["patient"].nunique()),
        "failed": int(cases.failed.sum()),
    }  # fmt: skip
    return Contract(
        **card,
        reference=reference,
        quantities=tuple(found),
        not_watched=missing,
        score_counts=counts,
        alpha=alpha,
        notice=notice,
        rollback={"rule": RULE, "when": dict(ROLLED_BACK), "to": back_to},
        written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def cases_of(table: Predictions, labels: tuple[str, ...], cuts: np.ndarray, exclusive: bool) -> Cases:
    """Return the cases of a table with their predicted labels, of exclusive classes the decision or largest score."""
    truth = table.table[[f"y_{label}" for label in labels]].to_numpy(np.float64)
    scores = table.table[[f"p_{label}" for label in labels]].to_numpy(np.float64)
    failed = (table.table["status"] == "failed").to_numpy()
    if "decision" in table.table.columns:
        predicted = (table.table["decision"].to_numpy()[:, None] == np.array(labels, dtype=object)).astype(np.float64)
    elif exclusive:
        best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
        predicted = (best[:, None] == np.arange(len(labels))).astype(np.float64)
    else:
        predicted = np.where(np.isnan(cuts), np.nan, scores >= cuts)
    predicted = np.where(failed[:, None], np.nan, predicted)
    return Cases(pd.factorize(table.table["patient"])[0], failed, truth, scores, predicted)


def refuse_other_labels(table: Predictions, labels: tuple[str, ...]) -> None:
    """Refuse predictions of other labels than a model's.

    Raises:
        DataError: One is missing or too many.
    """
    for name in set(labels) ^ set(table.labels):
        lacks = f"no scores for {name!r}{nearest(name, table.labels)}, which the model gives"
        words = lacks if name in labels else f"scores for {name!r}, which the model does not give"
        raise DataError(f"{table.path}: {words}. Its labels: {', '.join(labels)}. Predict with that model.")


def write_contract(path: Path, contract: Contract) -> None:
    """Write a contract.

    Raises:
        UserError: It is larger than what `read_contract` reads.
    """
    plain = contract.plain()
    text = yaml.safe_dump(
        plain | {"sha256": _seal(plain)}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=118
    )
    if len(_HEAD) + len(text.encode()) > YAML_BYTES:
        raise UserError(f"{path}: {len(contract.labels):,} labels are more than one contract holds.")
    write_text(path, _HEAD + text)


def read_contract(path: Path) -> Contract:
    """Read a contract.

    Raises:
        UserError: It is missing, none, or was changed after it had been written.
    """
    remedy = "Restore it, or write a new one by `clinvit contract`."
    try:
        plain = read_yaml(path, remedy=remedy)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. `clinvit contract MODEL --predictions TABLE` writes one.") from None
    if "contract" not in plain:
        raise UserError(f"{path}: not a contract of `clinvit contract`.")
    seal = plain.pop("sha256", None)
    if seal != _seal(plain):
        raise UserError(f"{path}: changed after it was written (its SHA-256 is another). {remedy}")
    if plain.pop("contract") != FORMAT:
        raise UserError(f"{path}: a contract of another version of ClinViT. Write a new one by `clinvit contract`.")
    try:
        own = tuple(_reference(each) for each in plain["quantities"])
        found = Contract(**plain | {"quantities": own} | {key: tuple(plain[key]) for key in ("labels", "edges")})
        _check(found.alpha, found.notice)
        return found
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a readable contract ({str(error)[:80]}). {remedy}") from None


def _reference(stored: dict[str, Any]) -> Reference:
    return Reference(**stored | {key: tuple(stored[key]) for key in ("value", "low", "high")})


def _seal(plain: Mapping[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _cut(chosen: Mapping[str, Any] | None) -> float:
    value = (chosen or {}).get("value")
    return float("nan") if value is None else float(value)


def _check(alpha: float, notice: float) -> None:
    if not 0 < alpha <= 0.5:
        raise UserError(f"alpha {alpha:g}: the chance of a false alarm, above 0 and at most 0.5, such as 0.05.")
    if not 0 < notice < 1:
        raise UserError(f"notice {notice:g}: a change of a share, between 0 and 1, such as 0.1.")
