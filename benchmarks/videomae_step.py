"""One pre-training step of VideoMAE V2 ViT-B, 16 frames of 224 px, against Hugging Face's VideoMAEForPreTraining.

    uv run python benchmarks/videomae_step.py [--device cuda] [--batch 2] [--steps 3] [--size base] [--eager]

Tubes mask 90 %, 4 decoder blocks of width 384, AdamW. Hugging Face reconstructs all masked tokens (it has no decoder
masking); ours reconstructs half of all (running cells), and once without what the encoder saw. `equal` is fp32 like the
peer, `best` is bf16 where the processor multiplies it (on a CPU with plain attention), `compiled` under
torch.compile (not with `--eager`).
"""

import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.mae import MaskedAutoencoder
from clinvit.pretrain.masking import draw_masks, tube_masking
from clinvit.pretrain.recipe import Decoder
from matmuls import limit, matmuls_of
from side_by_side import Timing, against, encoder_of, machine, medians, multiplies_bf16, peak_memory, stepper
from transformers import VideoMAEConfig, VideoMAEForPreTraining

GRID = (8, 14, 14)
CLIP = {"image_size": (224, 224), "frames": 16, "tubelet": 2, "channels": 3, "class_token": False}


def ours(decode: float, reconstruct_visible: bool, bf16: bool, timing: Timing, compiled: bool = False):
    """A step function of our masked autoencoder."""
    device = timing.device
    vit = ViT(architecture(timing.size, positions="sine1d", **CLIP))
    model = MaskedAutoencoder(vit, Decoder(384, 4, 6, embed_bias=False), "channel").to(device)
    draw = torch.Generator(device).manual_seed(0)

    def loss(clips):
        masks = draw_masks(
            GRID, len(clips), draw, mask="tube", mask_ratio=0.9, decoder_mask="running_cell", decode_ratio=decode,
            reconstruct_visible=reconstruct_visible,
        )  # fmt: skip
        return model(clips, masks).loss

    return stepper(model, loss, bf16, device, compiled=compiled)


def hugging_face(timing: Timing):
    """A step function of the peer, as it comes (fp32)."""
    device = timing.device
    config = VideoMAEConfig(
        decoder_hidden_size=384, decoder_num_attention_heads=6, decoder_num_hidden_layers=4,
        decoder_intermediate_size=1536, use_mean_pooling=False, **encoder_of(timing.size),
    )  # fmt: skip
    model = VideoMAEForPreTraining(config).to(device)
    draw = torch.Generator(device).manual_seed(0)

    def loss(clips):
        visible, _ = tube_masking(torch.rand(len(clips), 196, generator=draw, device=device), 8, 0.9)
        masked = torch.ones(len(clips), 1568, dtype=torch.bool, device=device).scatter(1, visible, False)
        return model(clips.transpose(1, 2), bool_masked_pos=masked).loss

    return stepper(model, loss, False, device, peer=True)


def main(timing: Timing) -> None:
    """Time all in turn and print a table of medians and ratios."""
    device, compiled = timing.device, not timing.eager
    clips = torch.randn(timing.batch, 3, 16, 224, 224, device=device)
    equal, best = "ours equal, running cells, fp32", "ours best, running cells, bf16"
    rows = {
        "Hugging Face, all masked tokens, fp32": hugging_face(timing),
        "ours, all masked tokens, fp32": ours(1.0, True, False, timing),
        "ours, running cells without the seen, fp32": ours(0.5, False, False, timing),
        equal: ours(0.5, True, False, timing),
    }
    goals = {equal: 1.6, "ours compiled, running cells, fp32": 1.6, best: 3.0, f"{best} compiled": 3.0}
    if compiled:
        rows["ours compiled, running cells, fp32"] = ours(0.5, True, False, timing, compiled=True)
    if multiplies_bf16(device):
        rows[best] = ours(0.5, True, True, timing)
    if multiplies_bf16(device) and compiled:
        rows[f"{best} compiled"] = ours(0.5, True, True, timing, compiled=True)
    found = medians(rows, clips, timing.steps)
    peer = next(iter(found.values()))
    print(f"VideoMAE V2 ViT-{timing.size} step, batch {timing.batch}; {machine('transformers', device=device)}")
    for name, median in found.items():
        print(f"{name:44}{median * 1000:9.0f} ms{peer / median:8.2f}x  {against(goals.get(name), peer / median)}")
    for name in (equal, best):
        if device == "cpu" and name in rows:
            print(f"{name}: {limit(matmuls_of(rows[name], clips), found[name])}")
    print(peak_memory(device))


if __name__ == "__main__":
    main(Timing.asked(__doc__, batch=2, steps=3))
