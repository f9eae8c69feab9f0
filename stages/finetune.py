"""The stage `finetune`: a manifest to a model folder with thresholds and calibration, and predictions."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.label_groups import findings_of, is_mixed
from ..datasets.manifest.seen import CHOSEN_ON, write_hashes
from ..datasets.manifest.tables import Manifest, Predictions, read_predictions
from .calibration import check_calibration, store_calibration
from .data import CACHE_GB, cache_place, look_at_shards, open_manifest
from .units import IMAGES, Asked, images_table, refuse_units, store_units, validation_images


def finetune_stage(
    recipe,
    data: Path | Manifest,
    out: Path,
    *,
    encoder: Path | None = None,
    cache=None,
    cache_gb: float = CACHE_GB,
    features: Path | None = None,
    rule: str = "youden",
    calibrate: str | None = None,
    hooks=None,
    head=None,
    units: Asked = IMAGES,
) -> Path:
    """Fine-tune, then calibrate and choose thresholds on the validation cases; return the model folder.

    Calibration and thresholds are stored in the model's card. Repeated in a finished folder, it only predicts,
    calibrates and chooses again: by another rule, if asked.

    Args:
        recipe: The resolved recipe.
        data: Manifest or its folder.
        out: Run folder.
        encoder: Encoder folder, checkpoint or name (`backbone.public`) to start from; not for slides.
        cache: See `cache_place`; not for slides.
        cache_gb: See `cache_place`.
        features: For slides: folder of their tiles' features, on which an aggregator is trained.
        rule: Rule for the thresholds.
        calibrate: `temperature` or `platt` (`eval.statistics.scaling`), None to leave the scores as they are.
        head: Which classes of the encoder's head the labels are (`finetune.start_head.StartHead`).
        hooks: Own parts of a fine-tuning on images or clips (`engine.hooks.Hooks`).
        units: Units larger than an image, at which thresholds and calibration are chosen and predictions written.

    Raises:
        UserError: The calibration is unknown, not for exclusive classes, or there is no validation case for it.
    """
    from ..engine.run_folder import rank

    manifest = open_manifest(data, recipe.data.labels)
    learned = learned_unit(recipe, units)
    if learned is not None:
        units = Asked(learned, "learned")
    if units.unit is not None:
        refuse_units(manifest, units)
    if calibrate is not None:
        check_calibration(calibrate, recipe, manifest)
    if features is not None:
        from ..mil.run import train_mil

        folder = train_mil(recipe, manifest, features, out, learned)
    elif learned is not None:
        from ..backbone.public import encoder_place
        from ..mil.multi_view_training import train_multi_view

        if encoder is None:
            raise UserError("--encoder is missing: a model of several views stands on the features of an encoder.")
        folder = train_multi_view(recipe, manifest, encoder_place(encoder), out, learned)
    else:
        from ..backbone.public import encoder_place

        encoder = None if encoder is None else encoder_place(encoder)
        place, own = cache_place(manifest, out, cache, cache_gb), {} if hooks is None else {"hooks": hooks}
        look_at_shards(place, recipe)
        from ..finetune.run import finetune

        folder = finetune(recipe, manifest, out, place, encoder, head=head, **own)
    if rank() == 0:
        after_training(folder, Path(out), rule, calibrate, manifest, units)
    return folder


def learned_unit(recipe, units: Asked) -> str | None:
    """Return the unit whose cases a recipe learns to put together; None where it learns of single ones.

    Raises:
        UserError: The recipe cannot, or can do nothing else.
    """
    from ..eval.units import LEARNED
    from ..mil.recipe import Mil, MultiView

    if isinstance(recipe, MultiView) and (units.unit is None or units.rule not in (None, LEARNED)):
        raise UserError("the recipe multi_view learns a rule of its own: name the --unit, and no other --unit-rule.")
    if isinstance(recipe, MultiView):
        return units.unit
    if units.rule == LEARNED and not isinstance(recipe, Mil):
        raise UserError("--unit-rule learned: take --recipe multi_view and an --encoder, whose features it weighs.")
    return units.unit if units.rule == LEARNED else None


def after_training(
    model: Path, out: Path, rule: str, calibrate: str | None, manifest: Manifest | None = None, units: Asked = IMAGES
) -> None:
    """Calibrate a model where that is asked for, and choose its thresholds, from the predictions of its run.

    Args:
        model: The model folder.
        out: The run folder.
        rule: Rule for the thresholds.
        calibrate: As of `finetune_stage`.
        manifest: Of the cases, where units are asked for.
        units: At which both is done.
    """
    from ..mil.cards import load_any_card

    table = out / "predictions.csv"
    images_table(table, load_any_card(model)).unlink(missing_ok=True)  # of an earlier command
    if units.unit is not None:
        from ..eval.units import Units

        assert manifest is not None
        store_units(model, table, manifest, Units(units.unit, units.rule, load_any_card(model).unit))
    if calibrate is not None:
        store_calibration(model, table, calibrate)
    found = read_predictions(table, targets=True)
    if found.targets:  # numbers, grades and times have no threshold; the epoch is chosen on the same cases
        card = load_any_card(model)
        ids = validation_images(table, card, found.rows("val").table["id"])
        write_hashes(model / CHOSEN_ON, ids if card.recipe.get("select") != "last" else [])
        return
    store_thresholds(model, found, rule)


def store_thresholds(model: Path, predictions: Predictions, rule: str) -> None:
    """Choose a threshold per label on the validation cases (or units) and write it into the model's card."""
    from ..mil.cards import load_any_card

    val = predictions.rows("val").scored()
    if not len(val):
        return
    stored = thresholds_on(val, rule)
    card = load_any_card(model)
    ids = validation_images(predictions.path, card, val.table["id"])
    chosen = any(threshold["split"] for threshold in stored.values())
    if chosen or card.recipe.get("select") != "last" or card.calibration:
        write_hashes(model / CHOSEN_ON, ids)
    else:
        write_hashes(model / CHOSEN_ON, [])
    replace(card, thresholds=stored).write(model)


def thresholds_on(val: Predictions, rule: str) -> dict[str, dict]:
    """Return the threshold of each label as cards hold them, chosen on scored validation cases.

    Classes of a group that stands beside other labels have none: the largest score decides.
    """
    from ..eval.statistics.operating_points import choose

    if is_mixed(val.labels):
        val = replace(val, labels=tuple(findings_of(val.labels)))
    if not val.labels:
        return {}
    points = choose(val.truth(), val.scores(), rule, "val")
    return {
        label: {
            "value": None if np.isnan(p.threshold) else p.threshold,
            "how": p.rule,
            "split": p.chosen_on,
            "reason": p.reason,
        }
        for label, p in zip(val.labels, points)
    }
