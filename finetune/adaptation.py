"""Which weights of an encoder fine-tuning trains: all, none, norms, biases, low-rank updates, the last blocks.

What is new (pooling, norm, linear layer) is always trained.
"""

import re
from typing import cast

from timm.layers import RmsNorm
from torch import nn

from ..backbone.sizes import LARGEST, Architecture
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..core.extras import require
from .classifier import TimmClassifier
from .context_head import check_contexts
from .multiscale import check_scales
from .recipe import OWN, Finetune
from .sphere import check_sphere
from .timm_weights import heads_of, is_head

# The encoder gives features as it is; nothing in it learns.
FROZEN = ("linear", "attentive", "knn")
# Some of the encoder's weights learn, in the place where `full` would train all of them.
PARTLY = ("norm", "bitfit", "lora", "last_blocks")
MODES = ("full", *FROZEN, *PARTLY)
# Of each block the matmuls of the attention: query, key and value in one, and what joins the heads.
LORA_TARGETS = r"blocks\.\d+\.attn\.(qkv|proj)"
# Of a network of timm the first of these that it has: matmuls of attention, any others, convolutions.
ATTENTION = re.compile(r"attn")
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, RmsNorm)


def check_mode(recipe: Finetune, with_encoder: bool) -> None:
    """Refuse methods of adapting that do not apply, and settings of other methods.

    Args:
        recipe: The resolved recipe.
        with_encoder: Whether the ViT starts from an encoder.

    Raises:
        UserError: Says which and what to do.
    """
    if recipe.mode not in MODES:
        raise UserError(f"mode is {', '.join(MODES[:-1])} or {MODES[-1]}, not {recipe.mode!r}.")
    if recipe.mode != "full" and (recipe.network == OWN or (recipe.network != "vit" and recipe.model.frames > 1)):
        raise UserError(
            f"network {recipe.network!r} is trained whole (--mode full); mode {recipe.mode!r} is for vit and networks "
            "of timm."
        )
    if recipe.stem and (recipe.network != "vit" or recipe.mode != "full"):
        raise UserError(
            f"stem adds convolutions to a ViT that is trained whole, not to network {recipe.network!r} in mode "
            f"{recipe.mode!r}: leave it out."
        )
    if recipe.mode == "last_blocks" and recipe.network != "vit":
        raise UserError(f"mode 'last_blocks' is for vit; of network {recipe.network!r} train lora, norm or bitfit.")
    if recipe.mode != "full" and not with_encoder:
        raise UserError(
            f"mode {recipe.mode!r} keeps weights of an encoder, and random ones are not worth it: give one with "
            "--encoder, or train all with --mode full."
        )
    if recipe.mode == "attentive" and recipe.pool != "attention":
        raise UserError(f"mode 'attentive' trains the pooling: set --pool attention, not {recipe.pool!r}.")
    if recipe.network != "vit" and len(recipe.scales) > 1 and recipe.pool == "attention":
        raise UserError(f"scales {list(recipe.scales)} of network {recipe.network!r} go with --pool mean.")
    if recipe.mode == "linear" and recipe.pool == "attention":
        raise UserError("mode 'linear' trains the linear layer alone; --mode attentive trains pool 'attention' too.")
    for name, mode in (("lora_rank", "lora"), ("lora_alpha", "lora"), ("last_blocks", "last_blocks")):
        if getattr(recipe, name) is not None and recipe.mode != mode:
            raise UserError(
                f"{name} {getattr(recipe, name):g} is for mode {mode!r}, not {recipe.mode!r}: leave it out."
            )
    check_contexts(recipe)
    check_sphere(recipe)
    check_scales(recipe.scales)
    if len(recipe.scales) > 1:
        _check_several_scales(recipe)


def _check_several_scales(recipe: Finetune) -> None:
    scales = f"scales {list(recipe.scales)}"
    if recipe.mode not in FROZEN:
        raise UserError(f"{scales} are for a frozen encoder (mode {', '.join(FROZEN)}), not for mode {recipe.mode!r}.")
    if recipe.model.frames > 1:
        raise UserError(f"{scales} are for images, not for clips: leave them out.")
    if recipe.patch_drop:
        raise UserError(f"{scales} need all patches: set --patch_drop 0, not {recipe.patch_drop:g}.")


def check_numbers(recipe: Finetune, arch: Architecture) -> None:
    """Refuse numbers of a mode that are missing or that the encoder has no room for.

    Raises:
        UserError: Says which and what to do.
    """
    widest = arch.width if recipe.network == "vit" else LARGEST
    for mode, name, most in (("lora", "lora_rank", widest), ("last_blocks", "last_blocks", arch.depth)):
        if recipe.mode == mode and not 1 <= (getattr(recipe, name) or 0) <= most:
            raise UserError(
                f"mode {mode!r} needs --{name}, 1 to {most} with this encoder, not {getattr(recipe, name)}."
            )


def adapt(model: nn.Module, recipe: Finetune) -> tuple[int, int]:
    """Train only the parameters of the mode; called when the encoder's weights are loaded.

    `norm`: weights and biases of the encoder's norms. `bitfit`: its biases (Ben Zaken et al. 2022). `lora`: low-rank
    updates of its attention (Hu et al. 2022), to be merged by `merge_lora`; of networks without attention, of their
    other matmuls or their convolutions. `last_blocks`: its last blocks and its final norm. Of a network of timm its
    own last layer is trained, too.

    Returns:
        How many parameters are trained, and of how many.
    """
    if recipe.mode in PARTLY:
        encoder = model.network if isinstance(model, TimmClassifier) else cast(ViT, model.encoder)
        encoder.requires_grad_(False)
        if recipe.mode == "norm":
            for part in encoder.modules():
                if isinstance(part, NORMS):
                    part.requires_grad_(True)
        elif recipe.mode == "bitfit":
            for name, parameter in encoder.named_parameters():
                parameter.requires_grad_(name.endswith(".bias"))
        elif recipe.mode == "lora":
            assert recipe.lora_rank is not None, "the recipe asks for it"
            targets = lora_layers(encoder, recipe.network) if isinstance(model, TimmClassifier) else LORA_TARGETS
            add_lora(encoder, recipe.lora_rank, recipe.lora_alpha or recipe.lora_rank, targets)
        else:
            assert recipe.last_blocks is not None, "the recipe asks for it"
            encoder.blocks[-recipe.last_blocks :].requires_grad_(True)
            encoder.norm.requires_grad_(True)
        if isinstance(model, TimmClassifier):
            for name, parameter in encoder.named_parameters():
                if is_head(model, name):
                    parameter.requires_grad_(True)
    # What is frozen goes into eval mode here (`Classifier.train`): Lightning keeps the modes that it finds.
    model.train()
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trained in counts if trained), sum(count for count, _ in counts)


def add_lora(encoder: nn.Module, rank: int, alpha: float, targets: str | list[str] = LORA_TARGETS) -> None:
    """Add an update B A, times alpha / rank, to some layers; B is 0, so nothing changes yet.

    Args:
        encoder: The network.
        rank: r of the updates.
        alpha: Their scale times r.
        targets: A pattern of the layers' names, or their names; the attention's matmuls of a ViT of ours.

    Raises:
        UserError: peft is not installed, or cannot update these layers.
    """
    peft = require("peft", "lora", "mode 'lora'")
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), encoder)
    except ValueError as error:
        raise UserError(f"mode 'lora': not for this network ({' '.join(str(error).split())[:120]}).") from None


def lora_layers(network: nn.Module, name: str) -> list[str]:
    """Return the names of the layers of a timm network that `lora` updates; its last layer is trained whole.

    Raises:
        UserError: It has none.
    """
    heads = heads_of(network)
    layers = [(at, part) for at, part in network.named_modules() if at not in heads]
    linear = [at for at, part in layers if type(part) is nn.Linear]
    convolutions = [at for at, part in layers if type(part) is nn.Conv2d and part.groups == 1]
    found = [at for at in linear if ATTENTION.search(at)] or linear or convolutions
    if not found:
        raise UserError(f"network {name!r}: has no layer for mode 'lora': take --mode norm or full.")
    return found


def merge_lora(model: nn.Module) -> nn.Module:
    """Merge the updates into the weights: the same function under the names of a plain ViT."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    return model
