"""Folders that timm writes for its hub (`config.json` names the network), and networks of timm without weights."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...core.documents import read_json
from ...core.errors import UserError
from .hugging_face import numbers
from .timm_network import ACTIVATIONS, timm_fields

BESIDE, FACTS = "timm.json", "clinvit.json"
# What a folder may add to the network that it names. Sizes are read from the tensors, the rest changes no features.
SWITCHES = {"class_token", "reg_tokens", "no_embed_class", "pre_norm", "init_values", "global_pool", "fc_norm",
            "qk_norm", "dynamic_img_size"}  # fmt: skip
OF_SHAPES = {"img_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "patch_size", "in_chans",
             "drop_path_rate", "drop_rate", "act_layer", "mlp_layer", "features_only", "qkv_bias", "weight_init",
             "dynamic_img_pad", "pretrained_strict", "scale_attn_norm", "scale_mlp_norm"}  # fmt: skip


def is_timm(config: dict) -> bool:
    """Return whether a config.json is timm's."""
    return isinstance(config.get("architecture"), str) and "model_type" not in config


def config_beside(path: Path) -> dict | None:
    """Return what our export to timm wrote beside its weights, as a folder of timm says it; None where there is none.

    Raises:
        UserError: It is damaged.
    """
    if path.name != "model.safetensors" or not (path.parent / BESIDE).is_file():
        return None
    found = read_json(path.parent / BESIDE, remedy="Export the model again.")
    if not isinstance(found.get("name"), str):
        raise UserError(f"{path.parent / BESIDE}: names no network of timm. Export the model again.")
    config = {"architecture": found["name"], "model_args": found.get("arguments")}
    if (path.parent / FACTS).is_file():
        facts = read_json(path.parent / FACTS, remedy="Export the model again.")
        config |= {name: facts[name] for name in ("mean", "std") if name in facts}
    return config


def empty_network(name: str, **options) -> nn.Module:
    """Return a network of timm without weights (on the meta device): what it is, not what it knows.

    Args:
        name: timm's, with or without `timm:`.
        options: Of `timm.create_model`.

    Raises:
        UserError: timm knows no such network.
    """
    import timm

    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    short = name.removeprefix("timm:").split(".")[0]
    if not timm.is_model(short):
        import difflib

        near = difflib.get_close_matches(short, timm.list_models(), 1)
        hint = f"did you mean {near[0]}?" if near else "`timm.list_models('*vit*')` names some."
        raise UserError(f"timm knows no network {name!r}; {hint}")
    with torch.device("meta"):
        return timm.create_model(short, pretrained=False, num_classes=0, **options)


def read_config(path: Path, config: dict) -> tuple[nn.Module, dict[str, Any], dict[str, tuple[float, ...]]]:
    """Return the network that a folder of timm names, without weights, its `Architecture` fields, mean and std.

    Raises:
        UserError: It is damaged, or asks for parts that our ViT has not.
    """
    given = config.get("model_args") or {}
    if not isinstance(given, dict):
        raise UserError(f"{path}: model_args is no mapping. Copy or download it again.")
    if unknown := given.keys() - SWITCHES - OF_SHAPES:
        raise UserError(f"{path}: model_args {min(unknown)!r} is not understood, so the network is not made by guess.")
    if not all(isinstance(value, bool | int | float | str) or value is None for value in given.values()
               if not isinstance(value, list)):  # fmt: skip
        raise UserError(f"{path}: model_args are plain values. Copy or download it again.")
    options = {name: value for name, value in given.items() if name in SWITCHES}
    if not 0 <= int(options.get("reg_tokens") or 0) <= 1000:
        raise UserError(f"{path}: {options['reg_tokens']} registers. Copy or download it again.")
    network = empty_network(config["architecture"], **options)
    fields = timm_fields(network)
    fields |= _stated(path, given, fields)
    settings = config.get("pretrained_cfg") or config
    size = settings.get("input_size") or given.get("img_size")
    size = size[1:] if isinstance(size, list) and len(size) == 3 else size
    fields.pop("image_size")
    if size:
        fields["image_size"] = (size, size) if isinstance(size, int) else tuple(size)
    statistics = {name: numbers(path, settings[name]) for name in ("mean", "std") if settings.get(name)}
    return network, fields, statistics


def _stated(path: Path, given: dict, fields: dict) -> dict[str, Any]:
    """Return the fields that a folder's own arguments say, in place of those of the network that it names."""
    stated: dict[str, Any] = {}
    if isinstance(given.get("num_heads"), int):
        stated["heads"] = given["num_heads"]
    if "act_layer" in given:
        names = {name.lower(): ours for name, ours in ACTIVATIONS.items()} | {"gelu_tanh": "gelu_tanh",
                                                                            "quick_gelu": "quick_gelu"}  # fmt: skip
        if str(given["act_layer"]).lower() not in names:
            raise UserError(f"{path}: act_layer {given['act_layer']!r} is not understood.")
        stated["activation"] = names[str(given["act_layer"]).lower()]
    return stated
