"""The reports of a pre-training's cases, as a text encoder's vectors."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import DataError, UserError
from ..datasets.manifest.reports import read_reports, sentences
from ..datasets.manifest.tables import Manifest
from ..engine.run_folder import rank
from ..pretrain.report_features import KEPT, ReportFeatures, report_features
from ..pretrain.report_recipe import Reports


def with_reports(
    recipe: Reports, manifest: Manifest, out: Path, reports: Path | None, text_encoder: Path | None
) -> tuple[Reports, Manifest, ReportFeatures]:
    """Return the recipe with the text encoder's width, the cases that have a report, and their vectors.

    Args:
        recipe: Of a pre-training on reports.
        manifest: All cases.
        out: The run folder, beside which the vectors are kept.
        reports: As of `read_reports`.
        text_encoder: Folder of the text encoder.

    Raises:
        UserError: No text encoder is named, it cannot be read, or no case has a report.
    """
    if text_encoder is None:
        raise UserError(
            "name a folder with a text encoder of transformers, such as a clinical BERT: --text-encoder FOLDER."
        )
    chosen = manifest.rows(*recipe.data.splits)
    found = sentences(read_reports(chosen, reports))
    has = np.array([bool(rows) for rows in found.of_case], dtype=bool)
    if not has.any():
        raise DataError(f"{reports or manifest.path}: none of the {len(chosen):,} cases has a report.")
    kept = replace(found, of_case=tuple(rows for rows in found.of_case if rows))
    if rank() == 0:
        print(
            f"reports: {has.sum():,} of {len(chosen):,} cases have one, {len(found.texts):,} different sentences",
            flush=True,
        )
    features = report_features(
        text_encoder, kept, Path(out).absolute().parent / KEPT, tokens=recipe.text_tokens, pool=recipe.text_pool,
        without=tuple(chosen.table["id"][~has]), shown=rank() == 0,
    )  # fmt: skip
    cases = replace(chosen, table=chosen.table[has].reset_index(drop=True))
    return replace(recipe, text_width=features.width), cases, features


def refuse_reports(reports: Path | None, text_encoder: Path | None) -> None:
    """Refuse reports for a recipe that does not read them.

    Raises:
        UserError: They are named.
    """
    for option, value in (("--reports", reports), ("--text-encoder", text_encoder)):
        if value is not None:
            raise UserError(f"{option} is for recipes that read reports, such as reports_tiny: leave it out.")
