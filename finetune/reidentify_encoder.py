"""Training of the encoder itself to link a patient's images, by the loss and the batches of `reidentify`.

The head is trained first on the encoder's features as they are, so that training starts from what it can do (linear
probing, then fine-tuning: Kumar et al. 2022, ICLR). Then both learn from pixels: a small rate for the encoder, a
larger one for the head, both polynomial after a warm-up (Habel et al. 2022). Both images of a pair are flipped or not
flipped together; each is cropped and exposed a little otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import UserError
from ..core.pixels import normalised
from .model import ModelCard
from .predict import Values
from .reidentify import BATCH, DECAY, Head, info_nce, pairs_of_patients, train_head

MODES = ("head", "last_blocks", "full")
HEAD_RATE = 10  # times the encoder's
POWER, LEAST_RATE = 2, 0.1  # of the rate's fall, and the share of it that is left at the end
CROP, EXPOSURE = 0.85, 0.15  # least side of a crop; largest change of contrast and brightness
EVAL_BATCH = 64


@dataclass(frozen=True)
class Tuning:
    """What is trained to link images, and how long.

    Attributes:
        mode: `head` on features as they are, or with it the encoder's `last_blocks`, or the encoder in `full`.
        blocks: How many of the last blocks.
        epochs: Of the encoder; each shows a pair of images of every patient.
        rate: Learning rate of the encoder.

    Raises:
        UserError: There is no such mode, or a number is out of its range.
    """

    mode: str = "head"
    blocks: int = 2
    epochs: int = 30
    rate: float = 1e-4

    def __post_init__(self):
        if self.mode not in MODES:
            raise UserError(f"--reident is {', '.join(MODES[:-1])} or {MODES[-1]}, not {self.mode!r}.")
        if self.blocks < 1 or self.epochs < 1:
            raise UserError("--reident-blocks and --reident-epochs are 1 or more.")
        if not 0 < self.rate <= 0.1:
            raise UserError(f"--reident-rate is above 0 and at most 0.1, not {self.rate:g}.")

    def words(self) -> str:
        """Return what was trained, for the page."""
        if self.mode == "head":
            return "a trained head"
        return f"a trained head and the encoder's last {self.blocks} blocks" if self.mode == "last_blocks" else (
            "a trained head and the whole encoder"
        )  # fmt: skip


class EncoderFit:
    """Fits encoder and head on pixels; the network is as it was after each fit.

    Args:
        network: The encoder, in eval mode, in which it stays: norms keep their statistics.
        values: Features of normalised pixels by this network.
        card: How pixels are normalised.
        pixels: (N, C, [T,] H, W) uint8.
        features: (N, D) features by the network as it is.
        patients: N names.
        tuning: What is trained.

    Raises:
        UserError: It has no blocks, or fewer.
    """

    def __init__(
        self, network: nn.Module, values: Values, card: ModelCard, pixels: np.ndarray, features: np.ndarray,
        patients: Sequence[str], tuning: Tuning,
    ):  # fmt: skip
        self.network, self.values, self.card, self.tuning = network, values, card, tuning
        self.pixels, self.features = pixels, np.asarray(features, np.float32)
        self.patients = np.asarray(patients, str)
        self.trained = trained_parameters(network, tuning)
        self.device = self.trained[0].device

    def __call__(self, learn: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
        """Return (n, WIDTH) vectors of the rows that are wanted by an encoder that was trained on other rows."""
        before = [each.detach().clone() for each in self.trained]
        head = train_head(self.features[learn], self.patients[learn].tolist(), seed).train().to(self.device)
        for each in self.trained:
            each.requires_grad_(True)
        try:
            self._train(head, learn, seed)
            return self._vectors(head.eval(), wanted)
        finally:
            with torch.no_grad():
                for each, value in zip(self.trained, before, strict=True):
                    each.requires_grad_(False).copy_(value)

    def _train(self, head: Head, learn: np.ndarray, seed: int) -> None:
        tuning, draw = self.tuning, np.random.default_rng(seed)
        random = torch.Generator().manual_seed(seed)
        groups = [{"params": self.trained}, {"params": list(head.parameters()), "lr": HEAD_RATE * tuning.rate}]
        optimizer = torch.optim.AdamW(groups, tuning.rate, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: _share(epoch, tuning.epochs))
        for _ in range(tuning.epochs):
            for pairs in pairs_of_patients(self.patients[learn].tolist(), BATCH, draw):
                rows = learn[pairs]
                flip = torch.rand(len(rows), generator=random) < 0.5
                first, second = (self._shown(rows[:, side], flip, random) for side in (0, 1))
                loss = info_nce(head(self.values(first)), head(self.values(second)), head.scale)
                if not math.isfinite(float(loss.detach())):
                    raise UserError(f"--reident-rate {tuning.rate:g}: training became unstable: take a smaller one.")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()

    def _shown(self, rows: np.ndarray, flip: Tensor, random: torch.Generator) -> Tensor:
        pixels = normalised(torch.from_numpy(self.pixels[rows]).to(self.device), self.card.mean, self.card.std)
        return varied(pixels, flip, random)

    def _vectors(self, head: Head, rows: np.ndarray) -> np.ndarray:
        found = []
        with torch.no_grad():
            for some in np.array_split(rows, math.ceil(len(rows) / EVAL_BATCH) or 1):
                pixels = normalised(torch.from_numpy(self.pixels[some]).to(self.device), self.card.mean, self.card.std)
                found.append(head(self.values(pixels).float()).cpu().numpy())
        return np.concatenate(found)


def trained_parameters(network: nn.Module, tuning: Tuning) -> list[nn.Parameter]:
    """Return the parameters of an encoder that are trained.

    Raises:
        UserError: It has no blocks, or fewer.
    """
    if tuning.mode == "full":
        return list(network.parameters())
    parts = [network, *(getattr(network, name, None) for name in ("encoder", "network"))]
    encoder = next(
        (each for each in parts if isinstance(getattr(each, "blocks", None), nn.ModuleList | nn.Sequential)), None
    )
    if encoder is None:
        raise UserError("--reident last_blocks is of networks with blocks: take full.")
    if tuning.blocks > len(encoder.blocks):
        raise UserError(f"--reident-blocks {tuning.blocks}: the encoder has {len(encoder.blocks)}.")
    last = list(encoder.blocks[-tuning.blocks :].parameters())
    return last + list(encoder.norm.parameters() if isinstance(getattr(encoder, "norm", None), nn.Module) else ())


def varied(pixels: Tensor, flip: Tensor, random: torch.Generator) -> Tensor:
    """Return (B, C, [T,] H, W) images cropped and exposed a little otherwise; some flipped.

    Args:
        pixels: Normalised.
        flip: (B,) whether.
        random: Of crops and exposure.
    """
    count, device = len(pixels), pixels.device
    draw = lambda low, high: torch.empty(count).uniform_(low, high, generator=random).to(device)
    scale = draw(CROP, 1)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = scale * (1 - 2 * flip.to(device).float())
    theta[:, 1, 1] = scale
    for axis in (0, 1):
        theta[:, axis, 2] = (1 - scale) * draw(-1, 1)
    flat = pixels.flatten(1, -3)  # frames beside channels: one crop of all
    grid = F.affine_grid(theta, [*flat.shape], align_corners=False)
    shown = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(pixels)
    each = (count, *(1,) * (pixels.ndim - 1))
    return shown * draw(1 - EXPOSURE, 1 + EXPOSURE).view(each) + draw(-EXPOSURE, EXPOSURE).view(each)


def _share(epoch: int, epochs: int) -> float:
    """Return the share of the rate: half in a first epoch of warm-up, then a polynomial fall."""
    if epoch == 0 and epochs > 1:
        return 0.5
    return LEAST_RATE + (1 - LEAST_RATE) * (1 - epoch / epochs) ** POWER
