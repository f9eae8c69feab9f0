"""One pre-training step of VideoMAE V2 ViT-B, 16 frames of 224 px, against Hugging Face's VideoMAEForPreTraining.

    uv run python benchmarks/videomae_step.py [--device cuda] [--batch 2] [--steps 3]

Tubes mask 90 %, 4 decoder blocks of width 384, AdamW. Hugging Face reconstructs all masked tokens (it has no decoder
masking); ours reconstructs half of all (running cells), and once without what the encoder saw. `equal` is fp32 like the
peer, `best` is bf16 where the processor multiplies it (on a CPU with plain attention), `compiled` under torch.compile.
"""

import argparse

import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.mae import MaskedAutoencoder
from clinvit.pretrain.masking import draw_masks, tube_masking
from clinvit.pretrain.recipe import Decoder
from matmuls import limit, matmuls_of
from side_by_side import against, machine, medians, multiplies_bf16, peak_memory, stepper
from transformers import VideoMAEConfig, VideoMAEForPreTraining

GRID = (8, 14, 14)
CLIP = {"image_size": (224, 224), "frames": 16, "tubelet": 2, "channels": 3, "class_token": False}


def ours(decode: float, reconstruct_visible: bool, bf16: bool, device: str, compiled: bool = False):
    """A step function of our masked autoencoder."""
    vit = ViT(architecture("base", positions="sine1d", **CLIP))
    model = MaskedAutoencoder(vit, Decoder(384, 4, 6, embed_bias=False), "channel").to(device)
    draw = torch.Generator(device).manual_seed(0)

    def loss(clips):
        masks = draw_masks(
            GRID, len(clips), draw, mask="tube", mask_ratio=0.9, decoder_mask="running_cell", decode_ratio=decode,
            reconstruct_visible=reconstruct_visible,
        )  # fmt: skip
        return model(clips, masks).loss

    return stepper(model, loss, bf16, device, compiled=compiled)


def hugging_face(device: str):
    """A step function of the peer, as it comes (fp32)."""
    config = VideoMAEConfig(
        decoder_hidden_size=384, decoder_num_attention_heads=6, decoder_num_hidden_layers=4,
        decoder_intermediate_size=1536, use_mean_pooling=False,
    )  # fmt: skip
    model = VideoMAEForPreTraining(config).to(device)
    draw = torch.Generator(device).manual_seed(0)

    def loss(clips):
        visible, _ = tube_masking(torch.rand(len(clips), 196, generator=draw, device=device), 8, 0.9)
        masked = torch.ones(len(clips), 1568, dtype=torch.bool, device=device).scatter(1, visible, False)
        return model(clips.transpose(1, 2), bool_masked_pos=masked).loss

    return stepper(model, loss, False, device, peer=True)


def main() -> None:
    """Time all in turn and print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    device = options.device
    clips = torch.randn(options.batch, 3, 16, 224, 224, device=device)
    rows = {
        "Hugging Face, all masked tokens, fp32": hugging_face(device),
        "ours, all masked tokens, fp32": ours(1.0, True, False, device),
        "ours, running cells without the seen, fp32": ours(0.5, False, False, device),
        "ours equal, running cells, fp32": ours(0.5, True, False, device),
        "ours compiled, running cells, fp32": ours(0.5, True, False, device, compiled=True),
    }
    if multiplies_bf16(device):
        rows["ours best, running cells, bf16"] = ours(0.5, True, True, device)
        rows["ours best, running cells, bf16 compiled"] = ours(0.5, True, True, device, compiled=True)
    found = medians(rows, clips, options.steps)
    peer = next(iter(found.values()))
    print(f"VideoMAE V2 ViT-B step, batch {options.batch}; {machine('transformers', device=device)}")
    for (name, median), goal in zip(found.items(), (None, None, None, 1.6, 1.6, 3.0, 3.0)):
        print(f"{name:44}{median * 1000:9.0f} ms{peer / median:8.2f}x  {against(goal, peer / median)}")
    for name in ("ours equal, running cells, fp32", "ours best, running cells, bf16"):
        if device == "cpu" and name in rows:
            print(f"{name}: {limit(matmuls_of(rows[name], clips), found[name])}")
    print(peak_memory(device))


if __name__ == "__main__":
    main()
