"""The stage `learning-curve`: one recipe on 1/32 to all of the labels, and what more labels would be worth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.alone import folder_alone
from ..core.documents import read_json
from ..core.errors import DataError, UserError
from ..core.files import write_json, write_text
from ..datasets.manifest.splits import nested_patients
from ..datasets.manifest.tables import Manifest, Predictions, for_spreadsheets, read_predictions, write_csv
from .data import CACHE_GB, cache_place, open_manifest
from .finetune import finetune_stage

if TYPE_CHECKING:
    from ..eval.statistics.learning_runs import LearningRuns

LABELS = "labels"
SHARES = tuple(Fraction(1, 2**halved) for halved in (5, 4, 3, 2, 1, 0))
WITH, WITHOUT, ALONE = "pretrained", "scratch", "model"
PAGE, NUMBERS, POINTS, SUBSETS = "learning_curve.html", "learning_curve.json", "learning_curve.csv", "subsets.csv"


@dataclass(frozen=True)
class Asked:
    """What is asked of a learning curve.

    Attributes:
        shares: Of the labelled patients, rising; the last is 1.
        seeds: How many trainings there are of each share. The first has the recipe's seed, the next one more, and so
            on; a seed decides who is labelled, too.
        more: Labelled cases whose worth is to be said.
        split: On which the models are scored.
        unit: What a case is.
        resamples: Of patients and runs.
        along: What the curve goes along: `labels`, or as of `learning_axes`.
        values: Along `size` and `model`, those that are tried, rising.
    """

    shares: tuple[Fraction, ...] = SHARES
    seeds: int = 3
    more: int = 1000
    split: str = "test"
    unit: str = "image"
    resamples: int = 1000
    along: str = LABELS
    values: tuple[str, ...] = ()

    def named(self) -> tuple[str, ...]:
        """Return what is tried, in words."""
        return self.values or tuple(map(str, self.shares))


@dataclass(frozen=True)
class Subset:
    """The labelled patients of one share and seed.

    Attributes:
        share: Of all.
        seed: Of who they are.
        manifest: Their training cases, and all others of the manifest.
        cases: Labelled training cases.
        patients: Of these.
        absent: Findings without a positive, or without a negative case among them.
        learned: The others; none where classes exclude each other and one is absent: nothing is trained then.
        name: Of its folder; the share where it is empty.
    """

    share: Fraction
    seed: int
    manifest: Manifest
    cases: int
    patients: int
    absent: tuple[str, ...]
    learned: tuple[str, ...]
    name: str = ""


def learning_curve_stage(
    recipe, data: Path | Manifest, out: Path, asked: Asked, **inputs: Any
) -> "tuple[LearningRuns, list[str]] | None":
    """Train on every share with every seed, with an encoder and without, and write page, JSON and CSV.

    Every training is a run folder, `out/pretrained/1-32/seed_0`; repeating the command goes on, and a finished one is
    trained no more. Subsets are nested: the patients of a share are among those of all larger ones of the same seed.

    Args:
        recipe: The resolved recipe of all trainings; its seed is replaced.
        data: Manifest or its folder.
        out: Gets the runs, `subsets.csv`, and what was found.
        asked: What is asked.
        inputs: Further arguments of `finetune_stage`; with an `encoder` every training is done without it, too.

    Returns:
        The `LearningRuns` and notes on them; None in a process that only helps another one.

    Raises:
        UserError: Shares or seeds mean nothing, or `out` holds another run.
        DataError: The split has no labelled case, or there are fewer patients than the smallest share needs.
    """
    from ..engine.run_folder import rank

    manifest, out = open_manifest(data, recipe.data.labels), Path(out)
    refuse(asked, manifest, out)
    seeds = range(recipe.run.seed, recipe.run.seed + asked.seeds)
    subsets = [each for seed in seeds for each in subsets_of(recipe, manifest, asked, seed)]
    recipe.optim.check_cases(min(subset.cases for subset in subsets))
    models = (WITH, WITHOUT) if inputs.get("encoder") is not None else (WITHOUT,) if "encoder" in inputs else (ALONE,)
    if "cache" in inputs:  # one for all runs
        inputs["cache"] = cache_place(manifest, out, inputs["cache"], inputs.get("cache_gb", CACHE_GB))
    notes = absent_notes(subsets)
    if asked.split == "val":
        chose = "the epoch and thresholds were" if recipe.select != "last" else "thresholds were"
        notes.append(f"scored on val, on which {chose} chosen in every run")
    if rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(out / SUBSETS, members(subsets, recipe.data.splits))
        for note in notes:
            print(f"note: {note}", flush=True)
    trained = [(subset, model) for subset in subsets for model in models if subset.learned]
    if not trained:
        raise DataError(f"{manifest.path}: no subset has a case with and a case without a finding: nothing to learn.")
    for number, (subset, model) in enumerate(trained, 1):
        if rank() == 0:
            print(f"[{number}/{len(trained)}] {subset.share} of the labels ({subset.cases:,} {asked.unit}s of "
                  f"{subset.patients:,} patients), seed {subset.seed}, {model}", flush=True)  # fmt: skip
        own = inputs | ({"encoder": None} if model == WITHOUT else {})
        finetune_stage(_own_recipe(recipe, subset), subset.manifest, run_folder(out, model, subset), **own)
    if rank() > 0:
        return None
    with folder_alone(out):
        return written(trained, manifest, out, asked, notes)


def subsets_of(recipe, manifest: Manifest, asked: Asked, seed: int) -> list[Subset]:
    """Return the nested subsets of one seed.

    Raises:
        DataError: Fewer patients than the smallest share needs, or two shares of the same patients.
    """
    table, labels, splits = manifest.table, list(manifest.labels), recipe.data.splits
    labelled = table["split"].isin(splits) & table[labels].notna().any(axis=1)
    order = nested_patients(table[labelled], labels, seed)
    counts = [int(share * len(order)) for share in asked.shares]
    if min(counts) < 1 or len(set(counts)) < len(counts):
        raise DataError(
            f"{manifest.path}: of {len(order)} labelled training patients the shares are "
            f"{', '.join(map(str, counts))}: the first needs one patient, each other more than the one before. Choose "
            "larger or fewer --shares."
        )
    found = []
    for share, count in zip(asked.shares, counts):
        own = labelled & table["patient"].isin(order[:count])
        few = table[own]
        absent = tuple(label for label in labels if few[label].dropna().nunique() < 2)
        kept = table[own | ~table["split"].isin(splits)].reset_index(drop=True)
        learned = () if absent and recipe.loss == "ce" else tuple(label for label in labels if label not in absent)
        found.append(Subset(share, seed, replace(manifest, table=kept), int(own.sum()), count, absent, learned))
    return found


def absent_notes(subsets: Sequence[Subset]) -> list[str]:
    """Say which findings are absent in which subsets."""
    where: dict[str, list[str]] = {}
    for subset in subsets:
        for label in subset.absent:
            where.setdefault(label, []).append(f"{subset.share} (seed {subset.seed})")
    notes = [
        f"{label}: no positive or no negative case in the subset {', '.join(named)}; no score for it there"
        for label, named in where.items()
    ]
    empty = [f"{subset.share} (seed {subset.seed})" for subset in subsets if not subset.learned]
    return [*notes, *([f"not trained, for want of cases of every class: {', '.join(empty)}"] if empty else [])]


def _own_recipe(recipe, subset: Subset):
    """Return the recipe with the seed of a subset, and the labels that can be learned there."""
    own = replace(recipe, run=replace(recipe.run, seed=subset.seed))
    return replace(own, data=replace(own.data, labels=subset.learned)) if subset.absent else own


def refuse(asked: Asked, manifest: Manifest, out: Path) -> None:
    """Refuse a request that means nothing, before anything is trained.

    Raises:
        UserError: Shares or numbers mean nothing, or `out` holds another run.
        DataError: No label, no finding, or no labelled case in the split.
    """
    shares = asked.shares
    if len(shares) < 2 or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 1:
        raise UserError(f"--shares {','.join(map(str, shares))}: name two or more, rising, above 0, the last 1.")
    for name, least in (("seeds", 1), ("more", int(asked.along in (LABELS, "images"))), ("resamples", 2)):
        if getattr(asked, name) < least:
            raise UserError(f"--{name} {getattr(asked, name)}: {least} or more.")
    if not manifest.labels:
        raise DataError(f"{manifest.path}: no label column; a learning curve needs labelled cases.")
    if manifest.kinds:
        other = manifest.kinds[0]
        raise DataError(
            f"{manifest.path}: {other.name} is no finding but {other.kind}; a learning curve is of AUROCs. Name the "
            "findings alone: --data.labels."
        )
    scored = manifest.rows(asked.split)
    if np.isnan(scored.targets()).all():
        other = " --split val scores on val, on which a run may choose its epoch." if asked.split == "test" else ""
        raise DataError(f"{manifest.path}: no labelled case in the split {asked.split}, to score the models on.{other}")
    if (out / "recipe.yaml").is_file():
        raise UserError(f"{out}: holds a run that is no learning curve. Choose another --out.")


def run_folder(out: Path, model: str, subset: Subset) -> Path:
    """Return the run folder of one training."""
    return out / model / (subset.name or str(subset.share).replace("/", "-")) / f"seed_{subset.seed}"


def members(subsets: Sequence[Subset], splits: Sequence[str]) -> pd.DataFrame:
    """Return which patient is in the subset of which seed from which share on."""
    rows: dict[tuple[int, str], str] = {}
    for subset in sorted(subsets, key=lambda each: (each.seed, each.share)):
        table = subset.manifest.table
        for patient in table.loc[table["split"].isin(splits), "patient"].unique():
            rows.setdefault((subset.seed, patient), str(subset.share))
    return pd.DataFrame([(*key, share) for key, share in rows.items()], columns=["seed", "patient", "from_share"])


def written(
    trained: Sequence[tuple[Subset, str]], manifest: Manifest, out: Path, asked: Asked, notes: list[str]
) -> "tuple[LearningRuns, list[str]]":
    """Score all runs on the cases that every one of them has scored; fit, write and return what was found."""
    from ..eval.report.learning_curve_page import curve_csv, curve_json, curve_page
    from ..eval.statistics.learning_runs import Run, learning_runs

    tables = [
        read_predictions(run_folder(out, model, subset) / "predictions.csv").rows(asked.split)
        for subset, model in trained
    ]
    cases = manifest.rows(asked.split).table
    common = cases["id"].isin(set.intersection(*(set(table.scored().table["id"]) for table in tables)))
    if not common.any():
        raise DataError(f"{out}: no case was scored by all runs: the predictions.csv of each says why.")
    if not common.all():
        notes.append(
            f"{int((~common).sum()):,} of {len(cases):,} {asked.unit}s failed in a run: no run is scored on them"
        )
    cases = cases[common]
    runs = [
        Run(
            model, subset.share, subset.seed, subset.cases, subset.patients, subset.absent,
            _scores(table, cases["id"], manifest.labels),
        )
        for (subset, model), table in zip(trained, tables)
    ]  # fmt: skip
    truth = cases[list(manifest.labels)].to_numpy(np.float64)
    found = learning_runs(runs, manifest.labels, truth, cases["patient"].tolist(), asked.resamples, 0)
    notes += _unlike(trained, out)
    write_text(out / PAGE, curve_page(found, asked, notes))
    write_json(out / NUMBERS, curve_json(found, asked, notes))
    write_csv(out / POINTS, for_spreadsheets(curve_csv(found)), float_format="%.7g")
    return found, notes


def _unlike(trained: Sequence[tuple[Subset, str]], out: Path) -> list[str]:
    """Say where the encoder's network is not the one that the recipe makes from scratch, of the same labels."""
    subset = trained[-1][0]
    if {model for _, model in trained} != {WITH, WITHOUT}:
        return []
    sizes = [
        read_json(run_folder(out, model, subset) / "model" / "model.json").get("parameters", {}).get("total")
        for model in (WITH, WITHOUT)
    ]
    if sizes[0] == sizes[1]:
        return []
    return [
        f"the networks differ: {WITH} has {sizes[0]:,} parameters, as its encoder, {WITHOUT} {sizes[1]:,}, as the "
        "recipe. Give the recipe the encoder's size (--model.size) to see what pre-training alone is worth"
    ]


def _scores(table: Predictions, ids: pd.Series, labels: Sequence[str]) -> np.ndarray:
    """Return the (N, L) scores of cases; 0 for a finding that the run has not learned, which gets no metric."""
    columns = [f"p_{label}" for label in labels]
    return table.table.set_index("id").reindex(columns=columns).loc[ids].fillna(0.0).to_numpy(np.float64)
