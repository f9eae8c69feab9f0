"""A folder that `export --to onnx` wrote: graph, card and preprocessing, read without torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..core.cards import card_errors
from ..core.documents import read_json
from ..core.errors import UserError
from ..core.files import file_sha256, refuse_changed
from ..datasets.loading.readers import ClipReader, ImageReader, Reader, VolumeReader
from ..datasets.manifest.unit_names import checked_unit
from ..datasets.settings import Clip
from ..datasets.transforms.views import EvalView
from ..eval.statistics.unit_scores import RULES, rules_by_label
from ..finetune.feature_limit import RECORD, Limit
from .exported_limit import read_limit

FACTS = "clinvit.json"  # beside every export: labels, normalisation, preprocessing, thresholds, calibration
GRAPH = "model.onnx"
AGGREGATION = "aggregation"  # the key of units larger than an image
_READERS = {"image": ImageReader, "clip": ClipReader, "volume": VolumeReader}
_SAID = ("model", "labels", "what_one_means", "exclusive", "thresholds", "calibration", "trained_on")


def preprocessing_facts(card: Any) -> dict[str, Any]:
    """Return how a model of images or clips reads files and shows them, as plain values for `clinvit.json`.

    Args:
        card: A `ModelCard`.
    """
    reader = card.reader()
    kind = next(name for name, each in _READERS.items() if type(reader) is each)
    reading = {"kind": kind} | asdict(reader)
    return {"unit": card.unit, "holds": card.holds, "reading": reading, "showing": asdict(card.views())}


def graph_facts(out: Path) -> dict[str, str]:
    """Return the SHA-256 of each graph in a folder."""
    return {path.name: file_sha256(path) for path in sorted(out.glob("*.onnx"))}


@dataclass(frozen=True)
class Exported:
    """The card of an exported model of images or clips, as predictors and pipelines ask for it (`ModelCard`).

    Attributes:
        graph: The ONNX file.
        labels: Names of the L outputs.
        exclusive: Whether the classes exclude each other.
        thresholds: Per label `{"value", "how", "split"}`.
        calibration: Per label its `Scaling`, as plain values.
        mean, std: What pixels in 0..1 are normalised with.
        unit, holds: What a case is, and in a folder.
        reading: Values of the reader of files, with its `kind`.
        showing: Values of the `EvalView`.
        facts: What `predict` says of the model beside its table.
        limit: Beyond which a case is flagged as out of distribution; None flags none.
        aggregation: Units larger than an image that a prediction is made of; a graph itself is of single ones.
    """

    graph: Path
    labels: tuple[str, ...]
    exclusive: bool
    thresholds: dict[str, dict]
    calibration: dict[str, dict]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: str
    holds: str
    reading: Mapping[str, Any]
    showing: Mapping[str, Any]
    facts: Mapping[str, Any]
    limit: Limit | None = None
    aggregation: dict[str, Any] = field(default_factory=dict)
    targets: ClassVar[tuple] = ()
    kinds: ClassVar[tuple] = ()

    @property
    def unwatched(self) -> str:
        """Return why no case is flagged as out of distribution; empty where cases are, or nothing is known of it."""
        return str(self.facts.get(RECORD, {}).get("none", ""))

    @property
    def asked(self) -> tuple[str, ...]:
        """Return what is asked of a case; graphs of targets that are no labels are refused."""
        return self.labels

    def reader(self) -> Reader:
        """Reads files as the model was trained on them."""
        values = dict(self.reading)
        return _READERS[values.pop("kind")](**values)

    def views(self) -> EvalView:
        """Shows cases as the model was evaluated on them."""
        values = dict(self.showing)
        return EvalView(clip=Clip(**values.pop("clip")), **values)


def read_exported(path: str | Path) -> Exported:
    """Return the card of an exported folder.

    Args:
        path: The folder, of which `model.onnx` is run, or another graph in it (`model.int8.onnx`).

    Raises:
        UserError: It is no such folder, was written by an older version, is damaged, or the graph is not the one that
            was written.
    """
    path = Path(path)
    folder, graph = (path.parent, path) if path.suffix == ".onnx" else (path, path / GRAPH)
    file = folder / FACTS
    try:
        said = read_json(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no {FACTS} there: not an exported model (`clinvit export --to onnx`).") from None
    if "preprocessing" not in said:
        raise UserError(
            f"{file}: does not say how files are read: a model of slides, an encoder, or an export of an older "
            "version. Only models of images and clips run so; export again."
        )
    if said.get("targets"):
        names = ", ".join(str(each["name"]) for each in said["targets"])
        raise UserError(f"{file}: a graph of {names}; only graphs of findings run so: predict with the model folder.")
    if graph.name not in said.get("graphs", {}):
        known = ", ".join(said.get("graphs", {})) or "none"
        raise UserError(f"{graph}: no graph of this folder, which has {known}: `clinvit export --to onnx` writes them.")
    if not graph.is_file():
        raise UserError(f"{graph}: no such file. Copy the folder again.")
    refuse_changed(graph, said["graphs"][graph.name])
    with card_errors(file):
        how, (limit, watched) = said["preprocessing"], read_limit(folder, said.get(RECORD), graph.name)
        card = Exported(
            graph, tuple(said["labels"]), bool(said["exclusive"]), said["thresholds"], said["calibration"],
            tuple(said["mean"]), tuple(said["std"]), str(how["unit"]), str(how["holds"]), how["reading"],
            how["showing"], {key: said[key] for key in _SAID if key in said} | ({RECORD: watched} if watched else {}),
            limit, _units(said.get(AGGREGATION, {})),
        )  # fmt: skip
        card.reader(), card.views()
    return card


def _units(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return unit and rule of an export, checked; empty of single images.

    Raises:
        ValueError: They are none.
    """
    if not said:
        return {}
    unit, rules = checked_unit(said["unit"]), rules_by_label(said["rule"])
    if wrong := set(rules.values()) - set(RULES):
        raise ValueError(f"unit rule {sorted(wrong)[0]!r}")
    return {"unit": unit, "rule": said["rule"]}
