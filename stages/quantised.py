"""An int8 graph beside the ONNX export of a classifier, and what it loses on validation cases."""

from pathlib import Path

from ..core.errors import UserError
from ..core.files import written_aside
from ..datasets.manifest.tables import write_predictions
from ..finetune.model import ModelCard
from ..finetune.pipeline import manifest_cases, predicted
from .data import open_manifest
from .graphs import write_int8
from .onnx_runtime import graph_predictor


def write_quantised(model: Path, card, out: Path, data: Path | None) -> list[str]:
    """Write `out/model.int8.onnx`, and return lines about it.

    With `data` also `out/int8-report/` is written, a paired comparison with `out/model.onnx` on validation cases.

    Raises:
        UserError: `data` with no classifier of images or clips, or no validation case.
    """
    exact, file = out / "model.onnx", out / "model.int8.onnx"
    with written_aside(file) as aside:
        write_int8(exact, aside)
    size = file.stat().st_size / exact.stat().st_size
    said = [f"{file}: int8 weights, {size:.0%} of the float32 file"]
    if data is None:
        return [*said, "what it loses is not known: give --data with validation cases"]
    if card.kind != ModelCard.kind:
        raise UserError("--data with --int8 is for classifiers of images and clips.")
    from ..datasets.manifest.tables import read_predictions
    from ..eval import Context, Evaluation, evaluate

    cases = open_manifest(data, card.labels).rows("val")
    if not len(cases):
        raise UserError(f"{data}: no case in the split val to compare on.")
    tables = {}
    for name, graph in (("int8", file), ("float32", exact)):
        path = out / f"predictions-{name}.csv"
        write_predictions(path, predicted(*manifest_cases(cases, card.labels), graph_predictor(graph, card)))
        tables[name] = read_predictions(path)
    title, context = "What int8 loses: validation cases", Context(unit="image")
    report = evaluate(tables, out / "int8-report", None, Evaluation(split="val"), title=title, context=context)
    return [*said, *report.headline, f"report: {report.path}"]
