"""One vector of a slide from the features of its tiles: their mean, or as a trained aggregator pools them.

Slide encoders whose weights lie here are read by their tensors' names: gated ABMIL of MIL-Lab (FEATHER and others;
Shao et al., ICML 2025, github.com/mahmoodlab/MIL-Lab, `src/models/abmil.py`), CLAM, and the aggregator of CHIEF (Wang
et al., Nature 2024, github.com/hms-dbmi/CHIEF, `models/CHIEF.py`), whose slide vector is the attention-weighted mean of
the tile features themselves; its text branch is for its own classifier and left aside.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..backbone.weights import State, read_checkpoint
from ..core.errors import DataError, UserError
from ..core.files import file_sha256
from ..finetune.model import best_device
from .abmil import AttentionScores, attended
from .aggregator import Aggregator, compute_type, in_type
from .clam import Clam
from .model import MilCard, load_mil
from .weights import load_official_clam, official_kind

MEAN = "mean"
_PREFIX = re.compile(r"^(?:module\.|model\.)+")
_GATES = {"attention_a.0": "v", "attention_b.0": "u", "attention_c": "w"}
_KNOWN = "FEATHER-like ABMIL of MIL-Lab, CLAM, CHIEF"
# Encoders whose network is described by code under a licence alone, by what the names of their tensors begin with.
_GATED = {"vision_encoder.": "TITAN", "image_resampler.": "PRISM"}


class Pooled(NamedTuple):
    """A slide as one vector.

    Attributes:
        vector: (W,) float32.
        attention: (N,) float32 weights of its tiles, which sum to 1.
    """

    vector: Tensor
    attention: Tensor


class SlideEncoder:
    """Pools the features of a slide.

    Attributes:
        name: What it is called in files.
        sha256: Of its weights; empty for the mean.
        width: Features D of a tile that it takes; None for any.
        card: Of a model of ours, whose features must be those that it was trained on.
    """

    def __init__(
        self, name: str, pool: Callable[[Tensor], Pooled], width: int | None = None, sha256: str = "",
        card: MilCard | None = None,
    ):  # fmt: skip
        self.name, self.width, self.sha256, self.card, self._pool = name, width, sha256, card, pool

    @torch.inference_mode()
    def pooled(self, features: Tensor) -> Pooled:
        """Return the vector of a slide.

        Args:
            features: (N, D) of any floating type.

        Raises:
            DataError: Of another width, or the vector is not finite.
        """
        if self.width is not None and features.shape[1] != self.width:
            raise DataError(
                f"features of width {features.shape[1]}, but {self.name} takes {self.width}: use the tile encoder "
                "that it was trained with."
            )
        found = self._pool(features.to(best_device()))
        if not torch.isfinite(found.vector).all():
            raise DataError(f"{self.name} gives a vector that is not finite.")
        return Pooled(found.vector.float().cpu(), found.attention.float().cpu())


def load_slide_encoder(source: str | Path) -> SlideEncoder:
    """Open what pools: `mean`, a model folder of ours, or the weights of a slide encoder.

    Raises:
        UserError: It is none.
    """
    if str(source) == MEAN:
        return SlideEncoder(MEAN, _mean)
    path = Path(source)
    if path.is_dir():
        model, card = load_mil(path)
        sha256 = file_sha256(path / card.weights_file)
        return SlideEncoder(card.aggregator, _of_model(model), card.width, sha256, card)
    if not path.is_file():
        raise UserError(f"{source}: neither {MEAN!r}, nor a model folder of slides, nor a file of weights.")
    state = read_checkpoint(path)
    opened, name = _network(path, state)
    network: Any = opened.eval().requires_grad_(False).to(best_device())
    width = network.embed[0].in_features
    pool = _of_model(network) if isinstance(network, Aggregator) else network
    return SlideEncoder(name, pool, width, file_sha256(path))


def _mean(features: Tensor) -> Pooled:
    return Pooled(features.float().mean(dim=0), features.new_full((len(features),), 1 / len(features)).float())


def _of_model(model: Aggregator) -> Callable[[Tensor], Pooled]:
    """Return what pools as an aggregator does: what its classifier sees, else the attended mean of the features.

    Of several maps the vectors stand behind one another and the weights are their mean.
    """

    def pool(features: Tensor) -> Pooled:
        out = model(features[None])
        attention = out.attention[0].float()
        vectors = attention @ features.float() if out.pooled is None else out.pooled[0]
        return Pooled(vectors.flatten(), attention.mean(dim=0))

    return pool


class GatedPooling(nn.Module):
    """Gated attention pooling alone, without a classifier.

    Args:
        width: Features D of a tile.
        hidden: Widths of the layers that tiles are embedded by.
        attention: Width of the attention's hidden layer.
        of_features: The tile features are averaged, not what they are embedded to.
    """

    def __init__(self, width: int, hidden: list[int], attention: int, of_features: bool = False):
        super().__init__()
        widths = [width, *hidden]
        layers = [each for pair in pairwise(widths) for each in (nn.Linear(*pair), nn.ReLU())]
        self.embed = nn.Sequential(*layers)
        self.attention = AttentionScores(widths[-1], attention)
        self.of_features = of_features

    def forward(self, features: Tensor) -> Pooled:
        """Return the vector of (N, D) tiles."""
        pooled, attention, _ = attended(features[None], None, self.embed, self.attention)
        weights = attention[0, 0]
        vector = weights @ in_type(features, compute_type(self)) if self.of_features else pooled[0, 0]
        return Pooled(vector, weights)


def _network(path: Path, given: State) -> tuple[GatedPooling | Clam, str]:
    """Return the pooling whose weights a file holds, and its name."""
    state = {_PREFIX.sub("", name): value for name, value in given.items()}
    if "global_attn.attention_c.weight" in state:
        return _gated(path, state, "patch_embed.", "global_attn.", False), "abmil (MIL-Lab)"
    if "attention_net.3.attention_c.weight" in state and "organ_embedding" in state:
        return _gated(path, state, "attention_net.", "attention_net.3.", True), "chief"
    if (kind := official_kind(given)) in ("clam_sb", "clam_mb"):
        return load_official_clam(path), str(kind)
    for start, name in _GATED.items():
        if any(each.startswith(start) for each in state):
            raise UserError(
                f"{path}: looks like {name}, whose network is not built here: its code, as its weights, is handed out "
                "under a licence of its own.",
                "Let its own code (or TRIDENT) make the slides' vectors and put them into a folder as features.npy, a "
                "row per slide, beside features.csv with the column id: `clinvit retrieve --vectors` reads it.",
            )
    raise UserError(f"{path}: no slide encoder that is known here ({_KNOWN}), by the names of its tensors.")


def _gated(path: Path, state: State, embed: str, attention: str, of_features: bool) -> GatedPooling:
    """Build gated pooling by the sizes in the file; dropout between its layers has no weights and leaves a number."""
    numbers = sorted(
        {int(match[1]) for name in state if (match := re.fullmatch(rf"{re.escape(embed)}(\d+)\.weight", name))}
    )
    try:
        first = [state[f"{embed}{number}.weight"] for number in numbers]
        made = {f"embed.{2 * place}.{part}": state[f"{embed}{number}.{part}"]
                for place, number in enumerate(numbers) for part in ("weight", "bias")}  # fmt: skip
        made |= {f"attention.{ours}.{part}": state[f"{attention}{theirs}.{part}"]
                 for theirs, ours in _GATES.items() for part in ("weight", "bias")}  # fmt: skip
        network = GatedPooling(
            first[0].shape[1], [len(weight) for weight in first], len(made["attention.v.weight"]), of_features
        )
        network.load_state_dict({name: value.float() for name, value in made.items()}, strict=True)
    except (KeyError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: the weights of gated attention do not fit together ({reason}).") from None
    return network
