"""One fine-tuning step of a ViT-B/16 classifier against timm's vit_base_patch16_224 in a plain loop.

    uv run python benchmarks/finetune_step.py [--device cuda] [--batch 8] [--steps 3]

224 px, 3 channels, 14 labels, binary cross-entropy, mean of the patch tokens as in MAE's fine-tuning, AdamW. `equal` is
fp32 like the peer, `best` is bf16 where the processor multiplies it (on a CPU with plain attention), `compiled` under
torch.compile.
"""

import argparse

import timm
import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.finetune.classifier import Classifier
from matmuls import limit, matmuls_of
from side_by_side import Step, against, machine, medians, multiplies_bf16, peak_memory, stepper
from torch import nn
from torch.nn import functional as F

LABELS = 14


def step_of(model: nn.Module, bf16: bool, device: str, compiled: bool = False, peer: bool = False) -> Step:
    """A step of a classifier on targets drawn at random."""
    draw = torch.Generator().manual_seed(0)
    model.to(device)

    def loss(images):
        targets = torch.rand(len(images), LABELS, generator=draw).round().to(device)
        return F.binary_cross_entropy_with_logits(model(images).float(), targets)

    return stepper(model, loss, bf16, device, compiled, peer)


def ours() -> Classifier:
    """Our classifier as a recipe builds it."""
    return Classifier(ViT(architecture("base", channels=3), final_norm=False), LABELS)


def timms() -> nn.Module:
    """timm's, pooled alike."""
    return timm.create_model("vit_base_patch16_224", num_classes=LABELS, global_pool="avg")


def main() -> None:
    """Time all in turn and print a table of medians, ratios and goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    device = options.device
    images = torch.randn(options.batch, 3, 224, 224, device=device)
    rows = {
        "timm, plain loop, fp32": step_of(timms(), False, device, peer=True),
        "ours equal, fp32": step_of(ours(), False, device),
        "ours compiled, fp32": step_of(ours(), False, device, compiled=True),
    }
    if multiplies_bf16(device):
        rows["ours best, bf16"] = step_of(ours(), True, device)
        rows["ours best, bf16 compiled"] = step_of(ours(), True, device, compiled=True)
    found = medians(rows, images, options.steps)
    plain = next(iter(found.values()))
    print(f"ViT-B/16 fine-tuning step, batch {options.batch}; {machine('timm', device=device)}")
    for (name, median), goal in zip(found.items(), (None, 1.0, 1.2, 1.8, 1.8)):
        print(f"{name:30}{median * 1000:9.0f} ms{plain / median:8.2f}x  {against(goal, plain / median)}")
    for name in ("ours equal, fp32", "ours best, bf16"):
        if device == "cpu" and name in rows:
            print(f"{name}: {limit(matmuls_of(rows[name], images), found[name])}")
    print(peak_memory(device))


if __name__ == "__main__":
    main()
