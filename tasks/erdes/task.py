"""The ocular-ultrasound task: retinal detachment, and the macula in it (ERDES; Ozkut et al. 2025)."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...core.errors import UserError
from ...finetune.features_recipe import EXTRACT
from ...finetune.recipe import Finetune
from ...mil.recipe import MULTI_VIEW
from ...stages.task import Arguments, ClipTask
from .recipes import BATCHES, FINETUNE, PRETRAIN, baseline

if TYPE_CHECKING:
    import pandas as pd

    from ...datasets.manifest.layouts import Layout
    from ...stages.dicom.case import Code
    from ...stages.reproduce.table import Table


class Erdes(ClipTask):
    """ERDES, its official lists, and clips of one's own; two models in a cascade."""

    name = "erdes"
    summary = "ocular ultrasound clips"
    recipes: ClassVar = {"pretrain": PRETRAIN, "finetune": FINETUNE | MULTI_VIEW, "extract": EXTRACT}

    def layouts(self) -> "Mapping[str, Layout]":
        from .layouts import LAYOUTS

        return LAYOUTS

    def tables(self) -> "Mapping[str, Table]":
        from .tables import TABLES

        return TABLES

    def demo(self, out: Path, seed: int) -> object:
        from .demo import demo

        return demo(out, seed)

    def baseline(self, network: str) -> Finetune | None:
        return baseline(network) if network in BATCHES else None

    def add_arguments(self, verb: str, parser: Arguments) -> None:
        super().add_arguments(verb, parser)
        if verb == "predict":
            parser.add_argument(
                "--macula", type=Path, metavar="MODEL",
                help="second model of the cascade: --model detects detachment, this one classifies the macula",
            )  # fmt: skip

    def codes(self) -> "Mapping[str, Code]":
        from .labels import CODES

        return CODES

    def predict(self, options: Namespace) -> "pd.DataFrame | None":
        if options.macula is None:
            return super().predict(options)
        from ...stages.unit_options import asked_units
        from .cascade import predict_cascade

        for name in ("explain", "explain_method", "resume", "bf16", "dicom", "alarm"):
            if getattr(options, name):
                raise UserError(f"--{name.replace('_', '-')} is of one model: predict with each model alone.")
        return predict_cascade(
            options.model, options.macula, options.inputs, options.out, options.batch, options.workers, options.audit,
            asked_units(options),
        )  # fmt: skip


TASK = Erdes()
