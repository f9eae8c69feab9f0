"""The model folder: `model.safetensors` + `model.json`, all that prediction needs."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ..backbone.encoder import card_errors, refuse_larger
from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..backbone.weights import read_checkpoint
from ..core.errors import UserError
from ..core.files import file_sha256, read_json, refuse_changed, write_json, written_aside
from ..datasets.loading.readers import Reader, make_reader
from ..datasets.settings import Clip
from ..datasets.transforms.views import EvalView
from .adaptation import FROZEN
from .classifier import Classifier, NearestNeighbours, TimmClassifier
from .recipe import View

WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class ModelCard:
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
    """

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

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, card: dict) -> "ModelCard":
        """The inverse of `to_dict`."""
        tuples = {name: tuple(card[name]) for name in ("labels", "mean", "std", "scales") if name in card}
        parts = {
            name: kind(**card.get(name, {})) for name, kind in (("arch", Architecture), ("view", View), ("clip", Clip))
        }
        return cls(**(card | tuples | parts))

    def reader(self) -> Reader:
        """Reads files as this model was trained on them."""
        arch = self.arch
        return make_reader(
            self.clip, frames=arch.frames, size_px=arch.image_size[0], cache_px=self.cache_px, channels=arch.channels,
            least_px=self.least_px(),
        )  # fmt: skip

    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that this model reads."""
        if self.arch.frames > 1:
            from ..datasets.video.clips import CLIP_SUFFIXES

            return CLIP_SUFFIXES
        from ..datasets.images.radiographs import RADIOGRAPH_SUFFIXES

        return RADIOGRAPH_SUFFIXES

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
    if card.network != "vit" and card.arch.frames > 1:
        from .volumes.networks import VolumeClassifier

        return VolumeClassifier(
            card.network, len(card.labels), channels=card.arch.channels, frames=card.arch.frames,
            size_px=card.arch.image_size[0], pool=card.pool, pool_ratio=card.pool_ratio,
        )  # fmt: skip
    if card.network != "vit":
        return TimmClassifier(card.network, len(card.labels), card.arch.channels)
    frozen = card.mode in FROZEN
    vit = ViT(
        card.arch,
        drop_path=drop_path,
        final_norm=frozen or card.pool == "class",
        checkpoint_blocks=checkpoint_blocks,
    )
    if card.mode == "knn":
        return NearestNeighbours(
            vit, len(card.labels), card.pool, card.reference_cases, card.neighbours, scales=card.scales
        )
    return Classifier(vit, len(card.labels), card.pool, frozen, head_drop, card.scales)


def save_model(folder: str | Path, model: nn.Module, card: ModelCard) -> Path:
    """Write a model folder; the card last, so that a folder with a card is whole."""
    folder = Path(folder)
    with written_aside(folder / WEIGHTS) as aside:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, aside, metadata={"format": "pt"})
    save_card(folder, card)
    return folder


def save_card(folder: Path, card: ModelCard) -> None:
    """(Re)write the card of a model folder."""
    write_json(folder / CARD, card.to_dict() | {"sha256": file_sha256(folder / WEIGHTS)})


def load_card(folder: str | Path) -> ModelCard:
    """The card of a model folder.

    Raises:
        UserError: It is none, or the card is damaged.
    """
    folder = Path(folder)
    try:
        card = read_json(folder / CARD)
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CARD} in it: not a model folder (`clinvit finetune` makes one).") from None
    card.pop("sha256", None)
    with card_errors(folder / CARD):
        card = ModelCard.from_dict(card)
        card.reader(), card.views()
        return card


def load_model(folder: str | Path) -> tuple[nn.Module, ModelCard]:
    """Network in eval mode, on the GPU where there is one, and card of a model folder; strict.

    Raises:
        UserError: The weights do not belong to the card.
    """
    card = load_card(folder)
    path = Path(folder) / WEIGHTS
    state = stored_state(path)
    if card.network == "vit":
        refuse_larger(Path(folder), card.arch.weights, state)
    with card_errors(Path(folder) / CARD):
        model = build_model(card)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the card ({' '.join(str(error).split())[:200]}).") from None
    return model.eval().to(best_device()), card


def stored_state(path: Path) -> dict[str, Tensor]:
    """Tensors of the weights in a model folder, whole as they were written.

    Raises:
        UserError: No such file, or damaged.
    """
    state = safetensors_state(path)
    refuse_changed(path, read_json(path.with_name(CARD)).get("sha256"))
    return state


def safetensors_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file under the very names in it."""
    read_checkpoint(path)
    return safetensors.torch.load_file(path)


def probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    """(B, L) probabilities: softmax of exclusive classes, else sigmoids."""
    logits = logits.float()
    return logits.softmax(dim=1) if exclusive else logits.sigmoid()


@torch.inference_mode()
def predict_batch(model: nn.Module, pixels: Tensor, card: ModelCard) -> Tensor:
    """(B, L) probabilities of (B, C, [T,] H, W) normalised input; with the mirror image if the card says so."""
    scores = probabilities(model(pixels), card.exclusive)
    if card.view.flip:
        scores = (scores + probabilities(model(pixels.flip(-1)), card.exclusive)) / 2
    return scores
