"""Training on a machine that other processes use too, against the plain loops of Hugging Face and timm.

    uv run --group bench python benchmarks/shared_machine.py [--busy 0 1 2] [--seconds 20]

A tiny masked autoencoder (64 px, patch 8, width 192; 48 images) beside so many processes that only count. Each row is a
process of its own, as OpenMP is set up once in a process. "of alone" is the share of the row's own speed alone; "fair"
is n / (n + k) of n cores beside k busy processes. `fixed` is our loop without `SharedCores`, and torch as it comes.
"""

import argparse
import json
import subprocess
import sys
import time

LOOPS = ("ours", "fixed", "hugging_face", "timm")
BUSY = "while True: pass"


def steps_per_second(loop: str, seconds: float) -> float:
    """Return the speed of a loop in this process, without its first steps."""
    from clinvit.core.platform import wait_briefly

    if loop == "ours":
        wait_briefly()
    import torch
    from clinvit.engine.cores import SharedCores

    step = {"ours": _ours, "fixed": _ours, "hugging_face": _hugging_face, "timm": _timm}[loop]()
    images = torch.randn(48, 1, 64, 64)
    cores = SharedCores() if loop == "ours" else None

    def run(length: float) -> float:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < length:
            if cores is not None:
                cores.look()
            step(images)
            done += 1
        return done / (time.perf_counter() - began)

    run(max(3.0, seconds / 5))
    return run(seconds)


def _ours():
    import torch
    from clinvit.backbone.sizes import architecture
    from clinvit.backbone.vit import ViT
    from clinvit.pretrain.mae import MaskedAutoencoder
    from clinvit.pretrain.masking import draw_masks
    from clinvit.pretrain.recipe import Decoder
    from side_by_side import stepper

    encoder = ViT(architecture("tiny", channels=1, image_size=(64, 64), patch_size=8))
    model, draw = MaskedAutoencoder(encoder, Decoder(128, 4, 4), "patch"), torch.Generator().manual_seed(0)

    def loss(images):
        masks = draw_masks((1, 8, 8), len(images), draw, mask="random", mask_ratio=0.75, decode_ratio=1.0)
        return model(images, masks).loss

    return stepper(model, loss, False, "cpu")


def _hugging_face():
    from side_by_side import stepper
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        image_size=64, patch_size=8, num_channels=1, hidden_size=192, num_hidden_layers=12, num_attention_heads=3,
        intermediate_size=768, decoder_hidden_size=128, decoder_num_hidden_layers=4, decoder_num_attention_heads=4,
        decoder_intermediate_size=512, mask_ratio=0.75, norm_pix_loss=True,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config)
    return stepper(model, lambda images: model(images).loss, False, "cpu", peer=True)


def _timm():
    import timm
    import torch
    from side_by_side import stepper

    model = timm.create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, in_chans=1, num_classes=14)
    truth = torch.zeros(48, 14)
    lossfn = torch.nn.functional.binary_cross_entropy_with_logits
    return stepper(model, lambda images: lossfn(model(images), truth), False, "cpu", peer=True)


def beside(loop: str, busy: int, seconds: float) -> float:
    """Return the speed of a loop in a process of its own, beside busy ones."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        command = [sys.executable, __file__, "--loop", loop, "--seconds", str(seconds)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Print a table of steps per second."""
    from clinvit.core.platform import usable_cores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", choices=LOOPS)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    if options.loop:
        print(json.dumps(steps_per_second(options.loop, options.seconds)))
        return
    cores = usable_cores()
    print(f"{cores} cores; steps/s (of alone; the goal is 80 % of the fair share)")
    for loop in options.loops:
        alone = None
        for busy in options.busy:
            speed = beside(loop, busy, options.seconds)
            alone = speed if alone is None else alone
            fair = cores / (cores + busy)
            print(
                f"{loop:13} beside {busy}: {speed:6.2f} ({speed / alone:4.0%} of alone; fair {fair:4.0%})", flush=True
            )


if __name__ == "__main__":
    main()
