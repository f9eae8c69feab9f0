"""One fine-tuning step of a ViT-B/16 classifier against timm's vit_base_patch16_224 in a plain loop.

    uv run python benchmarks/finetune_step.py [--device cuda] [--batch 8] [--steps 3] [--size base] [--eager]

224 px, 3 channels, 14 labels, binary cross-entropy, mean of the patch tokens as in MAE's fine-tuning, AdamW. `equal` is
fp32 like the peer, `best` is bf16 where the processor multiplies it (on a CPU with plain attention), `compiled` under
torch.compile (not with `--eager`).
"""

import timm
import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.finetune.classifier import Classifier
from matmuls import limit, matmuls_of
from side_by_side import Step, Timing, against, machine, medians, multiplies_bf16, peak_memory, stepper
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


def ours(size: str) -> Classifier:
    """Our classifier as a recipe builds it."""
    return Classifier(ViT(architecture(size, channels=3), final_norm=False), LABELS)


def timms(size: str) -> nn.Module:
    """timm's, pooled alike."""
    return timm.create_model(f"vit_{size}_patch16_224", num_classes=LABELS, global_pool="avg")


def main(timing: Timing) -> None:
    """Time all in turn and print a table of medians, ratios and goals."""
    device, size = timing.device, timing.size
    images = torch.randn(timing.batch, 3, 224, 224, device=device)
    rows = {
        "timm, plain loop, fp32": step_of(timms(size), False, device, peer=True),
        "ours equal, fp32": step_of(ours(size), False, device),
    }
    goals = {
        "ours equal, fp32": 1.0, "ours compiled, fp32": 1.2, "ours best, bf16": 1.8, "ours best, bf16 compiled": 1.8
    }  # fmt: skip
    if not timing.eager:
        rows["ours compiled, fp32"] = step_of(ours(size), False, device, compiled=True)
    if multiplies_bf16(device):
        rows["ours best, bf16"] = step_of(ours(size), True, device)
    if multiplies_bf16(device) and not timing.eager:
        rows["ours best, bf16 compiled"] = step_of(ours(size), True, device, compiled=True)
    found = medians(rows, images, timing.steps)
    plain = next(iter(found.values()))
    print(f"ViT-{size}/16 fine-tuning step, batch {timing.batch}; {machine('timm', device=device)}")
    for name, median in found.items():
        print(f"{name:30}{median * 1000:9.0f} ms{plain / median:8.2f}x  {against(goals.get(name), plain / median)}")
    for name in ("ours equal, fp32", "ours best, bf16"):
        if device == "cpu" and name in rows:
            print(f"{name}: {limit(matmuls_of(rows[name], images), found[name])}")
    print(peak_memory(device))


if __name__ == "__main__":
    main(Timing.asked(__doc__, batch=8, steps=3))
