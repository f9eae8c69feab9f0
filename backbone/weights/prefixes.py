"""Which names in a file are the ViT's: what stands before them, such as `module.teacher.backbone.`, is taken off."""

import re
from collections.abc import Mapping

from torch import Tensor

from ...core.errors import UserError

# By the projection of the patches a ViT is known: its names in the official codes, timm, transformers and CLIP.
PROJECTIONS = (
    "patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight", "embeddings.patch_embeddings.weight",
    "embeddings.patch_embeddings.proj.weight", "embeddings.patch_embedding.weight", "conv1.weight",
)  # fmt: skip
# Of two networks that teach each other, the slow one is kept.
SLOW = ("teacher", "ema", "target", "momentum", "shadow")


def without_prefix(state: Mapping[str, Tensor], prefix: str | None = None) -> dict[str, Tensor]:
    """Return a state dict whose ViT's names begin with nothing.

    Of other names (a head, a decoder) as much of the prefix is taken off as they have.

    Args:
        state: Names and tensors.
        prefix: What stands before the ViT's names, with or without its last point; None to find it.

    Raises:
        UserError: There is no ViT behind the prefix, or there are several and nothing says which to take.
    """
    found = prefixes(state)
    if prefix is not None:
        prefix = prefix + "." if prefix and not prefix.endswith(".") else prefix
        if prefix not in found:
            known = ", ".join(each or '""' for each in found) or "none"
            raise UserError(f"--prefix {prefix or chr(34) * 2}: no ViT behind it; the checkpoint has these: {known}.")
    else:
        prefix = _best(found)
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    for name, value in state.items():
        if not name.startswith(prefix):
            short = _without_common(name, prefix)
            inside[name if short in inside else short] = value
    return inside


def prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """Return what stands before the names of each ViT in a state dict, in their order."""
    found: dict[str, None] = {}
    for name in state:
        for projection in PROJECTIONS:
            before = name.removesuffix(projection)
            if before == name or (before and not before.endswith(".")):
                continue
            # Other networks than CLIP's ViT start with a `conv1` as well.
            if projection != "conv1.weight" or f"{before}class_embedding" in state:
                found[before] = None
    return list(found)


def _best(found: list[str]) -> str:
    if len(found) < 2:
        return found[0] if found else ""
    slow = [each for each in found if any(part in SLOW for part in re.split(r"[._]", each))]
    if len(slow) != 1:
        named = ", ".join(each or '""' for each in found)
        raise UserError(f"the checkpoint holds several ViTs, behind {named}: say which with --prefix.")
    return slow[0]


def _without_common(name: str, prefix: str) -> str:
    """Return a name without the parts of the prefix that it begins with too."""
    for part in prefix.split(".")[:-1]:
        if not name.startswith(f"{part}."):
            break
        name = name.removeprefix(f"{part}.")
    return name
