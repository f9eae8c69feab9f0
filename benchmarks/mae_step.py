"""One training step of a ViT-B/16 masked autoencoder against Hugging Face's ViTMAEForPreTraining.

    uv run python benchmarks/mae_step.py [--device cuda] [--batch 8] [--steps 5]

Same sizes (the paper's decoder 512 x 8 x 16), 224 px, 3 channels, AdamW, the same mask ratio in each pair. `equal` is
fp32 like the peer, `best` is bf16 where the processor multiplies it (on a CPU with plain attention), `compiled` with
`--run.compile true`.
"""

import argparse

import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.mae import MaskedAutoencoder
from clinvit.pretrain.masking import draw_masks
from clinvit.pretrain.recipe import Decoder
from matmuls import limit, matmuls_of
from side_by_side import against, machine, medians, multiplies_bf16, peak_memory, stepper
from transformers import ViTMAEConfig, ViTMAEForPreTraining


def ours(ratio: float, decode: float, bf16: bool, device: str, compiled: bool = False):
    """A step function of our masked autoencoder."""
    model = MaskedAutoencoder(ViT(architecture("base", channels=3)), Decoder(512, 8, 16), "patch").to(device)
    draw = torch.Generator(device).manual_seed(0)

    def loss(images):
        masks = draw_masks((1, 14, 14), len(images), draw, mask="random", mask_ratio=ratio, decode_ratio=decode)
        return model(images, masks).loss

    return stepper(model, loss, bf16, device, compiled=compiled)


def hugging_face(ratio: float, device: str):
    """A step function of the peer, as it comes (fp32)."""
    model = ViTMAEForPreTraining(ViTMAEConfig(mask_ratio=ratio, norm_pix_loss=True)).to(device)
    return stepper(model, lambda images: model(images).loss, False, device, peer=True)


def main() -> None:
    """Time the pairs in turn and print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    device = options.device
    images = torch.randn(options.batch, 3, 224, 224, device=device)
    rows = {
        "Hugging Face, 75 % masked, fp32": hugging_face(0.75, device),
        "ours equal, 75 % masked, fp32": ours(0.75, 1.0, False, device),
        "ours compiled, 75 % masked, fp32": ours(0.75, 1.0, False, device, compiled=True),
        "ours equal, 90 % masked, fp32": ours(0.90, 1.0, False, device),
        "ours, 90 % masked, decoding half, fp32": ours(0.90, 0.5, False, device),
    }
    if multiplies_bf16(device):
        rows["ours best, 75 % masked, bf16"] = ours(0.75, 1.0, True, device)
        rows["ours best, 75 % masked, bf16 compiled"] = ours(0.75, 1.0, True, device, compiled=True)
    found = medians(rows, images, options.steps)
    peer, plain = found["Hugging Face, 75 % masked, fp32"], found["ours equal, 90 % masked, fp32"]
    print(f"ViT-B/16 MAE step, batch {options.batch}; {machine('transformers', device=device)}")
    for (name, median), goal in zip(found.items(), (None, 1.15, 1.15, None, 1.3, 1.8, 1.8)):
        ratio = (plain if "90" in name else peer) / median
        print(f"{name:42}{median * 1000:9.0f} ms{ratio:8.2f}x  {against(goal, ratio)}")
    for name in ("ours equal, 75 % masked, fp32", "ours best, 75 % masked, bf16"):
        if device == "cpu" and name in rows:
            print(f"{name}: {limit(matmuls_of(rows[name], images), found[name])}")
    print(peak_memory(device))


if __name__ == "__main__":
    main()
