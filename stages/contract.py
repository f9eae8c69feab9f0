"""The stage `contract`: what a model is for and within which bounds it is to stay, in one file beside it."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.alone import file_alone
from ..core.errors import UserError
from ..core.files import file_sha256
from ..datasets.manifest.tables import read_predictions
from .facts import facts_beside, refuse_groups

if TYPE_CHECKING:
    from ..eval.contract import Contract


def contract_stage(
    model: Path, predictions: Path, out: Path, split: str, alpha: float, notice: float, back_to: str
) -> "Contract":
    """Write the contract of a model; return it.

    Args:
        model: Model folder.
        predictions: Its predictions of the reference cases, with truth.
        out: The file to write.
        split: Of the reference cases.
        alpha: Largest chance of ever a false alarm.
        notice: Change that must not stay unseen.
        back_to: What is used once the model is rolled back.

    Raises:
        UserError: No such model, weights that were changed, or predictions of another model or without reference cases.
    """
    from ..eval.contract import make_contract, write_contract
    from ..mil.cards import load_any_card

    card = load_any_card(model)
    refuse_groups(card, "a contract")
    card.refuse_changed_weights(model)
    sha256 = file_sha256(model / card.weights_file)
    table = read_predictions(predictions)
    refuse_another(predictions, sha256, card.thresholds, card.calibration)
    facts = {
        "model": sha256,
        "labels": card.labels,
        "exclusive": card.exclusive,
        "thresholds": card.thresholds,
        "calibration": card.calibration,
        "inputs": {
            "case": card.aggregation.get("unit", card.unit),
            "network": card.network_words(),
            **card.input_facts(),
            "what_one_means": {label: card.meaning.get(label, "1 = present") for label in card.labels},
        },
    }
    contract = make_contract(table, split, facts, alpha, notice, back_to)
    with file_alone(out):
        write_contract(out, contract)
    return contract


def refuse_another(predictions: Path, sha256: str, thresholds: dict, calibration: dict) -> bool:
    """Refuse predictions that another model made, by what `predict` has written beside them; say whether that is there.

    Args:
        predictions: The table; a model folder beside it, as in a run folder, counts too.
        sha256: Of the weights of the right model.
        thresholds: Of its card.
        calibration: Of its card.

    Raises:
        UserError: It is another model, or its thresholds or calibration are others.
    """
    facts = made_by(predictions)
    other = facts.get("sha256")
    if other is None:
        return False
    if other != sha256:
        raise UserError(
            f"{predictions}: predicted by another model (SHA-256 {str(other)[:12]}..., not {sha256[:12]}...). Each "
            "model has a contract of its own."
        )
    for what, own in (("thresholds", thresholds), ("calibration", calibration)):
        if facts.get(what, own) != own:
            raise UserError(
                f"{predictions}: predicted with another {what} of this model. Predict anew, or write a new contract."
            )
    return True


def made_by(predictions: Path) -> dict:
    """Return `sha256`, `thresholds` and `calibration` of the model that made a table; nothing where it is not known."""
    from ..mil.cards import load_any_card

    facts, folder = facts_beside(predictions), predictions.parent / "model"
    if "sha256" in facts or not (folder / "model.json").is_file():
        return facts
    card = load_any_card(folder)
    sha256 = file_sha256(folder / card.weights_file)
    return {"sha256": sha256, "thresholds": card.thresholds, "calibration": card.calibration}
