"""Model FLOPs utilisation of a ViT-L/16 masked autoencoder: what of the device's bf16 matmuls a training step uses.

    uv run python benchmarks/mfu.py [--device cuda] [--batch 256] [--steps 5] [--size large] [--eager]

224 px, 3 channels, 75 % masked, the paper's decoder (512 x 8 x 16), AdamW, compiled unless `--eager`. The operations
are those that PyTorch counts in forward and backward of one step; nothing is recomputed. The peak is the maker's for
dense bf16 by the device's name; of another device the operations per second stand alone.
"""

import torch
from mae_step import ours
from side_by_side import Timing, against, machine, medians, multiplies_bf16, peak_memory
from torch.utils.flop_counter import FlopCounterMode

PEAK_TFLOPS = {
    "H200": 989.5,
    "H100": 989.5,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "V100": 125.0,
}  # dense bf16 or fp16
GOAL = 0.45


def operations(timing: Timing, images: torch.Tensor) -> int:
    """Return the floating-point operations of one step."""
    step = ours(0.75, 1.0, False, timing)
    with FlopCounterMode(display=False) as counted:
        step(images[:1])
    return counted.get_total_flops() * len(images)


def main(timing: Timing) -> None:
    """Time a step and print the share of the peak."""
    device = timing.device
    images = torch.randn(timing.batch, 3, 224, 224, device=device)
    work = operations(timing, images)
    step = ours(0.75, 1.0, multiplies_bf16(device), timing, compiled=not timing.eager)
    seconds = medians({"step": step}, images, timing.steps)["step"]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    peak = next((value for key, value in PEAK_TFLOPS.items() if key in name), None)
    speed = work / seconds / 1e12
    share = "no peak known for it" if peak is None else f"MFU {speed / peak:.1%} of {peak:g}"
    print(f"ViT-{timing.size}/16 MAE step, batch {timing.batch}; {machine(device=device)}")
    rate = f"{timing.batch / seconds:.0f} images/s"
    print(f"{work / 1e12:.2f} TFLOP in {seconds * 1000:.0f} ms: {speed:.2f} TFLOP/s, {rate}")
    print(f"{share}  {against(None if peak is None else GOAL, speed / (peak or 1))}")
    print(peak_memory(device))


if __name__ == "__main__":
    main(Timing.asked(__doc__, batch=256, steps=5))
