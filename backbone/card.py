"""What is known about an encoder, and what all cards of networks of pixels have in common."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..core.cards import Card
from .sizes import Architecture


class PixelCard(Card):
    """Base of the cards of networks that see images or clips.

    Attributes:
        arch: Architecture, input size and channels included.
        mean, std: What pixels in 0..1 are normalised with, one value per channel.
    """

    arch: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def unit(self) -> str:
        """What a case is: `image` or `clip`."""
        return "clip" if self.arch.frames > 1 else "image"

    def input_words(self) -> str:
        """Return the size of the input in words."""
        arch = self.arch
        words = f"{arch.image_size[0]} x {arch.image_size[1]} px, {arch.channels} channel(s)"
        return words + (f", {arch.frames} frames" if arch.frames > 1 else "")

    def input_facts(self) -> dict[str, Any]:
        """Return size and normalisation of the input, as plain values for who runs the weights elsewhere."""
        height, width = self.arch.image_size
        return {
            "input": {"height": height, "width": width, "channels": self.arch.channels},
            "frames": self.arch.frames,
            "mean": list(self.mean),
            "std": list(self.std),
            "pixels": "grey or colour values in 0..1, minus mean, over std",
        }


@dataclass(frozen=True)
class EncoderCard(PixelCard):
    """What is known about an encoder.

    Attributes:
        arch: Architecture, input size and channels included.
        mean, std: What pixels in 0..1 are normalised with, one value per channel.
        method: How it was trained: `mae`, `dino`, `none`, or the source of a foreign checkpoint.
        recipe: The resolved recipe, plain values.
        data: Fingerprint and counts of the data it saw.
        versions: Of the packages that made it.
        assumed_statistics: Whether mean and std are those usual for the source, since the file states none.
    """

    kind: ClassVar[str] = "encoder"
    card_file: ClassVar[str] = "encoder.json"
    weights_file: ClassVar[str] = "encoder.safetensors"
    folder_words: ClassVar[str] = "an encoder folder (`clinvit pretrain` makes one)"
    another_words: ClassVar[str] = "not the card of an encoder."

    arch: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str = "none"
    recipe: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    assumed_statistics: bool = False

    def description(self) -> str:
        """Return all sizes in one line."""
        arch = self.arch
        extras = [f"{arch.frames} frames in tubelets of {arch.tubelet}"] if arch.frames > 1 else []
        extras += [f"{arch.registers} registers"] if arch.registers else []
        extras += ["layer scale"] if arch.layer_scale else []
        extras += ["a stem of convolutions"] if arch.stem else []
        extras += [_mlp_words(arch)] if arch.gated_mlp or arch.activation != "gelu" else []
        extras += [f"rotary positions ({arch.rotary.kind})"] if arch.rotary else []
        extras += [f"{arch.positions} positions"] if arch.positions != "none" else []
        extras += [f"norm_eps {arch.norm_eps:g}", *arch.compressed]
        text = f"width {arch.width}, depth {arch.depth}, heads {arch.heads}, patch {arch.patch_size}, input "
        text += f"{arch.image_size[0]}x{arch.image_size[1]}, {arch.channels} channel(s), method {self.method}"
        return ", ".join([text, *extras])

    def statistics_words(self) -> str:
        """Return what pixels are normalised with, and whether anybody said so."""
        words = " and ".join(
            f"{name} {', '.join(f'{value:.4g}' for value in values)}"
            for name, values in (("mean", self.mean), ("std", self.std))
        )
        if not self.assumed_statistics:
            return f"pixels in 0..1 are normalised with {words}"
        return (
            f"pixels in 0..1 are normalised with {words}: what is usual for {self.method}, since the file states none; "
            "if its makers say others, set --mean and --std"
        )

    def summary(self) -> str:
        """Return a sentence on what it is."""
        arch = self.arch
        return (
            f"Encoder: ViT of width {arch.width} and depth {arch.depth}, patches of {arch.patch_size} px, "
            f"{self.input_words()}; trained by {self.method}."
        )

    def input_facts(self) -> dict[str, Any]:
        """Return what goes with the weights: input, normalisation and method."""
        return super().input_facts() | {"method": self.method}


def _mlp_words(arch: Architecture) -> str:
    gates = {"silu": "SwiGLU", "gelu": "GeGLU", "gelu_tanh": "GeGLU (tanh)"}
    return gates.get(arch.activation, f"gated {arch.activation}") if arch.gated_mlp else f"activation {arch.activation}"
