"""The model folder: `model.safetensors` + `model.json`, all that prediction needs."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from ..backbone.card import PixelCard
from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..backbone.weights import read_checkpoint
from ..core.cards import Card, card_errors, refuse_larger
from ..core.errors import UserError
from ..core.tensors import built_within, count
from ..datasets.loading.readers import Reader, make_reader
from ..datasets.settings import Clip
from ..datasets.transforms.views import EvalView
from ..engine.cores import share_cores
from .adaptation import FROZEN
from .answers import Answers
from .classifier import Classifier, NearestNeighbours, TimmClassifier, widths
from .context_head import head_of
from .objectives import objective
from .objectives import probabilities as probabilities
from .prompts import PromptHead
from .recipe import OWN, Dense, View
from .timm_encoder import TimmEncoder
from .timm_network import refused

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class ModelCard(Answers, PixelCard):
    """What is known about a classifier.

    Attributes:
        labels: Names of the L outputs, in order.
        meaning: What 1 means, per label.
        exclusive: Classes exclude each other (softmax); else each label has its own probability (sigmoid).
        mode, network, pool, pool_ratio: As in the recipe.
        arch: Architecture of the ViT; of another network only its input counts.
        mean, std: What pixels in 0..1 are normalised with.
        view: How an image or clip is shown to the model.
        scales: Scales that a frozen encoder sees images at; the last is the finest.
        cache_px: Shorter side that a file is shrunk to before anything else, pixels.
        clip: How frames are taken from a clip.
        reference_cases, neighbours: Of k-NN, else 0.
        parameters: `trained` and `total` in training.
        thresholds: Per label `{"value", "how", "split"}`, chosen on validation; empty before.
        calibration: Per label what is done to its scores before they are shown (`eval.scaling.Scaling`), fitted on
            validation; empty where nothing is.
        encoder: Card of the encoder that it started from; empty from scratch.
        recipe, data, versions: Provenance.
        merge: Of a model that was merged from others: method, start, the models in order, what sites found.
        settings: Of a timm network, what `timm.create_model` is given beside its name (`make_network`).
        compression: Of a model that was made smaller: from which, by what steps, with what loss (`clinvit compress`).
        targets: Of a model of numbers, grades or times: each with what it took from training (`Answers`).
        dense: Of a model that draws where findings are: `target` (`boxes` or `masks`), `window`, `channels`, `drop`,
            `edge_px` and `edge_weight` of the recipe, and by label `thresholds`: from which probability on a pixel
            belongs to the finding, chosen on validation. Empty of every other.
        aggregation: Of a model of units larger than a case: which, and by which rule (`Answers`).
        contexts: Of a head that knows of contexts: columns, values, cases (`contexts_of`); empty of any other.
        head_norm: `l2` where the head sees features of unit length, else `none`.
        prompts: Of a head that was made of prompts: the texts by label, the width of their space and the text encoder
            (`stored_prompts`); empty of any other.
    """

    kind: ClassVar[str] = "model"
    another_words: ClassVar[str] = "not a model of images or clips: give one that was trained on these."

    labels: tuple[str, ...]
    meaning: dict[str, str]
    exclusive: bool
    mode: str
    network: str
    pool: str
    arch: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    view: View
    cache_px: int
    clip: Clip = field(default_factory=Clip)
    pool_ratio: float = 1.0
    scales: tuple[int, ...] = (1,)
    reference_cases: int = 0
    neighbours: int = 0
    parameters: dict[str, int] = field(default_factory=dict)
    thresholds: dict[str, dict] = field(default_factory=dict)
    calibration: dict[str, dict] = field(default_factory=dict)
    encoder: dict = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    merge: dict = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    compression: dict[str, Any] = field(default_factory=dict)
    targets: tuple[dict[str, Any], ...] = ()
    dense: dict[str, Any] = field(default_factory=dict)
    aggregation: dict[str, Any] = field(default_factory=dict)
    contexts: dict[str, Any] = field(default_factory=dict)
    head_norm: str = "none"
    prompts: dict[str, Any] = field(default_factory=dict)

    @property
    def plain_head(self) -> bool:
        """Whether logits are a linear layer of the pooled and normalised features, as other libraries know them."""
        return not self.contexts and not self.prompts and self.head_norm == "none"

    def validate(self) -> None:
        """Raise where files cannot be read or shown as the values say."""
        self.reader(), self.views()

    def reader(self) -> Reader:
        """Reads files as this model was trained on them."""
        arch = self.arch
        return make_reader(
            self.clip, frames=arch.frames, size_px=arch.image_size[0], cache_px=self.cache_px, channels=arch.channels,
            least_px=self.least_px(),
        )  # fmt: skip

    @property
    def holds(self) -> str:
        """What a case in a folder is (`datasets.manifest.contents`): as for the task that it was trained for."""
        return "radiograph" if self.unit == "image" and self.data.get("holds") == "radiograph" else self.unit

    def network_words(self) -> str:
        """Return the network and its input size in words."""
        arch = self.arch
        if self.network != "vit":
            return self.network
        words = f"ViT, width {arch.width}, depth {arch.depth}, patch {arch.patch_size}, input {arch.image_size[0]} px"
        words += f", {arch.frames} frames in tubelets of {arch.tubelet}" if arch.frames > 1 else ""
        return ", ".join([words, *arch.compressed])

    def origin(self) -> dict[str, Any]:
        """Return what the training started from, for a report."""
        start = self.encoder
        return {
            "start": f"encoder by {start['method']}" if start else "from scratch",
            "pre-training data": start.get("data", {}) if start else "",
        }

    def description(self) -> str:
        """Return network and labels in one line."""
        return f"{self.network}, labels {', '.join(self.labels)}"

    def summary(self) -> str:
        """Return two sentences on what it is."""
        arch = self.arch
        network = self.network if self.network != "vit" else f"ViT of width {arch.width} and depth {arch.depth}"
        what = "one of the classes" if self.exclusive else "each finding by itself"
        if self.kinds:
            what = "; ".join(f"{each.name}, {each.words()}" for each in self.kinds)
        if self.dense:
            return (
                f"Dense head: {network}, {self.input_words()}; draws a map of each finding, learned from "
                f"{self.dense['target']}. Mode {self.mode}."
            )
        how = f"Mode {self.mode}, pooling {self.pool}"
        if self.contexts:
            how += f", a head per {' and '.join(self.contexts['columns'])}, inferred from the image"
        if self.prompts:
            how = f"Head made of prompts, without a labelled image; pooling {self.pool}"
        crop = {"moving": " Clips are cropped to what moves.", "boxes": " Clips are cropped to boxes of a table."}
        return f"Classifier: {network}, {self.input_words()}; judges {what}. {how}.{crop.get(self.clip.roi, '')}"

    def views(self) -> EvalView:
        """Shows cases as this model is evaluated on them."""
        view, arch, finest = self.view, self.arch, self.scales[-1]
        resize_px = view.resize_px * finest if view.mode == "crop" and view.resize_px is not None else None
        return EvalView(
            arch.image_size[0] * finest, view.mode, resize_px, self.clip, arch.frames, view.segments, view.crops
        )  # fmt: skip

    def least_px(self) -> int:
        """Shorter side that a file must have, pixels: none is enlarged to be read at several scales."""
        views = self.views()
        return 0 if len(self.scales) == 1 else views.resize_px or views.size


def input_shape(card: ModelCard) -> tuple[int, ...]:
    """(C, [T,] H, W) of the input of one case, at the finest scale."""
    arch, finest = card.arch, card.scales[-1]
    sides = [side * finest for side in arch.image_size]
    return (arch.channels, *([arch.frames] if arch.frames > 1 else []), *sides)


def best_device() -> torch.device:
    """The GPU that a launcher gave to this process, else the first one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    own = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    return torch.device("cuda", int(own) % torch.cuda.device_count())


def build_model(
    card: ModelCard, drop_path: float = 0.0, checkpoint_blocks: bool = False, head_drop: float = 0.0
) -> nn.Module:
    """The network of a card, weights still random."""
    if card.network == OWN:
        raise UserError(
            "the network is a module of somebody's own, of which the folder holds the weights alone: give one built "
            "alike, `clinvit.load(folder, network=...)`. Its scores are in predictions.csv."
        )
    if card.network != "vit" and card.arch.frames > 1:
        from .volumes.networks import VolumeClassifier

        return VolumeClassifier(
            card.network, card.outputs, channels=card.arch.channels, frames=card.arch.frames,
            size_px=card.arch.image_size[0], pool=card.pool, pool_ratio=card.pool_ratio,
        )  # fmt: skip
    frozen = card.mode in FROZEN
    if card.network != "vit" and not frozen:
        return TimmClassifier(
            card.network, card.outputs, card.arch.channels, card.arch.image_size, card.settings
        )  # fmt: skip
    if card.network != "vit":
        encoder = TimmEncoder(card.network, card.arch.channels, card.arch.image_size, card.settings)
        return _probe(card, encoder, head_drop)
    vit = ViT(
        card.arch,
        drop_path=drop_path,
        final_norm=frozen or card.pool == "class" or bool(card.dense),
        checkpoint_blocks=checkpoint_blocks,
    )
    if card.dense:
        from .dense.network import DenseNetwork

        return DenseNetwork(vit, card.outputs, dense_settings(card), frozen)
    return _probe(card, vit, head_drop)


def dense_settings(card: ModelCard) -> Dense:
    """Return the settings of a card's dense head."""
    return Dense(**{each.name: card.dense[each.name] for each in fields(Dense)})


def refuse_dense(card: ModelCard, what: object) -> None:
    """Raise for a model that draws where findings are, in what takes classifiers alone.

    Raises:
        UserError: It names the model.
    """
    if card.dense:
        raise UserError(
            f"{what}: draws where findings are (finetune --target {card.dense['target']}); `clinvit predict` and "
            "`clinvit evaluate` take it, this takes classifiers."
        )


def _probe(card: ModelCard, encoder: ViT | TimmEncoder, head_drop: float) -> nn.Module:
    """Return what stands on the encoder of a card."""
    if card.mode == "knn":
        return NearestNeighbours(
            encoder, len(card.labels), card.pool, card.reference_cases, card.neighbours, scales=card.scales
        )
    unit_length = card.head_norm == "l2"
    model = Classifier(encoder, card.outputs, card.pool, card.mode in FROZEN, head_drop, card.scales, unit_length)
    if card.prompts:
        model.head = PromptHead(widths(encoder, card.pool)[0], int(card.prompts["embedding"]), card.outputs)
    if card.contexts:
        model.head = head_of(widths(encoder, card.pool)[0] * len(card.scales), card.contexts, card.exclusive)
    return model


def save_model(folder: str | Path, model: nn.Module, card: ModelCard) -> Path:
    """Write a model folder; the card last, so that a folder with a card is whole."""
    return card.save(folder, model)


def load_card(folder: str | os.PathLike[str]) -> ModelCard:
    """The card of a model folder.

    Raises:
        UserError: It is none, or the card is damaged.
    """
    return ModelCard.read(folder)


def check_network(network: nn.Module, card: ModelCard) -> None:
    """Try a network of somebody's own, or of timm, on two cases.

    Raises:
        UserError: It does not make (B, L) logits of the input of the card.
    """
    shape, was_training = input_shape(card), network.training
    device = next((parameter.device for parameter in network.parameters()), None)
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *shape, device=device))
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
        if card.network == OWN:
            raise
        raise UserError(str(refused(card.network, shape[-2:], error))) from None
    network.train(was_training)
    if not isinstance(logits, Tensor) or logits.shape != (2, card.outputs):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"the network makes {found} of input {(2, *shape)}; (2, {card.outputs}) logits are needed, one for "
            f"each of {', '.join(card.labels if not card.targets else card.columns)}."
        )


def load_model(
    folder: str | os.PathLike[str], network: nn.Module | None = None, dense: bool = False, units: bool = False
) -> tuple[nn.Module, ModelCard]:
    """Network in eval mode, on the GPU where there is one, and card of a model folder; strict.

    Args:
        folder: The model folder.
        network: Built as in training, where it was a module of somebody's own.
        dense: Whether one that draws where findings are is taken, too.
        units: Whether the caller knows what to do with a model whose thresholds are of units larger than an image.

    Raises:
        UserError: The weights do not belong to the card, or the model is of units.
    """
    card = load_card(folder)
    if not dense:
        refuse_dense(card, folder)
    if not units:
        refuse_units(folder, card)

    def build(card: ModelCard) -> nn.Module:
        return build_model(card) if network is None or card.network != OWN else network

    return load_weights(folder, card, build, card.arch.weights if card.network == "vit" else 0), card


def refuse_units(folder: str | os.PathLike[str], card: Any) -> None:
    """Refuse a model of units larger than a case where single cases are scored.

    Raises:
        UserError: It is one.
    """
    if card.aggregation:
        raise UserError(
            f"{folder}: its thresholds are for a {card.aggregation['unit']}, not for single {card.unit}s: this is for "
            "`clinvit predict` and `evaluate`; elsewhere give a model trained without --unit."
        )


def load_weights(folder: str | os.PathLike[str], card: Card, build: Callable[[Any], Network], least: float) -> Network:
    """Return the network of a model folder in eval mode, on the GPU where there is one; strict.

    Args:
        folder: The model folder.
        card: Its card.
        build: Makes the network of the card.
        least: How many weights the card's network has at least.

    Raises:
        UserError: The weights are damaged, or do not belong to the card.
    """
    folder = Path(folder)
    path = folder / card.weights_file
    state = safetensors_state(path)
    card.refuse_changed_weights(folder)
    with card_errors(folder / card.card_file):
        refuse_larger(folder, least, count(state))
        with built_within(folder, state):
            model = build(card)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the card ({' '.join(str(error).split())[:200]}).") from None
    return model.eval().to(best_device())


def safetensors_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file under the very names in it."""
    read_checkpoint(path)
    return safetensors.torch.load_file(path)


@torch.inference_mode()
def predict_batch(model: nn.Module, pixels: Tensor, card: ModelCard) -> Tensor:
    """(B, S) scores of (B, C, [T,] H, W) normalised input; with the mirror image if the card says so."""
    share_cores()
    activate = objective(card).activate
    scores = activate(model(pixels))
    if card.view.flip:
        scores = (scores + activate(model(pixels.flip(-1)))) / 2
    return scores
