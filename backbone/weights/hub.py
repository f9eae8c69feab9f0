"""Networks that timm fetches from its hub, only because the user named them."""

import os
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...core.errors import UserError, about
from ..vit import ViT
from .architecture import architecture_of
from .checkpoint import Checkpoint
from .fit import set_weights
from .layout import one_layout
from .recognise import Named
from .report import LoadReport
from .timm import TIMM
from .timm_network import timm_fields, timm_state


def is_timm_name(source: str) -> bool:
    """Return whether `timm:NAME` or `hf-hub:OWNER/NAME` is meant, and not a file."""
    return source.startswith(("timm:", "hf-hub:"))


def fetch_network(source: str, **options) -> nn.Module:
    """Make a network of timm with its published weights, fetched from its hub unless they are kept already.

    Args:
        source: `timm:NAME`, or `hf-hub:OWNER/NAME`.
        options: Of `timm.create_model`.

    Raises:
        UserError: timm knows no such network, or the weights cannot be had.
    """
    import timm

    # Older timm asks for whole pickles in some paths; nothing in a weight file may run.
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    name = source.removeprefix("timm:")
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        raise UserError(f"{source}: timm knows no such network; `timm.list_models('*vit*')` names some.")
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # The hub's client raises a dozen kinds, all of which mean the same here.
        raise UserError(
            f"{source}: the weights could not be had ({' '.join(str(error).split())[:200]}). Without a network, put "
            "them into the hub's cache before, or give a checkpoint file instead (--encoder, --weights)."
        ) from None


def fetch_vit(source: str) -> tuple[ViT, Checkpoint, LoadReport]:
    """Return the ViT that a timm name stands for, as one of ours: on the same noise both give the same.

    Args:
        source: As of `fetch_network`.

    Raises:
        UserError: It cannot be had, or is no ViT, or computes something that ours does not.
    """
    from timm.data import resolve_model_data_config

    network = fetch_network(source, num_classes=0).eval()
    settings = resolve_model_data_config(network)
    with about(source):
        vit, named, report = vit_of(network)
    mean, std = (tuple(settings[name]) for name in ("mean", "std"))
    return vit, Checkpoint(named, vit.arch, mean, std), report


def vit_of(network: nn.Module) -> tuple[ViT, Named, LoadReport]:
    """Return a ViT of ours that computes what a ViT of timm computes, its tensors, and what became of them.

    Raises:
        UserError: It has parts that ours has not, which are named, or does not compute the same.
    """
    fields = timm_fields(network)
    adapted: list[str] = []
    state, shown = one_layout(timm_state(network), adapted)
    named = Named(replace(TIMM, fields={}), state, adapted, shown)
    arch = architecture_of(named, **fields)
    vit = ViT(arch, final_norm="norm.weight" in state).eval()
    report = set_weights(vit, named, arch.grid)
    if not _same(vit, network):
        raise UserError("has parts that our ViT has not (another norm, activation or position): not converted.")
    return vit, named, report


@torch.inference_mode()
def _same(vit: ViT, network: Any) -> bool:
    """Return whether both give the same tokens of one image of noise, within what float32 rounds away."""
    arch = vit.arch
    height, width = (max(own, given) for own, given in zip(arch.image_size, network.patch_embed.img_size))
    x = torch.randn(1, arch.channels, height, width, generator=torch.Generator().manual_seed(0))
    ours, theirs = vit(x[..., : arch.image_size[0], : arch.image_size[1]]), network.forward_features(x)
    theirs = torch.cat([theirs[:, : int(arch.class_token)], theirs[:, arch.tokens_before :]], dim=1)
    return bool((ours.sequence() - theirs).abs().max() <= 1e-3 * theirs.abs().max())
