"""The protocol of the literature on classical bags: 10-fold cross-validation, five times, for any aggregator.

The epoch is chosen inside the training folds, never by the fold that is judged. For every two folds i and j a model is
trained without both; on fold j it is an inner validation for the judgement of fold i, and the other way round. So each
fold is judged by a model of the nine others, stopped where models that saw eight of the nine did best on the ninth.

Published metrics are often those of the epoch that is best on the judged fold. What that gives stands beside, without
an interval: it is too good.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from ..core.documents import read_json
from ..core.errors import DataError, RunError, UserError
from ..core.files import file_sha256, write_json, write_text
from ..datasets.manifest.cells import for_spreadsheets
from ..datasets.slides.bag_table import BagTable, read_bag_table
from ..engine.recipe import Optim, plain
from ..eval.statistics.intervals import percentile
from ..eval.statistics.metrics import auroc
from ..eval.statistics.small_samples import auroc_interval, exact
from ..finetune.model import probabilities
from .many_models import train_many
from .recipe import AGGREGATORS, PAPER, Mil

RESAMPLES = 2000
INTERVAL = "95 % interval: bootstrap over bags of the mean over the repeats"


@dataclass(frozen=True)
class Summary:
    """A measured metric: mean and standard deviation over the repeats, and a 95 % interval over the bags, if any."""

    mean: float
    sd: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, repeats: np.ndarray, resampled: np.ndarray, few: int, best: tuple[float, float]) -> "Summary":
        """Summarise the values of the repeats and of resampled bags.

        Args:
            repeats: (repeats,) values.
            resampled: (R,) means over the repeats in resamples of the bags.
            few: Bags of the smaller class.
            best: The interval of 1, which no resample varies.
        """
        found = percentile(float(repeats.mean()), resampled, few=few)
        ends = (None, None) if np.isnan(found.low) else (found.low, found.high)
        ends = best if found.value == 1 else ends
        return cls(found.value, float(repeats.std(ddof=len(repeats) > 1)), *ends)

    def __str__(self) -> str:
        ends = "no interval" if self.low is None or np.isnan(self.low) else f"{self.low:.3f}, {self.high:.3f}"
        return f"{self.mean:.3f} ± {self.sd:.3f} [{ends}]"


@dataclass(frozen=True)
class CrossValidation:
    """Cross-validation of one aggregator.

    Attributes:
        aggregator: Its name.
        accuracy: At 0.5 (exclusive classes: of the largest score).
        auroc: AUROC of the scores of all folds of a repeat together, mean over the labels.
        inner_accuracy: Accuracy of the inner validation at the chosen epochs; a recipe may be tuned by it.
        last_accuracy: Accuracy if the last epoch had been taken.
        epochs: Per repeat, the epoch chosen for each fold.
        scores: Per repeat, (B, L) probabilities of the bags when held out.
        recipe: The recipe that was used.
        peeked_accuracy: Accuracy if each fold's epoch had been chosen on that fold: too good, as are published metrics
            that were made so.
        peeked_sd: Its standard deviation over the repeats.
    """

    aggregator: str
    accuracy: Summary
    auroc: Summary
    inner_accuracy: float
    last_accuracy: float
    epochs: list[list[int]]
    scores: list[list[list[float]]]
    recipe: dict
    peeked_accuracy: float
    peeked_sd: float


def protocol_recipe(aggregator: str) -> Mil:
    """Return the recipe that all aggregators are compared with.

    Instances are embedded to 64 values; Adam, 40 epochs in batches of 8.

    Chosen among about a dozen settings by gated attention on one repeat of MUSK1, with its outer folds in sight:
    metrics on MUSK1 are mildly optimistic. Features are standardised by the training folds.
    """
    optim = Optim(
        epochs=40, warmup_epochs=0, batch_size=8, base_lr=2e-3 * 32, weight_decay=5e-3, betas=(0.9, 0.999),
        optimizer="adam",
    )  # fmt: skip
    attention = 64 if PAPER[aggregator][1] else None
    return Mil(aggregator=aggregator, hidden=64, attention=attention, dropout=0.2, select="accuracy", optim=optim)


def cross_validate(
    bags: BagTable, recipe: Mil, folds: int = 10, repeats: int = 5, progress: bool = True
) -> CrossValidation:
    """Cross-validate, stratified and repeated, with the epoch chosen inside (`select` `last`: the last one).

    Args:
        bags: The table.
        recipe: Aggregator and training; `data` and `run` count for nothing but the seed.
        folds: At least 3; every class has so many bags.
        repeats: Number of repeats, with other folds and other seeds.
        progress: Show a bar.

    Raises:
        UserError: A setting that does nothing here, or too few bags of a class.
    """
    _check(bags, recipe, folds)
    rounds = []
    with tqdm(
        total=repeats * recipe.optim.epochs, desc=recipe.aggregator, unit="epoch", disable=None if progress else True
    ) as bar:
        for repeat in range(repeats):
            fold = _folds(bags, folds, recipe.run.seed + repeat)
            rounds.append(_repeat(bags, recipe, fold, recipe.run.seed + repeat, bar.update))
    scores = np.stack([one["scores"] for one in rounds])
    exclusive = recipe.loss == "ce"
    right = np.stack([_right(one, bags.targets, exclusive) for one in scores])
    accuracy, auroc = _metrics(right, scores, bags.targets)
    peeked = np.array([one["peeked"] for one in rounds])
    return CrossValidation(
        aggregator=recipe.aggregator,
        accuracy=accuracy,
        auroc=auroc,
        inner_accuracy=float(np.mean([one["inner"] for one in rounds])),
        last_accuracy=float(np.mean([_right(one["last"], bags.targets, exclusive).mean() for one in rounds])),
        epochs=[one["epochs"] for one in rounds],
        scores=[one["scores"].round(6).tolist() for one in rounds],
        recipe=plain(recipe),
        peeked_accuracy=float(peeked.mean()),
        peeked_sd=float(peeked.std(ddof=repeats > 1)),
    )


def run_protocol(
    table_csv: str | Path,
    out: str | Path,
    aggregators: Sequence[str] = AGGREGATORS,
    *,
    label: str | int = 0,
    bag: str | int = 1,
    folds: int = 10,
    repeats: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Cross-validate aggregators on a table of bags; writes `<aggregator>.json` as each is done, then the table.

    Args:
        table_csv: A row per instance (see `read_bag_table`).
        out: Folder. Aggregators that are done there, under the same protocol on the same file, are not done again.
        aggregators: Names.
        label: Column of the class, name or number.
        bag: Column of the bag, name or number.
        folds: At least 3.
        repeats: Number of repeats, with other folds and other seeds.
        seed: Seed of folds and training.
        progress: Show bars.

    Returns:
        One row per aggregator, also written as `table.csv` and `table.md`.

    Raises:
        UserError: As of the functions used, or `out` holds another protocol.
    """
    bags, out = read_bag_table(table_csv, label, bag), Path(out)
    for note in bags.notes:
        print(f"note: {note}")
    protocol = {"file_sha256": file_sha256(table_csv), "folds": folds, "repeats": repeats, "seed": seed}
    protocol |= {"label": label, "bag": bag}
    baseline = float(np.bincount(_classes(bags)).max() / len(bags))
    rows = []
    for name in aggregators:
        recipe = protocol_recipe(name)
        loss = "bce" if len(bags.labels) == 1 else "ce"
        recipe = replace(recipe, loss=loss, run=replace(recipe.run, seed=seed))
        asked, path = protocol | {"recipe": plain(recipe)}, out / f"{name}.json"
        done = _done(path, asked)
        if done is None:
            done = asdict(cross_validate(bags, recipe, folds, repeats, progress))
            write_json(path, {"protocol": asked, "bags": list(bags.ids), "result": done, "interval": INTERVAL})
        rows.append(_row(done, baseline))
    table = pd.DataFrame(rows)
    write_text(out / "table.csv", for_spreadsheets(table).to_csv(index=False, lineterminator="\n"))
    write_text(out / "table.md", _markdown(table, len(bags), folds, repeats))
    return table


def _check(bags: BagTable, recipe: Mil, folds: int) -> None:
    optim = recipe.optim
    idle = {
        "max_instances": recipe.max_instances is not None, "optim.layer_decay": optim.layer_decay != 1,
        "optim.accumulate": optim.accumulate != 1, "optim.ema_decay": optim.ema_decay is not None,
        "optim.weight_decay_end": optim.weight_decay_end is not None, "eval_every": recipe.eval_every != 1,
        "optim.clip_tensor_norm": optim.clip_tensor_norm is not None,
        "optim.schedule": optim.schedule == "plateau", "standardise (always so here)": recipe.standardise,
    }  # fmt: skip
    if names := [name for name, used in idle.items() if used]:
        raise UserError(f"{names[0]} has no effect in cross-validation of bag tables: leave it as it is.")
    if (recipe.loss == "ce") != (len(bags.labels) > 1):
        raise UserError(f"{bags.path}: {len(bags.labels)} label(s): the loss is bce for one, ce for several classes.")
    fewest = int(np.bincount(_classes(bags)).min())
    if not 3 <= folds <= fewest:
        raise UserError(f"{bags.path}: {folds} folds; from 3 to {fewest} are possible (bags of the rarest class).")


def _classes(bags: BagTable) -> np.ndarray:
    """Return the (B,) class of each bag, from 0."""
    return bags.targets.argmax(axis=1) if len(bags.labels) > 1 else bags.targets[:, 0].astype(np.int64)


def _folds(bags: BagTable, folds: int, seed: int) -> np.ndarray:
    """Return the (B,) fold of each bag; every fold gets its share of each class."""
    fold, classes = np.empty(len(bags), dtype=np.int64), _classes(bags)
    for number, (_, held_out) in enumerate(
        StratifiedKFold(folds, shuffle=True, random_state=seed).split(fold, classes)
    ):
        fold[held_out] = number
    return fold


def _repeat(bags: BagTable, recipe: Mil, fold: np.ndarray, seed: int, on_epoch: Callable[[], None]) -> dict:
    """Train one round over all folds.

    Returns held-out scores at the chosen and at the last epochs, and the metrics by which the epochs were chosen.
    """
    count, exclusive = int(fold.max()) + 1, recipe.loss == "ce"
    pairs = list(itertools.combinations(range(count), 2))
    members = np.stack([fold != i for i in range(count)] + [(fold != i) & (fold != j) for i, j in pairs])
    logits = torch.from_numpy(train_many(bags, recipe, members, seed, on_epoch)).flatten(0, 2)
    scores = probabilities(logits, exclusive).double().numpy().reshape(recipe.optim.epochs, len(members), len(bags), -1)
    if not np.isfinite(scores).all():
        raise RunError(f"{bags.path}: {recipe.aggregator} gave a score that is not a number: lower optim.base_lr.")
    inner = np.full((count, *scores[:, 0].shape), np.nan)  # (folds, epochs, B, L)
    for model, (i, j) in enumerate(pairs, start=count):
        inner[i][:, fold == j] = scores[:, model, fold == j]
        inner[j][:, fold == i] = scores[:, model, fold == i]
    chosen, last = np.empty_like(scores[0, 0]), np.empty_like(scores[0, 0])
    epochs, reached, peeked = [], [], 0
    for i in range(count):
        own, truth = fold == i, bags.targets[fold != i]
        right = [_right(one[~own], truth, exclusive).mean() for one in inner[i]]
        seen = np.stack([right, _auroc(inner[i][:, ~own], truth)], axis=1)
        epoch = _best_epoch(seen, recipe.select)
        chosen[own], last[own] = scores[epoch, i, own], scores[-1, i, own]
        epochs.append(epoch + 1)
        reached.append(right[epoch])
        peeked += max(_right(one[own], bags.targets[own], exclusive).sum() for one in scores[:, i])
    inner_accuracy, peeked_accuracy = float(np.mean(reached)), float(peeked / len(bags))
    return {"scores": chosen, "last": last, "epochs": epochs, "inner": inner_accuracy, "peeked": peeked_accuracy}


def _best_epoch(metrics: np.ndarray, select: str) -> int:
    """Return the epoch with the highest inner accuracy (`accuracy`) or AUROC (`best`), or the last epoch.

    Ties are broken by the other metric.

    Args:
        metrics: (epochs, 2) accuracy and AUROC of the inner validation.
        select: `accuracy`, `best` or `last`.
    """
    if select == "last":
        return len(metrics) - 1
    first, second = (0, 1) if select == "accuracy" else (1, 0)
    return int(np.lexsort((metrics[:, second], metrics[:, first]))[-1])


def _right(scores: np.ndarray, truth: np.ndarray, exclusive: bool) -> np.ndarray:
    """Return (B,), whether the predicted class of each bag is right."""
    if exclusive:
        return scores.argmax(axis=1) == truth.argmax(axis=1)
    return ((scores >= 0.5) == (truth == 1)).all(axis=1)


def _auroc(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return (...), the mean AUROC over labels of (..., B, L) scores and truth; NaN where a label has one value."""
    # Every column is a label of its own to `auroc`, whatever fold or resample it is of.
    columns = [np.moveaxis(np.broadcast_to(each, scores.shape), -2, 0) for each in (truth, scores)]
    values = auroc(*(each.reshape(len(each), -1) for each in columns))
    return values.reshape(columns[0].shape[1:]).mean(axis=-1)


def _metrics(
    right: np.ndarray, scores: np.ndarray, truth: np.ndarray, resamples: int = RESAMPLES
) -> tuple[Summary, Summary]:
    """Return accuracy and AUROC of (repeats, B) right predictions and (repeats, B, L) scores."""
    draws = np.random.default_rng(0).integers(0, len(truth), (resamples, len(truth)))
    count, few = len(truth), int(np.minimum(truth.sum(axis=0), (1 - truth).sum(axis=0)).min())
    accuracy = Summary.of(right.mean(axis=1), right.mean(axis=0)[draws].mean(axis=1), count, exact(count, count))
    resampled = np.mean([_auroc(one[draws], truth[draws]) for one in scores], axis=0)
    best = auroc_interval(1.0, few, count - few, count // 2)
    return accuracy, Summary.of(_auroc(scores, truth), resampled, few, best)


def _done(path: Path, asked: dict) -> dict | None:
    """Return the result in a file; None if there is none."""
    try:
        held = read_json(path, DataError, "Remove it.")
        if held["protocol"] != asked:
            raise UserError(f"{path}: holds the result of another protocol, recipe or file. Choose another --out.")
        return held["result"] if "peeked_accuracy" in held["result"] else None
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a result of this protocol ({error}). Remove it.") from None


def _row(result: dict, baseline: float) -> dict:
    """Return a line of the table; `baseline` is the accuracy of always saying the most frequent class."""
    row = {"aggregator": result["aggregator"]}
    for name in ("accuracy", "auroc"):
        row |= {f"{name}_{part}" if part != "mean" else name: value for part, value in result[name].items()}
    return row | {
        "accuracy_inner": result["inner_accuracy"],
        "accuracy_last_epoch": result["last_accuracy"],
        "accuracy_epoch_of_judged_fold": result["peeked_accuracy"],
        "accuracy_epoch_of_judged_fold_sd": result["peeked_sd"],
        "accuracy_most_frequent": baseline,
    }


def _markdown(table: pd.DataFrame, bags: int, folds: int, repeats: int) -> str:
    lines = [
        f"{repeats} x {folds}-fold cross-validation of {bags} bags, epoch chosen inside the training folds. Mean ± "
        f"standard deviation over the repeats, [{INTERVAL}]. Always saying the most frequent class: accuracy "
        f"{table['accuracy_most_frequent'].iloc[0]:.3f}, AUROC 0.500. The last column is too good: each fold's epoch "
        "is the one that is best on that fold, as in many published tables.",
        "",
        "| aggregator | accuracy | AUROC | accuracy, epoch of the judged fold |",
        "|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        cells = [
            str(Summary(row[name], *(row[f"{name}_{part}"] for part in ("sd", "low", "high"))))
            for name in ("accuracy", "auroc")
        ]
        cells.append("{accuracy_epoch_of_judged_fold:.3f} ± {accuracy_epoch_of_judged_fold_sd:.3f}".format(**row))
        lines.append(f"| {row['aggregator']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
