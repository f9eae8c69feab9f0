"""Structured pruning: heads and hidden units with the least scores leave; what is left is a smaller dense ViT.

A weight's score is that of DIMAP (He & Zhou, "Data-independent Module-aware Pruning for Hierarchical Vision
Transformers", ICLR 2024): its square over the sum of the squares of those weights of the same module, over the whole
network, that are not smaller in magnitude. Modules are queries, keys and values; what joins the heads; the MLPs. The
paper drops single weights, which saves nothing without sparse matmuls: here the score of a head or of a hidden unit is
the sum over its weights. No data are needed; what was lost is fine-tuned afterwards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..backbone.card import EncoderCard
from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..finetune.model import ModelCard
from .idle import with_weights


@dataclass(frozen=True)
class Kept:
    """What is left of each block.

    Attributes:
        heads: (h,) ids of the attention heads per block, rising.
        hidden: (f,) ids of the MLP's hidden units per block, rising.
    """

    heads: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]


def module_scores(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the scores of all weights of one module, in float64.

    Args:
        weights: Its matrices, of whatever shapes.
    """
    squares = torch.cat([weight.detach().double().cpu().flatten() for weight in weights]).square()
    rising = squares.sort().values
    # The sum from each on to the largest; of equal ones all count, being not smaller.
    sums = rising.flip(0).cumsum(0).flip(0)
    scores = squares / sums[torch.searchsorted(rising, squares)].clamp(min=torch.finfo(torch.float64).tiny)
    return [
        part.view(weight.shape)
        for part, weight in zip(scores.split([weight.numel() for weight in weights]), weights, strict=True)
    ]


def head_scores(vit: ViT) -> list[Tensor]:
    """Return the scores (heads,) of each block's attention heads."""
    attns = [block.attn for block in vit.blocks]
    given = module_scores([attn.qkv.weight for attn in attns])
    joined = module_scores([attn.proj.weight for attn in attns])
    return [
        qkv.unflatten(0, (3, attn.num_heads, -1)).sum(dim=(0, 2, 3))
        + proj.unflatten(1, (attn.num_heads, -1)).sum((0, 2))
        for qkv, proj, attn in zip(given, joined, attns, strict=True)
    ]


def hidden_scores(vit: ViT) -> list[Tensor]:
    """Return the scores (units,) of each block's hidden units; of a gated MLP both halves of a unit count."""
    mlps = [block.mlp for block in vit.blocks]
    shortcuts = [mlp.shortcut.weight for mlp in mlps] if vit.arch.mlp_shortcut else []
    scores = module_scores([*(mlp.fc1.weight for mlp in mlps), *(mlp.fc2.weight for mlp in mlps), *shortcuts])
    return [
        scores[place].sum(dim=1).unflatten(0, (-1, mlp.fc2.in_features)).sum(dim=0)
        + scores[len(mlps) + place].sum(dim=0)
        for place, mlp in enumerate(mlps)
    ]


def ranked(scores: Sequence[Tensor], share: float) -> tuple[Tensor, ...]:
    """Return the ids that each block keeps, one at least, when the share of least score over all blocks leaves."""
    flat = torch.cat(list(scores))
    gone = torch.zeros(len(flat), dtype=torch.bool)
    gone[flat.argsort(stable=True)[: math.floor(round(share * len(flat), 6))]] = True
    kept = []
    for score, dropped in zip(scores, gone.split([len(score) for score in scores]), strict=True):
        ids = (~dropped).nonzero().flatten()
        kept.append(ids if len(ids) else score.argmax().unsqueeze(0))
    return tuple(kept)


def choose_kept(vit: ViT, heads: float, hidden: float) -> Kept:
    """Return what is kept of a ViT without the given shares of heads and of hidden units.

    Args:
        vit: Whose idle units, if any, are merged.
        heads: Share of all attention heads that leaves, in 0..1.
        hidden: Share of all hidden units.

    Raises:
        UserError: Of such a ViT nothing can leave without a change of the rest.
    """
    arch = vit.arch
    if arch.block_active:
        raise UserError("merge its idle units first: `clinvit export FOLDER --merge --out NEW`.")
    for asked, what, true in (
        (hidden, "hidden units are normed together", arch.mlp_norm),
        (heads, "heads are normed together", arch.attention_norm),
        (heads, "heads have positions of their own", arch.rotary is not None and arch.rotary.kind == "mixed"),
    ):
        if asked and true:
            raise UserError(f"cannot be pruned: its {what}.")
    return Kept(ranked(head_scores(vit), heads), ranked(hidden_scores(vit), hidden))


def pruned_architecture(arch: Architecture, kept: Kept) -> Architecture:
    """Return the architecture of what is kept; a field stays empty where nothing leaves."""
    heads, hidden = (tuple(map(len, part)) for part in (kept.heads, kept.hidden))
    before = (tuple(f(block) for block in range(arch.depth)) for f in (arch.heads_of, arch.hidden_of))
    fewer = [now != then for now, then in zip((heads, hidden), before, strict=True)]
    return replace(
        arch,
        block_heads=heads if fewer[0] else arch.block_heads,
        block_hidden=hidden if fewer[1] else arch.block_hidden,
    )


def pruned_state(state: Mapping[str, Tensor], arch: Architecture, kept: Kept, prefix: str = "") -> dict[str, Tensor]:
    """Return the state dict of what is kept.

    Args:
        state: Of the network.
        arch: Of its ViT, before.
        kept: As of `choose_kept`.
        prefix: Of the names of the ViT's tensors.
    """
    new = dict(state)
    channels = arch.width // arch.heads
    for block, (heads, hidden) in enumerate(zip(kept.heads, kept.hidden, strict=True)):
        at, count, units = f"{prefix}blocks.{block}.", arch.heads_of(block), arch.hidden_of(block)
        own = (heads.unsqueeze(1) * channels + torch.arange(channels)).flatten()
        qkv = torch.cat([own + part * count * channels for part in range(3)])
        fc1 = torch.cat([hidden, hidden + units]) if arch.gated_mlp else hidden
        for name, ids, axis in (
            ("attn.qkv.weight", qkv, 0), ("attn.qkv.bias", qkv, 0), ("attn.proj.weight", own, 1),
            ("mlp.fc1.weight", fc1, 0), ("mlp.fc1.bias", fc1, 0), ("mlp.fc2.weight", hidden, 1),
        ):  # fmt: skip
            if f"{at}{name}" in state:
                new[f"{at}{name}"] = state[f"{at}{name}"].index_select(axis, ids.to(state[f"{at}{name}"].device))
    return new


def prune(
    network: nn.Module, card: ModelCard | EncoderCard, heads: float, hidden: float
) -> tuple[nn.Module, ModelCard | EncoderCard]:
    """Return a network in eval mode without the heads and hidden units of least score, and its card.

    Args:
        network: A classifier or a ViT of ours.
        card: Its card.
        heads: Share of the heads that leaves.
        hidden: Share of the hidden units that leaves.

    Raises:
        UserError: As of `choose_kept`.
    """
    is_encoder = isinstance(network, ViT)
    kept = choose_kept(network if is_encoder else network.encoder, heads, hidden)
    state = pruned_state(network.state_dict(), card.arch, kept, "" if is_encoder else "encoder.")
    card = replace(card, arch=pruned_architecture(card.arch, kept))
    return with_weights(network, card, state), card
