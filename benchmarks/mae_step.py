"""One training step of a ViT-B/16 masked autoencoder against Hugging Face's ViTMAEForPreTraining.

    uv run python benchmarks/mae_step.py [--device cuda] [--batch 8] [--steps 5] [--size base] [--eager]

Same sizes (the paper's decoder 512 x 8 x 16), 224 px, 3 channels, AdamW, the same mask ratio in each pair. `equal` is
fp32 like the peer, `best` is bf16 where the processor multiplies it (on a CPU with plain attention), `compiled` with
`--run.compile true` (not with `--eager`).
"""

import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.mae import MaskedAutoencoder
from clinvit.pretrain.masking import draw_masks
from clinvit.pretrain.recipe import Decoder
from matmuls import limit, matmuls_of
from side_by_side import Timing, against, encoder_of, machine, medians, multiplies_bf16, peak_memory, stepper
from transformers import ViTMAEConfig, ViTMAEForPreTraining


def ours(ratio: float, decode: float, bf16: bool, timing: Timing, compiled: bool = False):
    """A step function of our masked autoencoder."""
    device = timing.device
    model = MaskedAutoencoder(ViT(architecture(timing.size, channels=3)), Decoder(512, 8, 16), "patch").to(device)
    draw = torch.Generator(device).manual_seed(0)

    def loss(images):
        masks = draw_masks((1, 14, 14), len(images), draw, mask="random", mask_ratio=ratio, decode_ratio=decode)
        return model(images, masks).loss

    return stepper(model, loss, bf16, device, compiled=compiled)


def hugging_face(ratio: float, timing: Timing):
    """A step function of the peer, as it comes (fp32)."""
    config = ViTMAEConfig(mask_ratio=ratio, norm_pix_loss=True, **encoder_of(timing.size))
    model = ViTMAEForPreTraining(config).to(timing.device)
    return stepper(model, lambda images: model(images).loss, False, timing.device, peer=True)


def main(timing: Timing) -> None:
    """Time the pairs in turn and print a table of medians and ratios."""
    device, compiled = timing.device, not timing.eager
    images = torch.randn(timing.batch, 3, 224, 224, device=device)
    peer, plain = "Hugging Face, 75 % masked, fp32", "ours equal, 90 % masked, fp32"
    equal, best = "ours equal, 75 % masked, fp32", "ours best, 75 % masked, bf16"
    rows, goals = {peer: hugging_face(0.75, timing), equal: ours(0.75, 1.0, False, timing)}, {equal: 1.15}
    if compiled:
        rows["ours compiled, 75 % masked, fp32"] = ours(0.75, 1.0, False, timing, compiled=True)
        goals["ours compiled, 75 % masked, fp32"] = 1.15
    rows[plain] = ours(0.90, 1.0, False, timing)
    rows["ours, 90 % masked, decoding half, fp32"] = ours(0.90, 0.5, False, timing)
    goals["ours, 90 % masked, decoding half, fp32"] = 1.3
    if multiplies_bf16(device):
        rows[best], goals[best] = ours(0.75, 1.0, True, timing), 1.8
    if multiplies_bf16(device) and compiled:
        rows[f"{best} compiled"], goals[f"{best} compiled"] = ours(0.75, 1.0, True, timing, compiled=True), 1.8
    found = medians(rows, images, timing.steps)
    print(f"ViT-{timing.size} MAE step, batch {timing.batch}; {machine('transformers', device=device)}")
    for name, median in found.items():
        ratio = found[plain if "90" in name else peer] / median
        print(f"{name:42}{median * 1000:9.0f} ms{ratio:8.2f}x  {against(goals.get(name), ratio)}")
    for name in (equal, best):
        if device == "cpu" and name in rows:
            print(f"{name}: {limit(matmuls_of(rows[name], images), found[name])}")
    print(peak_memory(device))


if __name__ == "__main__":
    main(Timing.asked(__doc__, batch=8, steps=5))
