"""Where an aggregator sees tumour, as metrics of a table: heat maps of the slides held against their outlines."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...stages.reproduce.work import Work
from .labels import TUMOR

if TYPE_CHECKING:
    from ...eval.statistics.intervals import Estimate


def localisation_metrics(work: Work) -> "Mapping[str, Estimate]":
    """Return `froc`, `sensitivity_at_0.25` to `sensitivity_at_8`, `tile_auroc` and `dice` of the test slides.

    Heat maps of the validation slides (which the threshold for Dice is chosen on) and the test slides are written
    beside, into `work.out/explanations`; those that are there already are not made again.

    Args:
        work: After a row's steps of features and aggregator.
    """
    from ...eval.localisation.froc import RATES
    from ...stages.data import open_manifest
    from ...stages.explain import EXPLANATIONS
    from ...stages.slides.localise import localised
    from ...stages.slides.predict import Request, predict_slides

    manifest = open_manifest(work.data)
    model, maps = work.before["mil"] / "model", work.out / EXPLANATIONS
    wanted = Request(
        model, [str(manifest.path)], maps / "predictions.csv", work.before["extract"], maps=maps, splits=("val", "test")
    )
    predict_slides(wanted)
    result = localised(maps, manifest, TUMOR)
    if result is None:
        return {}
    at_rates = {
        f"sensitivity_at_{rate:g}": estimate for rate, estimate in zip(RATES, result.froc.sensitivities, strict=True)
    }
    return {"froc": result.froc.score} | at_rates | {name: result.metrics[name] for name in ("tile_auroc", "dice")}
