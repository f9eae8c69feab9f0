"""Prediction by a ViT-S/16 classifier: compiled, in bf16 and in int8, against the same network in eager fp32.

    uv run python benchmarks/prediction.py [--device cuda] [--batch 32] [--rounds 5]

224 px, 3 channels, 14 labels. Each row says how far its probabilities are from eager fp32's on the same images: the
largest difference, and the share of predicted labels at 0.5 that stay. Weights are random, the last layer wide enough
for scores all over 0..1; images are smooth noise, different in each. `clinvit export --int8 --data` reports what a
trained model loses. int8 runs by onnxruntime, on a CPU only; static ranges are chosen on 32 other images.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.finetune.classifier import Classifier
from side_by_side import against, machine, medians, multiplies_bf16, peak_memory
from torch import Tensor, nn
from torch.nn import functional as F

LABELS, GOAL = 14, 2.0
Scorer = Callable[[Tensor], Tensor]


def classifier(device: str) -> nn.Module:
    """A ViT-S/16 with scores all over 0..1."""
    torch.manual_seed(0)
    network = Classifier(ViT(architecture("small", channels=3), final_norm=False), LABELS)
    nn.init.normal_(network.head.weight, std=0.1)
    return network.eval().to(device)


def smooth(count: int, seed: int) -> Tensor:
    """Images of smooth noise."""
    coarse = torch.randn(count, 3, 14, 14, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=224, mode="bicubic")


def scorer(network: nn.Module, device: str, bf16: bool = False) -> Scorer:
    """Images to probabilities."""

    @torch.inference_mode()
    def scores(images: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits = network(images)
        found = logits.float().sigmoid()
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return scores


def graphs(network: nn.Module, images: Tensor) -> dict[str, Scorer]:
    """By onnxruntime: the graph that `clinvit export` writes, and those of `--int8` and `--int8 --scheme static`."""
    from clinvit.compress.quantise import calibrate, write_dynamic, write_static
    from clinvit.stages.graphs import Graph, write_onnx
    from clinvit.stages.onnx_runtime import onnx_session

    def write(part: nn.Module, file: Path) -> None:
        scoring = nn.Sequential(part, nn.Sigmoid()).eval()
        write_onnx(Graph(scoring, torch.zeros(2, 3, 224, 224), ("pixels", "scores"), {0: "batch"}), file)

    def run(file: Path) -> Scorer:
        session = onnx_session(file)
        return lambda images: torch.from_numpy(session(images.numpy())[0])

    with tempfile.TemporaryDirectory() as folder:
        names = ("exact", "folded", "dynamic", "static")
        exact, folded, dynamic, static = (Path(folder) / f"{name}.onnx" for name in names)
        write(network, exact)
        write_dynamic(exact, dynamic)
        made = calibrate(network, images)
        write(made.network, folded)
        write_static(folded, static, made.network, made.levels)
        files = {"fp32": exact, "int8, dynamic": dynamic, "int8, static": static}
        return {f"onnxruntime, {name}": run(file) for name, file in files.items()}


def main() -> None:
    """Time all in turn and print a table of medians, ratios and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = options.device
    images, calibration = smooth(options.batch, 1).to(device), smooth(32, 2)
    network, compiled = classifier(device), torch.compile(classifier(device))
    scorers = {
        "eager, fp32": scorer(network, device),
        "compiled, fp32": scorer(compiled, device),
    }
    if multiplies_bf16(device):
        scorers["eager, bf16"] = scorer(network, device, bf16=True)
        scorers["compiled, bf16"] = scorer(compiled, device, bf16=True)
    if device == "cpu":
        scorers |= graphs(network, calibration)
    found = medians(scorers, images, options.rounds)
    exact, plain = scorers["eager, fp32"](images), found["eager, fp32"]
    print(f"ViT-S/16 prediction, batch {options.batch}; {machine(*['onnxruntime'] * (device == 'cpu'), device=device)}")
    print(f"{'':22}{'images/s':>12}{'ratio':>9}{'largest':>10}{'mean':>9}{'labels kept':>12}")
    for name, median in found.items():
        scores = scorers[name](images)
        off, kept = (scores - exact).abs(), ((scores > 0.5) == (exact > 0.5)).float().mean()
        ratio, goal = plain / median, None if name == "eager, fp32" else GOAL
        print(
            f"{name:27}{options.batch / median:12.1f}{ratio:8.2f}x{off.max():10.4f}{off.mean():9.4f}{kept:12.2%}"
            f"  {against(goal, ratio)}"
        )
    print(peak_memory(device))


if __name__ == "__main__":
    main()
