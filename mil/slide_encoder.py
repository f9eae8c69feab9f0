"""Encoders of slide tiles: one of ours, a checkpoint, or any network of timm or of a Hugging Face hub."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.encoder import open_vit
from ..backbone.public import encoder_place
from ..backbone.vit import ViT
from ..backbone.weights.hub import fetch_network, is_timm_name
from ..core.errors import UserError
from ..core.pixels import normalised
from ..finetune.multiscale import multiscale_vectors
from ..finetune.starts import NetworkStart, find_start
from ..finetune.timm_encoder import TimmEncoder
from ..finetune.timm_weights import load_network

KINDS = ("class", "mean", "class_mean", "class4_mean", "pooled")


class TileEncoder(nn.Module):
    """A frozen network that makes one vector of one tile.

    Args:
        network: Takes (B, 3, S, S) normalised tiles, gives (B, D).
        name: What it is called in files of features.
        input_px: Side S that it was trained at, pixels.
        mean, std: What pixels in 0..1 are normalised with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, name: str, input_px: int, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network, self.name, self.input_px = network.eval().requires_grad_(False), name, input_px
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, tiles: Tensor, scales: Sequence[int] = (1,)) -> Tensor:
        """Return (B, n D) features at n scales of (B, s S, s S, 3) uint8 tiles, read at the finest scale s."""
        x = normalised(tiles.permute(0, 3, 1, 2), self.mean, self.std)
        return multiscale_vectors(self.network, x, scales)

    def fingerprint(self) -> str:
        """Return the SHA-256 of names and values of all weights, so the same weights in another file have the same."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.inference_mode()
    def check(self, tile_px: int) -> int:
        """Return the width D of the features of tiles of `tile_px` pixels.

        Raises:
            UserError: The network takes no such tiles.
        """
        try:
            tile = torch.zeros(1, tile_px, tile_px, 3, dtype=torch.uint8, device=self.mean.device)
            return self(tile).shape[1]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"encoder {self.name}: takes no tiles of {tile_px} px ({' '.join(str(error).split())[:100]}). Tile "
                f"with --tile_px {self.input_px}; the tiles' size in microns stays."
            ) from None


class TokenFeatures(nn.Module):
    """Vectors from the tokens of a ViT.

    `class4_mean` is what Self-ViT-MIL uses: the class tokens of the last four blocks, first to last, then the mean of
    the patch tokens of the last, all after the final norm (its src/vit/save_embeddings.py).

    Args:
        vit: The encoder.
        kind: `class`, `mean`, `class_mean` or `class4_mean`.
    """

    def __init__(self, vit: ViT, kind: str):
        super().__init__()
        self.vit, self.kind = vit, kind

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D), (B, 2 D) or (B, 5 D) features of (B, C, H, W) normalised tiles."""
        layers = self.vit.last_layers(x, 4 if self.kind == "class4_mean" else 1)
        classes: list[Any] = [tokens.cls for tokens in layers] if self.kind != "mean" else []
        means = [layers[-1].patches.mean(dim=1)] if self.kind != "class" else []
        return torch.cat([*classes, *means], dim=1)


def load_tile_encoder(source: str, kind: str) -> TileEncoder:
    """Return the encoder that a user named.

    Args:
        source: An encoder folder, a checkpoint file, the name of a public encoder (`backbone.public`), `timm:NAME`, or
            `hf-hub:OWNER/NAME` (which timm fetches from a Hugging Face hub and keeps, unless it is kept already).
        kind: `class`, `mean`, `class_mean`, `class4_mean` (of a ViT of ours), or `pooled` (what a timm network gives).

    Raises:
        UserError: It cannot be had, or has no such features.
    """
    if kind not in KINDS:
        raise UserError(f"features {kind!r}: one of {', '.join(KINDS)}.")
    if is_timm_name(source):
        return _from_timm(source, kind)
    place = encoder_place(source)
    start = find_start(place)
    if isinstance(start, NetworkStart):
        return _from_start(start, source, kind)
    if kind == "pooled":
        raise UserError(f"{source}: our own encoders give --features class, mean, class_mean or class4_mean.")
    vit, card = open_vit(place)
    if card.arch.frames > 1 or card.arch.channels != 3:
        raise UserError(
            f"{source}: takes {card.arch.channels} channel(s) and {card.arch.frames} frame(s); slide tiles are colour "
            "images. Pre-train on tiles: `clinvit pretrain slides`."
        )
    if not card.arch.class_token and kind != "mean":
        raise UserError(f"{source}: has no class token; take --features mean.")
    if isinstance(vit.norm, nn.Identity) and kind != "mean":
        raise UserError(f"{source}: has no final norm, being trained on the mean of its tokens; take --features mean.")
    name = f"clinvit-{card.method}-{card.arch.width}x{card.arch.depth}-{kind}"
    return TileEncoder(TokenFeatures(vit, kind), name, card.arch.image_size[0], card.mean, card.std)


class TimmTokens(nn.Module):
    """Vectors from the tokens of a ViT of timm: `class`, `mean` or `class_mean` (as the card of Virchow says).

    Args:
        network: With `forward_features` to (B, prefix + N, D), the class token first.
        kind: Which vectors.
    """

    def __init__(self, network: nn.Module, kind: str):
        super().__init__()
        self.network: Any = network
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D) or (B, 2 D) features of (B, C, H, W) normalised tiles."""
        tokens = self.network.forward_features(x)
        mean = tokens[:, self.network.num_prefix_tokens :].mean(dim=1)
        if self.kind == "class_mean":
            return torch.cat([tokens[:, 0], mean], dim=1)
        return tokens[:, 0] if self.kind == "class" else mean


def _from_timm(source: str, kind: str) -> TileEncoder:
    from timm.data import resolve_model_data_config

    network = fetch_network(source, num_classes=0)
    settings = resolve_model_data_config(network)
    name, network = _with_features(network, source.removeprefix("timm:"), source, kind)
    return TileEncoder(network, name, settings["input_size"][-1], settings["mean"], settings["std"])


def _from_start(start: NetworkStart, source: str, kind: str) -> TileEncoder:
    """Return the encoder of a network of timm whose weights lie here."""
    try:
        encoder = TimmEncoder(start.network, 3, start.image_size, start.settings)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None
    print(f"encoder {source}: {start.network} of timm, {start.how}; {load_network(encoder, start.weights)}")
    if start.assumed_statistics:
        print(f"note: mean {start.mean} and std {start.std} are usual for {start.network}; nothing states the file's")
    name, network = _with_features(encoder.network, start.network, source, kind)
    return TileEncoder(network, name, start.image_size[-1], start.mean, start.std)


def _with_features(network: Any, name: str, source: str, kind: str) -> tuple[str, nn.Module]:
    """Return name and network of the features that are asked for."""
    has_class = bool(getattr(network, "num_prefix_tokens", 0)) and getattr(network, "cls_token", None) is not None
    if kind == "pooled" and has_class and getattr(network, "global_pool", None) == "":
        raise UserError(f"{source}: gives tokens, not one vector: take --features class, mean or class_mean.")
    if kind == "pooled":
        return name, network
    if not has_class or kind == "class4_mean":
        raise UserError(f"features {kind!r} are not of {source}: it gives --features pooled.")
    return f"{name}-{kind}", TimmTokens(network, kind)
