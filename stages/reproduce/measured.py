"""The metrics of a row: from a step's `metrics.json`, else from the evaluation of its predictions."""

import math
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import DataError
from ...datasets.manifest.tables import Predictions
from ...eval.evaluation import Evaluation
from ...eval.statistics.intervals import Estimate
from ...eval.statistics.results import ModelResult, results
from .metrics import Measured, ids_fingerprint, read_metrics
from .table import Table

# Names of the papers for what the evaluation calls otherwise.
LABEL = {"precision": "ppv"}
CLASSES = {"top1": "accuracy", "top5": "top5_accuracy"}
BASELINE = "baseline_accuracy"
BASELINES = {"top1": f"class_{BASELINE}", "accuracy": BASELINE}  # what is known of an accuracy without any model


def measured(table: Table, folders: Sequence[Path], resamples: int) -> Measured:
    """Return the metrics of a row from the folders of its steps, in their order.

    Thresholds come from the validation rows of the predictions; nothing is chosen on test.

    Raises:
        DataError: The predictions have no test case, or a metric does not fit them.
    """
    from ...datasets.manifest.tables import read_predictions

    metrics: dict[str, Estimate] = {}
    for folder in folders:
        metrics |= read_metrics(folder)
    metrics = {metric.key: metrics[metric.key] for metric in table.metrics if metric.key in metrics}
    tables = [folder / "predictions.csv" for folder in folders if (folder / "predictions.csv").is_file()]
    if not tables:
        return Measured(metrics)
    predictions = read_predictions(tables[-1])
    model = results({"row": predictions}, Evaluation(rule=table.rule, resamples=resamples)).models[0]
    missing = [metric.key for metric in table.metrics if metric.key not in metrics]
    metrics |= {key: found for key in missing if (found := evaluated(model, key, predictions)) is not None}
    baselines = {key: evaluated(model, BASELINES[key], predictions) for key in missing if key in BASELINES}
    cases = max(label.cases for label in model.labels)  # those of which a label is known
    ids = predictions.rows("test").table["id"]
    return Measured(
        metrics, cases, model.patients, len(model.failed), len(ids), ids_fingerprint(ids),
        {key: found.value for key, found in baselines.items() if found is not None and not math.isnan(found.value)},
    )  # fmt: skip


def evaluated(model: ModelResult, key: str, predictions: Predictions) -> Estimate | None:
    """Return one metric of an evaluation; None for one that only a step measures (`froc`, `peak_memory_gib`).

    Args:
        model: The evaluation on test.
        key: `macro_auroc` and the other means over labels; `top1`, `top5`, `class_macro_f1` and other metrics of
            exclusive classes; else a metric of the only label: `auroc`, `sensitivity`, `precision`, `accuracy`, ...
        predictions: Path of the predictions, for messages.
    """
    if key.startswith("macro_"):
        return model.macro[key.removeprefix("macro_")]
    if key in CLASSES or key.startswith("class_"):
        if model.classes is None:
            raise DataError(f"{predictions.path}: {key} needs exclusive classes, one 1 per case.")
        return model.classes.metrics[CLASSES.get(key, key.removeprefix("class_"))]
    estimate = model.labels[0].metrics.get(LABEL.get(key, key))
    if estimate is not None and len(model.labels) > 1:
        raise DataError(f"{predictions.path}: {key} is of one label; the table has {', '.join(predictions.labels)}.")
    return estimate
