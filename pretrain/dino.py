"""DINO: a student learns to say of every crop what its own moving average, the teacher, says of the two large ones.

Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers". Parameter names of the head are those
of the official files.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.vit import ViT
from ..backbone.weights import State
from .dinov2 import masked_patches
from .parts import take_part
from .recipe import Head, Ibot


class NormedLinear(nn.Module):
    """A linear layer without bias whose rows have the length `weight_g` (weight normalisation).

    Args:
        width: Channels in.
        out_dim: Channels out K.
        fixed: The lengths stay 1.
    """

    def __init__(self, width: int, out_dim: int, fixed: bool):
        super().__init__()
        # PyTorch's start of a linear layer.
        bound = 1 / math.sqrt(width)
        self.weight_v = nn.Parameter(torch.empty(out_dim, width).uniform_(-bound, bound))
        self.weight_g = nn.Parameter(torch.ones(out_dim, 1), requires_grad=not fixed)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width) to (B, K)."""
        return F.linear(x, self.weight_g * F.normalize(self.weight_v, dim=1))


class DinoHead(nn.Module):
    """Projection head: three layers to a bottleneck of unit length, then K prototypes of unit length (Appendix C).

    Args:
        width: Channels of the encoder.
        head: Sizes.
    """

    def __init__(self, width: int, head: Head):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, head.hidden), nn.GELU(), nn.Linear(head.hidden, head.hidden), nn.GELU(),
            nn.Linear(head.hidden, head.bottleneck),
        )  # fmt: skip
        _normal_start(self.mlp)
        self.last_layer = NormedLinear(head.bottleneck, head.out_dim, head.norm_last_layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D) class tokens to (B, K) logits."""
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


class Views(NamedTuple):
    """What a network says of crops, crop by crop: all images' first crop, then all images' second one, ...

    Attributes:
        cls: (V*B, D) class tokens.
        logits: (V*B, K).
        patches: (M, K) logits of the masked patch tokens, image by image; None where none were asked for.
    """

    cls: Tensor
    logits: Tensor
    patches: Tensor | None = None


class DinoNetwork(nn.Module):
    """Encoder and head; student and teacher are one each.

    Args:
        encoder: A ViT with class token.
        head: Sizes of the head.
        ibot: Masked patch tokens; None for DINO alone.
    """

    def __init__(self, encoder: ViT, head: Head, ibot: Ibot | None = None):
        super().__init__()
        if encoder.cls_token is None:
            raise ValueError("DINO learns by the class token: set model.class_token true")
        self.encoder, self.head = encoder, DinoHead(encoder.arch.width, head)
        _normal_start(encoder)
        encoder.patch_embed.proj.reset_parameters()
        if ibot is not None:
            self.mask_token = nn.Parameter(torch.zeros(1, encoder.arch.width))
            self.patch_head = DinoHead(encoder.arch.width, head) if ibot.separate_head else None

    def forward(self, crops: Sequence[Tensor], masked: Tensor | None = None, hide: bool = False) -> Views:
        """Map normalised crops (V*B, C, S, S), crop by crop, a tensor for each size: each goes through in one pass.

        Args:
            crops: The large crops first.
            masked: (2*B, N) bool: patch tokens of the large crops that are asked for.
            hide: These patches are not seen (the student), else they are (the teacher).
        """
        if masked is None:
            cls = torch.cat([self.encoder(same_size).cls for same_size in crops])
            return Views(cls, self.head(cls))
        with masked_patches(self.encoder, masked, self.mask_token) if hide else nullcontext():
            large = self.encoder(crops[0])
        cls = torch.cat([large.cls, *(self.encoder(same_size).cls for same_size in crops[1:])])
        head = self.head if self.patch_head is None else self.patch_head
        return Views(cls, self.head(cls), head(large.patches[masked]))

    def heads(self) -> list[DinoHead]:
        """Return the heads, that of the patches too where it is another."""
        own = getattr(self, "patch_head", None)
        return [self.head] if own is None else [self.head, own]


class DinoLoss(nn.Module):
    """Cross-entropy between the teacher's view of one large crop and the student's of every other crop (eq. 1 to 4).

    Args:
        out_dim: Prototypes K.
        student_temp: Temperature of the student.
        centre_momentum: Share of the old centre that stays in an update.
    """

    def __init__(self, out_dim: int, student_temp: float, centre_momentum: float):
        super().__init__()
        self.student_temp, self.centre_momentum = student_temp, centre_momentum
        self.center: Tensor
        self.register_buffer("center", torch.zeros(1, out_dim))  # the official files' name

    def forward(self, student: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            student: (V*B, K) logits of V crops, crop by crop, the two large ones first.
            targets: (2, B, K) of `targets`.
        """
        scaled = (student.float() / self.student_temp).unflatten(0, (-1, targets.shape[1]))
        crops = len(scaled)
        # As each target sums to 1, -target . log_softmax(s) = logsumexp(s) - target . s, and targets need not be paired
        # with every crop: sums over crops do, less the pairs of a crop with itself.
        normaliser = scaled.logsumexp(dim=-1)
        agreement = (targets.sum(0) * scaled.sum(0)).sum(-1) - (targets * scaled[:2]).sum((0, -1))
        total = 2 * normaliser.sum(0) - normaliser[:2].sum(0) - agreement
        return total.mean() / (2 * (crops - 1))

    @torch.no_grad()
    def targets(self, teacher: Tensor, teacher_temp: float) -> Tensor:
        """Return (2, B, K) centred, sharpened probabilities of the teacher's logits (2*B, K) of the large crops."""
        return self.centred(teacher, teacher_temp).unflatten(0, (2, -1))

    @torch.no_grad()
    def centred(self, teacher: Tensor, teacher_temp: float) -> Tensor:
        """Return centred, sharpened probabilities (M, K) of logits."""
        return ((teacher.float() - self.center) / teacher_temp).softmax(dim=-1)

    @torch.no_grad()
    def update_centre(self, mean: Tensor) -> None:
        """Move the centre towards the mean (1, K) of the teacher's logits over the whole batch (eq. 4)."""
        self.center.lerp_(mean.to(self.center), 1 - self.centre_momentum)


def teacher_temperature(epoch: float, warm: float, final: float, warmup: int) -> float:
    """Return the teacher's temperature at a fractional epoch: linear from `warm` to `final` at epoch `warmup` - 1.

    At whole epochs it has the values of the official code, which is constant within an epoch.
    """
    if warmup <= 1:
        return warm if epoch < warmup else final
    return warm + (final - warm) * min(1.0, epoch / (warmup - 1))


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher: teacher = momentum * teacher + (1 - momentum) * student."""
    for kept, learned in zip(teacher.parameters(), student.parameters(), strict=True):
        kept.lerp_(learned, 1 - momentum)


def load_head(network: DinoNetwork, state: State) -> str:
    """Set the head from a whole checkpoint where that has one of the same sizes; return what became of it, in words.

    Args:
        network: The student, before its teacher is copied from it.
        state: From `whole_state`.
    """
    parts = ("head.mlp.", "head.last_layer.", "patch_head.", "mask_token")
    found = {name: value for name, value in state.items() if name.startswith(parts)}
    if not any(name.startswith("head.") for name in found):
        found = {}  # a mask token alone is DINOv2's backbone
    elif not hasattr(network, "mask_token"):
        found = {name: value for name, value in found.items() if name.startswith("head.")}
    own = [name for name in network.state_dict() if not name.startswith("encoder.")]
    return take_part(network, found, own)


def _normal_start(module: nn.Module) -> None:
    """Set DINO's random start of linear layers: normal, standard deviation 0.02, cut off; zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
