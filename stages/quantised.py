"""An int8 graph beside the ONNX export of a classifier, and what it loses on validation cases."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..compress.margin import Loss, auroc_losses, within
from ..compress.quantise import (
    Calibrated,
    calibrate,
    write_dynamic,
    write_log_attention,
    write_static,
    write_weights_only,
)
from ..compress.ranges import IMAGES
from ..compress.sensitivity import layer_sensitivity
from ..core.errors import DataError, UserError
from ..core.files import write_json, written_aside
from ..core.pixels import normalised
from ..datasets.loading.isolation import isolated
from ..datasets.loading.regions import for_manifest
from ..datasets.manifest.tables import Manifest, Predictions, read_predictions, write_predictions
from ..datasets.transforms.views import FileViews
from ..finetune.feature_limit import Limit, Watched, conformal, warned
from ..finetune.model import ModelCard
from ..finetune.pipeline import manifest_cases, predicted
from .data import open_manifest
from .facts import refuse_targets
from .graphs import image_graph, write_onnx
from .onnx_runtime import graph_predictor

SCHEMES = {
    "dynamic": "model.int8.onnx", "static": "model.int8.onnx", "weights8": "model.weights8.onnx",
    "weights4": "model.weights4.onnx",
}  # fmt: skip
_NAMED = 6  # layers named in a line
_ROUNDED = "rounded weights give other features, whose limit validation cases would show"


@dataclass(frozen=True)
class Scheme:
    """How a graph is made smaller.

    Attributes:
        how: One of `SCHEMES`: `dynamic` finds the ranges of activations anew for each input; `static` chooses them on
            32 training images, with one scale for all channels after a norm; `weights8` and `weights4` leave
            activations as they are.
        margin: Largest AUROC loss of a finding: as many of the most sensitive layers stay float32 as it takes. None
            quantises all.
        sensitivity: How layers are ordered, as of `compress.sensitivity`.
        log_attention: Attention weights as powers of the square root of 2.
    """

    how: str = "dynamic"
    margin: float | None = None
    sensitivity: str = "measured"
    log_attention: bool = False

    def check(self, card, data: Path | None) -> None:
        """Refuse what does not go together.

        Raises:
            UserError: It does not.
        """
        if self.how != "static" and (self.margin is not None or self.log_attention):
            raise UserError("--margin and --log-attention belong to --scheme static.")
        if self.how == "static" and data is None:
            raise UserError("--scheme static needs --data: it chooses ranges on 32 of its training cases.")
        if self.margin is not None and not 0 < self.margin < 1:
            raise UserError(f"--margin {self.margin:g}: an AUROC loss between 0 and 1, such as 0.01.")
        if (data is not None or self.how == "static") and card.kind != ModelCard.kind:
            raise UserError("--data and --scheme static are for classifiers of images and clips.")


def write_quantised(
    network: nn.Module, card, out: Path, data: Path | None, scheme: Scheme = Scheme(), limit: Limit | None = None
) -> tuple[list[str], dict[str, Limit | str]]:  # fmt: skip
    """Write a smaller graph beside `out/model.onnx`; return lines about it, and its own limit or why it has none.

    A limit on what is out of distribution, of the network, is held anew against validation cases of `data`: rounded
    weights give other features.

    With `data` also `out/int8-report/` is written, a paired comparison with `out/model.onnx` on validation cases; of
    static graphs `out/int8.json`, layer by layer.

    Raises:
        UserError: Options that do not go together, no training or validation case, or no finding that can be judged.
    """
    exact, file = out / "model.onnx", out / SCHEMES[scheme.how]
    if data is not None:
        refuse_targets(card, "--data with --int8")
    cases = None if data is None else open_manifest(data, card.labels)
    said: list[str] = []
    if scheme.how == "static":
        assert cases is not None
        said = _static(network, card, out, file, cases, scheme, limit is not None)
        if not file.exists():
            return said, {}
    elif scheme.how == "dynamic":
        with written_aside(file) as aside:
            write_dynamic(exact, aside)
    else:
        with written_aside(file) as aside:
            write_weights_only(exact, aside, int(scheme.how[-1]))
    size = file.stat().st_size / exact.stat().st_size
    what = "int4 weights" if scheme.how == "weights4" else "int8 weights"
    said.insert(0, f"{file}: {what} ({scheme.how}), {size:.0%} of the float32 file")
    if cases is None:
        none = {} if limit is None else {file.name: f"{_ROUNDED}: give --data"}
        return [*said, "what it loses is not known: give --data with validation cases"], none
    lines, own = _compared(exact, file, card, out, _validation(cases), limit)
    return said + lines, {} if own is None else {file.name: own}


def _static(
    network: nn.Module, card: ModelCard, out: Path, file: Path, cases: Manifest, scheme: Scheme, watched: bool
) -> list[str]:
    """Write a static graph, with as many layers in float32 as the margin asks for; `watched` gives features too."""
    file.unlink(missing_ok=True)
    pixels = calibration_pixels(cases, card)
    made = calibrate(network, pixels)
    sensitivity = layer_sensitivity(made.network, pixels, made.levels, scheme.sensitivity)
    folded = out / ".folded.onnx"
    try:
        write_onnx(image_graph(made.network, card, watched), folded)
        if scheme.margin is None:
            kept, losses = 0, []
            _write(folded, file, made, list(sensitivity), scheme)
        else:
            kept, losses = _until_within(folded, file, made, list(sensitivity), card, out, _validation(cases), scheme)
    finally:
        folded.unlink(missing_ok=True)
    layers = {
        name: {"sensitivity": value, "int8": place >= kept} for place, (name, value) in enumerate(sensitivity.items())
    }
    facts = {
        "scheme": "static", "calibration_images": len(pixels), "folded_norms": made.folded, "margin": scheme.margin,
        "ordered_by": scheme.sensitivity, "layers": layers, "findings": [_facts(loss) for loss in losses],
    }  # fmt: skip
    write_json(out / "int8.json", facts)
    return _words(made, list(sensitivity), kept, losses, scheme, len(pixels))


def _until_within(
    folded: Path, file: Path, made: Calibrated, ordered: Sequence[str], card: ModelCard, out: Path, cases: Manifest,
    scheme: Scheme,
) -> tuple[int, list[Loss]]:  # fmt: skip
    """Write graphs with more and more layers in float32 until one loses less than the margin; none if none does."""
    assert scheme.margin is not None
    exact = _predictions(out / "model.onnx", card, cases, out / "predictions-float32.csv")
    losses: list[Loss] = []
    for kept in [0, *(2**power for power in range(len(ordered).bit_length()) if 2**power < len(ordered))]:
        _write(folded, file, made, ordered[kept:], scheme)
        rough = _predictions(file, card, cases, out / "predictions-int8.csv")
        patients = exact.table["patient"].tolist()
        losses = auroc_losses(card.labels, exact.truth(), exact.scores(), rough.scores(), patients)
        if all(loss.reason for loss in losses):
            file.unlink()
            raise UserError(
                f"{cases.path}: no finding has 10 patients with it and 10 without among the validation cases: whether "
                "int8 loses less than --margin cannot be judged. Leave it out, or give more validation cases."
            )
        if within(losses, scheme.margin):
            return kept, losses
    file.unlink()
    return len(ordered), losses


def _write(folded: Path, file: Path, made: Calibrated, names: Sequence[str], scheme: Scheme) -> None:
    with written_aside(file) as aside:
        found = write_static(folded, aside, made.network, {name: made.levels[name] for name in names})
        assert found == len(names), "a linear layer is no matmul of the graph"
        if scheme.log_attention:
            write_log_attention(aside)


def calibration_pixels(cases: Manifest, card: ModelCard, count: int = IMAGES) -> Tensor:
    """Return the normalised first views (N, C, [T,] H, W) of training cases, spread evenly over the manifest.

    Args:
        cases: The manifest.
        card: Of the model.
        count: How many are wanted; there may be fewer.

    Raises:
        UserError: There is no training case that can be read.
    """
    files = cases.rows("train").files()
    rows = np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)) if files else []
    views = FileViews(for_manifest(card.reader(), cases), card.views().single())
    read = [item[0] for item in isolated(views, [files[row] for row in rows]) if not isinstance(item, DataError)]
    if not read:
        raise UserError(f"{cases.path}: no case in the split train that can be read, to choose ranges on.")
    return normalised(torch.from_numpy(np.concatenate(read)), card.mean, card.std)


def _validation(cases: Manifest) -> Manifest:
    val = cases.rows("val")
    if not len(val):
        raise UserError(f"{cases.path}: no case in the split val to compare on.")
    return val


def _predictions(graph: Path, card: ModelCard, cases: Manifest, path: Path) -> Predictions:
    write_predictions(path, predicted(*manifest_cases(cases, card.labels), graph_predictor(graph, card)))
    return read_predictions(path)


def own_limit(graph: Path, card: ModelCard, cases: Manifest, path: Path, limit: Limit) -> Limit | str:
    """Write the predictions of a graph with rounded weights, with its warnings; return its limit or why it has none.

    Args:
        graph: Gives scores and features.
        card: Of the model.
        cases: Of which those of the split val make the limit.
        path: Table to write.
        limit: Of the network that the graph is from.
    """
    predictor = graph_predictor(graph, card, limit=replace(limit, limit=math.inf))
    assert isinstance(predictor, Watched)
    asked, truth = manifest_cases(cases, card.labels)
    table = predicted(asked, truth, predictor)
    distances = np.array([predictor.distances[row] for row in range(len(table))])
    val = (table["split"] == "val").to_numpy()
    own = conformal(limit, distances[val], table["patient"][val].tolist())
    if isinstance(own, Limit):
        table = warned(table, own, distances)
    write_predictions(path, table)
    return own


def _compared(
    exact: Path, file: Path, card: ModelCard, out: Path, cases: Manifest, limit: Limit | None
) -> tuple[list[str], Limit | str | None]:
    """Compare both graphs on validation cases; return the headline and where the report is, and the limit of `file`."""
    from ..eval import Context, Evaluation, evaluate

    paths = {name: out / f"predictions-{name}.csv" for name in ("int8", "float32")}
    own = None if limit is None else own_limit(file, card, cases, paths["int8"], limit)
    rough = _predictions(file, card, cases, paths["int8"]) if limit is None else read_predictions(paths["int8"])
    tables = {"int8": rough, "float32": _predictions(exact, card, cases, paths["float32"])}
    title, context = "What int8 loses: validation cases", Context(unit="image")
    report = evaluate(tables, out / "int8-report", None, Evaluation(split="val"), title=title, context=context)
    return [*report.headline, f"report: {report.path}"], own


def _facts(loss: Loss) -> dict:
    numbers = {"loss": loss.value, "at_most": loss.high}
    plain = {key: None if np.isnan(value) else value for key, value in numbers.items()}
    return {"label": loss.label} | plain | {"reason": loss.reason}


def _words(
    made: Calibrated, ordered: Sequence[str], kept: int, losses: Sequence[Loss], scheme: Scheme, images: int
) -> list[str]:
    few = " (fewer than 32)" if images < IMAGES else ""
    said = [f"ranges from {images} training images{few}; {made.folded} norms with one scale for all channels"]
    if kept == len(ordered):
        said.append("no int8 graph is kept: also with more than half of the layers in float32 it may lose the margin")
    else:
        names = ", ".join(ordered[: min(kept, _NAMED)]) + (" ..." if kept > _NAMED else "")
        stay = f"{kept} stay{'s' * (kept == 1)} float32{': ' * bool(names)}{names}"
        said.append(f"{len(ordered) - kept} of {len(ordered)} matmuls in int8, {stay}")
    if scheme.log_attention:
        said.append("attention weights are powers of the square root of 2, by plain operators: slower here")
    if scheme.margin is not None:
        said += [loss.words(scheme.margin) for loss in losses]
        said.append("the layers were chosen on these validation cases: compare once more on cases that chose nothing")
    return said
