"""One training step of DINO on a ViT-S/16 against lightly's parts, composed as its documentation does on timm's ViT.

    uv run --group bench python benchmarks/dino_step.py [--device cuda] [--batch 4] [--steps 3] [--out_dim 65536]

2 crops of 224 px and 8 of 96 px of each image, head 2048/256/out_dim, AdamW, teacher and centre updated. `equal` is
fp32 like the peer, `best` is bf16. Then the crops of one tile of 224 px, against torchvision's on Pillow images, as
in DINO's code.
"""

import argparse
import copy

import cv2
import numpy as np
import timm
import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.datasets.transforms.multi_crop import MultiCrop, MultiCropView
from clinvit.pretrain.dino import DinoLoss, DinoNetwork, follow
from clinvit.pretrain.recipe import Head
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import update_momentum
from lightly.transforms.dino_transform import DINOTransform
from PIL import Image
from side_by_side import machine, medians, multiplies_bf16, per_item, stepper
from torch import nn

LOCAL_CROPS, MOMENTUM = 8, 0.996


def views(batch: int, device: str) -> list[torch.Tensor]:
    """Crops (V*B, 3, S, S), the large and the small ones."""
    return [torch.randn(count * batch, 3, side, side, device=device) for count, side in ((2, 224), (LOCAL_CROPS, 96))]


def ours(out_dim: int, bf16: bool, device: str):
    """A step function of our student and teacher."""
    arch = architecture("small", channels=3, positions="learned", resize_offset=0.1)
    student = DinoNetwork(ViT(arch, drop_path=0.1), Head(out_dim)).to(device)
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    dino_loss = DinoLoss(out_dim, 0.1, 0.9).to(device)

    def loss(crops):
        follow(teacher, student, MOMENTUM)
        with torch.no_grad():
            predicted = teacher(crops[:1]).logits
        value = dino_loss(student(crops).logits, dino_loss.targets(predicted, 0.04))
        dino_loss.update_centre(predicted.float().mean(dim=0, keepdim=True))
        return value

    return stepper(student, loss, bf16, device)


def lightly(out_dim: int, device: str):
    """A step function of the peer: each crop by itself, as in its example."""

    def network():
        vit = timm.create_model("vit_small_patch16_224", num_classes=0, dynamic_img_size=True, drop_path_rate=0.1)
        return nn.Sequential(vit, DINOProjectionHead(384, 2048, 256, out_dim)).to(device)

    student, teacher = network(), network().requires_grad_(False)
    teacher.load_state_dict(student.state_dict())
    dino_loss = DINOLoss(out_dim, teacher_temp=0.04, warmup_teacher_temp_epochs=0).to(device)

    def loss(crops):
        update_momentum(student, teacher, MOMENTUM)
        large, small = crops[0].chunk(2), crops[1].chunk(LOCAL_CROPS)
        with torch.no_grad():
            predicted = [teacher(crop) for crop in large]
        return dino_loss(predicted, [student(crop) for crop in (*large, *small)], epoch=1)

    return stepper(student, loss, False, device, peer=True)


def main() -> None:
    """Time the steps in turn, then the crops, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out_dim", type=int, default=65536)
    options = parser.parse_args()
    rows = {
        "lightly on timm, fp32": lightly(options.out_dim, options.device),
        "ours equal, fp32": ours(options.out_dim, False, options.device),
    }
    if multiplies_bf16(options.device):
        rows["ours best, bf16"] = ours(options.out_dim, True, options.device)
    found = medians(rows, views(options.batch, options.device), options.steps)
    peer = found["lightly on timm, fp32"]
    print(machine("lightly", "timm", device=options.device))
    print(f"ViT-S/16 DINO step, batch {options.batch}, out_dim {options.out_dim}")
    for name, median in found.items():
        print(f"{name:42}{median * 1000:9.0f} ms{peer / median:8.2f}x")

    cv2.setNumThreads(1)
    noise = np.random.default_rng(0).integers(0, 255, (28, 28, 3)).astype(np.uint8)
    tile = Image.fromarray(noise).resize((224, 224), Image.Resampling.BICUBIC)
    theirs, view, pixels = DINOTransform(n_local_views=LOCAL_CROPS), MultiCropView(MultiCrop(), 224), np.asarray(tile)
    peer, own = per_item(lambda _: theirs(tile), 30), per_item(lambda seed: view(pixels, seed), 30)
    print(f"{'lightly (torchvision on Pillow), one tile':42}{peer * 1000:9.1f} ms")
    print(f"{'ours, one tile':42}{own * 1000:9.1f} ms{peer / own:8.2f}x")


if __name__ == "__main__":
    main()
