"""The file `predictions.model.json` beside a predictions table: whose scores they are and what was applied to them."""

from pathlib import Path

from ..core.documents import read_json
from ..core.errors import UserError
from ..core.label_groups import groups_of, is_mixed


def beside(out: Path, what: str) -> Path:
    """Return `predictions.model.json` for `predictions.csv`."""
    return out.with_name(f"{out.stem}.{what}.json")


def model_facts(model: Path, card) -> dict:
    """Return what was applied to the scores, for people and programs that only see the table."""
    meaning = {label: card.meaning.get(label, "1 = present") for label in card.labels}
    targets = getattr(card, "targets", ())
    unread = {key: value for key, value in card.data.items() if key.startswith("unreadable") and value}
    more = {"trained_on": unread, "out_of_distribution": card.data.get("out_of_distribution")}
    more |= {"targets": list(targets)}
    return {
        "model": Path(model).resolve().name,
        "labels": list(card.labels),
        "what_one_means": meaning,
        "exclusive": card.exclusive,
        "thresholds": card.thresholds,
        "calibration": card.calibration,
    } | {key: value for key, value in more.items() if value}


def refuse_targets(card, what: str) -> None:
    """Raise where something that is for findings is asked of a model of numbers, grades or times.

    Raises:
        UserError: The model is one.
    """
    if getattr(card, "targets", ()):
        raise UserError(f"{what} is for findings; the model predicts {', '.join(card.columns)}.")


def refuse_groups(card, what: str) -> None:
    """Raise where something is not made for groups of exclusive classes beside other labels.

    Raises:
        UserError: The model has some.
    """
    if is_mixed(card.labels):
        names = ", ".join(groups_of(card.labels))
        raise UserError(f"{what} is not made for groups of classes ({names}) beside other labels.")


def facts_beside(predictions: Path) -> dict:
    """Return what `predict` has written beside its table; empty for another table."""
    path = beside(Path(predictions), "model")
    return read_json(path, remedy="Predict anew, or remove it.") if path.exists() else {}
