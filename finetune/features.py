"""Features of images and clips by a frozen encoder of any kind: what makes them, and a table of cases."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.encoder import fingerprint, open_vit
from ..backbone.sizes import Architecture
from ..core.errors import UserError
from .classifier import pooled
from .features_recipe import Features
from .model import ModelCard, best_device, input_shape
from .new_card import roi_note
from .predict import PixelPredictor, Values
from .starts import NetworkStart, find_start
from .timm_encoder import TimmEncoder
from .timm_weights import load_network


class FeatureMaker:
    """A frozen encoder that makes one vector of one case.

    Args:
        source: Folder or file of an encoder (`find_start`).
        recipe: How.

    Attributes:
        network: The encoder, in eval mode.
        card: How cases are read and shown.
        name: What it is, in words.
        sha256: Of the weights.
        note: What there is to say of how clips are read; empty where there is nothing.
        width: Values of a vector.

    Raises:
        UserError: It is no encoder, or has no such pool.
    """

    def __init__(self, source: Path, recipe: Features):
        start = find_start(source)
        pool, self.note = recipe.pool, ""
        self.network: nn.Module
        if isinstance(start, NetworkStart):
            try:
                network = TimmEncoder(start.network, 3, start.image_size, start.settings)
                network.check_pool(pool)
            except ValueError as error:
                raise UserError(f"{source}: {error}") from None
            load_network(network, start.weights)
            arch = Architecture(
                network.width(pool), 0, 1, image_size=start.image_size, patch_size=min(start.image_size), channels=3
            )
            self.network, self.name, self.sha256 = network, f"{start.network} of timm, {start.how}", start.fingerprint()
            self.values: Values = lambda pixels: network(pixels, pool)
        else:
            vit, card = open_vit(source)
            if pool == "class" and not card.arch.class_token:
                raise UserError(f"{source}: has no class token: take --pool mean.")
            self.network, self.name, self.sha256, arch = vit, card.description(), fingerprint(source), card.arch
            self.values = lambda pixels: pooled(vit(pixels), pool)
            self.note = roi_note(card, recipe.clip)
        self.network = self.network.eval().requires_grad_(False).to(best_device())
        self.card = ModelCard(
            labels=(), meaning={}, exclusive=False, mode="linear", network="vit", pool=pool, arch=arch,
            mean=start.mean, std=start.std, view=recipe.view, cache_px=2 * max(arch.image_size), clip=recipe.clip,
        )  # fmt: skip
        self.assumed_statistics = start.assumed_statistics
        with torch.inference_mode():
            probe: Tensor = self.values(torch.zeros(1, *input_shape(self.card), device=best_device()))
        self.width = probe.shape[1]

    def predictor(self, batch: int, workers: int) -> PixelPredictor:
        """Return what gives the vectors of cases, batch after batch."""
        return PixelPredictor(self.card, self.values, best_device(), batch, workers, self.width)

    def facts(self) -> dict[str, Any]:
        """Return what made the features, as plain values."""
        return {
            "encoder": self.name,
            "sha256": self.sha256,
            "values": self.width,
            "pool": self.card.pool,
            "assumed_statistics": self.assumed_statistics,
        } | self.card.input_facts()
