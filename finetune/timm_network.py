"""Networks of timm by their names, made for an input size and a number of channels."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..core.errors import UserError

# What a network's own settings may name that is no plain value (UNI2-h, Virchow2): timm's layer, PyTorch's activation.
PARTS = {"SwiGLUPacked": "timm.layers", "SiLU": "torch.nn"}
# What belongs to the input or the last layer, which a recipe decides, or says where weights lie.
NOT_SETTINGS = (
    "num_classes", "in_chans", "img_size", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path",
    "cache_dir", "features_only", "scriptable", "exportable", "no_jit", "device", "dtype",
)  # fmt: skip


def make_network(
    name: str, channels: int, image_size: tuple[int, int] | None, outputs: int,
    settings: Mapping[str, Any] | None = None,
) -> nn.Module:  # fmt: skip
    """Return a network of timm, weights random.

    Args:
        name: timm's name, such as `swin_tiny_patch4_window7_224`.
        channels: Input channels.
        image_size: Height and width, pixels, for networks that are made for one size; None for the one of its name.
        outputs: Outputs of its own last layer; 0 for none.
        settings: Of `timm.create_model` beside these.

    Raises:
        ValueError: timm knows no such network, or it takes no such input.
    """
    import timm

    check_name(name)
    check_settings(settings or {})
    options: dict[str, Any] = {"num_classes": outputs, "in_chans": channels}
    options |= {key: _part(value) for key, value in (settings or {}).items()}
    own = native_size(name)
    if image_size is not None and own is not None and own != tuple(image_size):
        options["img_size"] = tuple(image_size)
    try:
        return timm.create_model(name, pretrained=False, **options)
    except UserError:
        raise  # of what bounds the size of a network
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        size = f" of {image_size[0]} x {image_size[1]} px and {channels} channel(s)" if image_size is not None else ""
        raise ValueError(f"network {name!r}: cannot be made for input{size} ({_words(error)}){_advice(own)}") from None


def check_name(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ValueError: With the nearest that it knows.
    """
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=1, cutoff=0.5)
        near = f", did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"timm knows no network {name!r}{near}; `network` is `vit` or a timm name such as resnet18")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that are no plain values, as files of strangers state them.

    Raises:
        ValueError: Says which.
    """
    for key, value in settings.items():
        each = value if isinstance(value, list | tuple) else [value]
        if key in NOT_SETTINGS or not all(isinstance(one, bool | int | float | None) or _is_word(one) for one in each):
            raise ValueError(f"{key} {value!r}: numbers, plain words and {', '.join(PARTS)} are settings, nothing else")


def native_size(name: str) -> tuple[int, int] | None:
    """Return height and width that a network is made for, pixels; None where it takes any."""
    import timm

    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None or not known.fixed_input_size:
        return None
    return tuple(known.input_size[1:])


def refused(name: str, image_size: Sequence[int], error: Exception) -> ValueError:
    """Return what is wrong where a network fails over its input."""
    size = f"{image_size[0]} x {image_size[1]} px"
    return ValueError(f"network {name!r}: takes no input of {size} ({_words(error)}){_advice(_usual_size(name))}")


def _usual_size(name: str) -> tuple[int, int] | None:
    import timm

    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return None if known is None else tuple(known.input_size[1:])


def _advice(size: tuple[int, int] | None) -> str:
    if size is None:
        return ". Choose another input size (--model.image_size, --augment.size)."
    return f". It was made for {size[0]} px: set --model.image_size {size[0]} --augment.size {size[0]}."


def _part(value: Any) -> Any:
    """Return the class that a setting names, or the setting itself; lists are tuples there."""
    import importlib

    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and value in PARTS:
        return getattr(importlib.import_module(PARTS[value]), value)
    return value


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and (value in PARTS or re.fullmatch(r"[a-z0-9_]*", value) is not None)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
