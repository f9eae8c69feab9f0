"""Steps of a table of merging: a model for each of several invented hospitals, and one that is merged of them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...core.ranges import check_ranges, within
from .small import SCALE, Scale, small
from .table import Step
from .work import Work

if TYPE_CHECKING:
    from ...datasets.manifest.tables import Manifest

SITES = 3


@dataclass(frozen=True)
class Merging:
    """How models are merged.

    Attributes:
        method: As of `clinvit merge`.
        alpha: Of the orthogonal method.
    """

    method: str = "orthogonal"
    alpha: float = field(default=0.5, metadata=within(0, 1))

    def __post_init__(self):
        check_ranges(self)


@small.register
def _(recipe: Merging, scale: Scale = SCALE) -> Merging:
    """Return it as it is: nothing is trained."""
    return recipe


@dataclass(frozen=True)
class Sites(Step):
    """Fine-tuning from one encoder on the training patients of each site: `site_1/model`, ...; validation is shared."""

    kind: ClassVar[str] = "sites"
    reads: ClassVar[tuple[str, ...]] = ("pretrain",)

    encoder: str = "pretrain"

    def run(self, work: Work) -> None:
        from ..data import open_manifest
        from ..finetune import finetune_stage

        start = work.encoder(self.encoder)
        for number, part in enumerate(_by_site(open_manifest(work.data, work.recipe.data.labels)), start=1):
            finetune_stage(
                work.recipe, part, work.out / f"site_{number}", encoder=start, cache=work.cache, rule=work.rule
            )


@dataclass(frozen=True)
class Merge(Step):
    """Merging of the sites' models: `model/`, its predictions of all test cases, and `metrics.json`.

    The metrics are `alone`, the mean over the sites' own models of their macro AUROC on the same test cases, and
    `distance`, how far the merged encoder is from the start, as a share of the mean distance of the sites' encoders.
    """

    kind: ClassVar[str] = "merge"
    reads: ClassVar[tuple[str, ...]] = ("pretrain", "sites")

    def run(self, work: Work) -> None:
        from ...finetune.model import load_model
        from ..data import open_manifest
        from ..merge import merge_stage
        from .metrics import write_metrics
        from .weights import predict_given

        base = work.given or work.before["pretrain"] / "encoder"
        sites = {path.name: path for path in sorted(work.before["sites"].glob("site_*"))}
        models = {name: path / "model" for name, path in sites.items()}
        card = merge_stage(base, models, work.out, work.recipe.method, work.recipe.alpha)
        manifest = open_manifest(work.data, card.labels)
        predict_given(work.out / "model", None, manifest, work.out)
        alone = [_macro_auroc(path / "predictions.csv") for path in sites.values()]
        distance = _distance(load_model(work.out / "model")[0].encoder, base) / (sum(card.merge["norms"]) / len(sites))
        write_metrics(work.out, {"alone": sum(alone) / len(alone), "distance": distance})


def _by_site(manifest: "Manifest") -> "list[Manifest]":
    """Return the manifest of each site: a third of the training patients, and all others."""
    from ...datasets.manifest.splits import patient_folds

    table = manifest.table
    train = table[table["split"] == "train"]
    site = patient_folds(train, manifest.labels, SITES).reindex(table.index)
    kept = [site.isna() | (site == number) for number in range(SITES)]
    return [replace(manifest, table=table[own].reset_index(drop=True)) for own in kept]


def _macro_auroc(path: Path) -> float:
    from ...datasets.manifest.tables import read_predictions
    from ...eval.statistics.metrics import auroc

    test = read_predictions(path).rows("test").scored()
    return float(np.nanmean(auroc(test.truth(), test.scores())))


def _distance(encoder, base: Path) -> float:
    """Return the Euclidean distance of an encoder's weights from those of the encoder that it started from."""
    import copy

    from ...backbone.encoder import load_encoder
    from ...finetune.merging import differences

    start = copy.deepcopy(encoder)
    load_encoder(start, base)
    new = differences(dict(start.state_dict()), dict(encoder.state_dict()))
    return float(sum(value.square().sum() for value in new.values()) ** 0.5)
