"""One training step of a ViT-B/16 masked autoencoder against Hugging Face's ViTMAEForPreTraining.

    uv run python benchmarks/mae_step.py [--device cuda] [--batch 8] [--steps 5]

Same sizes (the paper's decoder 512 x 8 x 16), 224 px, 3 channels, AdamW, the same mask ratio in each pair. `best` is
ours at its best on this machine: bf16 (and on a CPU plain attention), `equal` is fp32 like the peer.
"""

import argparse

import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.mae import MaskedAutoencoder
from clinvit.pretrain.masking import draw_masks
from clinvit.pretrain.recipe import Decoder
from side_by_side import medians, stepper
from transformers import ViTMAEConfig, ViTMAEForPreTraining


def ours(ratio: float, decode: float, bf16: bool, device: str):
    """A step function of our masked autoencoder."""
    model = MaskedAutoencoder(ViT(architecture("base", channels=3)), Decoder(512, 8, 16), "patch").to(device)
    draw = torch.Generator(device).manual_seed(0)

    def loss(images):
        masks = draw_masks((1, 14, 14), len(images), draw, mask="random", mask_ratio=ratio, decode_ratio=decode)
        return model(images, masks).loss

    return stepper(model, loss, bf16, device)


def hugging_face(ratio: float, device: str):
    """A step function of the peer, as it comes (fp32)."""
    model = ViTMAEForPreTraining(ViTMAEConfig(mask_ratio=ratio, norm_pix_loss=True)).to(device)
    return stepper(model, lambda images: model(images).loss, False, device)


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
        "Hugging Face, 75 % hidden, fp32": hugging_face(0.75, device),
        "ours equal, 75 % hidden, fp32": ours(0.75, 1.0, False, device),
        "ours best, 75 % hidden, bf16": ours(0.75, 1.0, True, device),
        "ours equal, 90 % hidden, fp32": ours(0.90, 1.0, False, device),
        "ours, 90 % hidden, decoding half, fp32": ours(0.90, 0.5, False, device),
    }
    found = medians(rows, images, options.steps)
    peer, plain = found["Hugging Face, 75 % hidden, fp32"], found["ours equal, 90 % hidden, fp32"]
    threads = torch.get_num_threads()
    print(f"ViT-B/16 MAE step, batch {options.batch}, {device}, torch {torch.__version__}, {threads} threads")
    for name, median in found.items():
        against = plain if "90" in name else peer
        print(f"{name:42}{median * 1000:9.0f} ms{against / median:8.2f}x")


if __name__ == "__main__":
    main()
