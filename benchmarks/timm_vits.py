"""Try every Vision Transformer of timm by its name and write what becomes of it to docs/timm_vits.md.

`python benchmarks/timm_vits.py` takes some minutes on a CPU and fetches nothing. Each network is made small (the same
parts, width 96, two blocks, 4 x 4 patches) with random weights, brought to a ViT of ours, and compared with it at that
size and at 3 x 6 patches. What cannot be made small is only looked at, without weights.
"""

import textwrap
import warnings
from pathlib import Path

import timm
import torch
from clinvit.backbone.weights.hub import vit_of
from clinvit.backbone.weights.timm_folder import empty_network
from clinvit.backbone.weights.timm_network import timm_fields
from clinvit.core.errors import UserError
from torch import nn

PAGE = Path(__file__).resolve().parents[1] / "docs/timm_vits.md"
# timm's modules of Vision Transformers, hybrids and windowed ones among them.
MODULES = (
    "vision_transformer", "eva", "deit", "beit", "vision_transformer_relpos", "vision_transformer_sam",
    "vision_transformer_hybrid", "vitamin",
)  # fmt: skip
SMALL = {"embed_dim": 96, "depth": 2, "num_heads": 6, "num_classes": 0}
LEAST = 1e-5  # of the largest value of a token


def names() -> list[str]:
    """Return timm's names, in its order."""
    return [name for name in timm.list_models() if _module(name) in MODULES]


def outcome(name: str) -> tuple[bool, str]:
    """Return whether a name loads, and the largest differences at both sizes, or what our ViT has not."""
    try:
        network = _small(name)
        if network is None:
            timm_fields(empty_network(name))
            return False, "cannot be made small: not tried"
        vit, _, _ = vit_of(network)
    except UserError as error:
        return False, str(error)
    patch = vit.arch.patch_size
    differences = [_difference(vit, network, patch * rows, patch * columns) for rows, columns in ((4, 4), (3, 6))]
    return max(differences) <= LEAST, ", ".join(f"{each:.0e}" for each in differences)


def write_page(found: dict[str, tuple[bool, str]]) -> str:
    """Return the page of the outcomes."""
    loads = sum(good for good, _ in found.values())
    lines = [
        "# timm's Vision Transformers",
        "",
        *textwrap.wrap(
            f"Written by `benchmarks/timm_vits.py` with timm {timm.__version__}. Of {len(found)} names {loads} become "
            "a ViT of ours (`clinvit weights convert timm:NAME`, or `--like NAME` for a file of the same kind): the "
            "table gives the largest difference of a token, over the largest value, at the native grid and at another. "
            "For the others it names what our ViT has not.",
            124,
            break_on_hyphens=False,
        ),
        "",
        "| name | becomes ours | difference at 4 x 4 and 3 x 6 patches, or what is missing |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {'yes' if good else 'no'} | {words} |" for name, (good, words) in found.items()]
    return "\n".join(lines) + "\n"


def _module(name: str) -> str:
    return timm.model_entrypoint(name).__module__.rsplit(".", 1)[-1]


def _small(name: str) -> nn.Module | None:
    """Return a network of the same parts with random weights; None where timm makes none."""
    patch = 14 if "patch14" in name else 32 if "patch32" in name else 8 if "patch8" in name else 16
    try:
        network = timm.create_model(name, **SMALL, img_size=4 * patch)
    except Exception:  # of its constructors each refuses sizes in its own way
        return None
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network.eval()


@torch.no_grad()
def _difference(vit: nn.Module, network, height: int, width: int) -> float:
    network.set_input_size(img_size=(height, width))
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    theirs, ours = network.forward_features(x), vit(x)
    difference = (ours.patches - theirs[:, vit.arch.tokens_before :]).abs().max()
    if ours.cls is not None:
        difference = max(difference, (ours.cls - theirs[:, 0]).abs().max())
    return float(difference / theirs.abs().max())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    PAGE.write_text(write_page({name: outcome(name) for name in names()}), encoding="utf-8")
    print(PAGE)
