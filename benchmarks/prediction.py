"""Prediction by a ViT-S/16 classifier: compiled, in bf16 and in int8, against the same network in eager fp32.

    uv run python benchmarks/prediction.py [--device cuda] [--batch 32] [--rounds 5]

224 px, 3 channels, 14 labels. Each row says how far its probabilities are from eager fp32's on the same images: the
largest difference, and the share of predicted labels at 0.5 that stay. Weights are random, the last layer wide enough
for scores all over 0..1; images are smooth noise, different in each. `clinvit export --int8 --data` reports what a
trained model loses. int8 runs by onnxruntime, on a CPU only.
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


def int8(network: nn.Module) -> Scorer:
    """The int8 graph that `clinvit export --int8` writes."""
    from clinvit.compress.quantise import write_dynamic
    from clinvit.stages.graphs import Graph, write_onnx
    from clinvit.stages.onnx_runtime import onnx_session

    scoring = nn.Sequential(network, nn.Sigmoid()).eval()
    graph = Graph(scoring, torch.zeros(2, 3, 224, 224), ("pixels", "scores"), {0: "batch"})
    with tempfile.TemporaryDirectory() as folder:
        exact, file = Path(folder) / "exact.onnx", Path(folder) / "int8.onnx"
        write_onnx(graph, exact)
        write_dynamic(exact, file)
        run = onnx_session(file)
    return lambda images: torch.from_numpy(run(images.numpy())[0])


def main() -> None:
    """Time all in turn and print a table of medians, ratios and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = options.device
    coarse = torch.randn(options.batch, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    images = F.interpolate(coarse, size=224, mode="bicubic").to(device)
    network, compiled = classifier(device), torch.compile(classifier(device))
    scorers = {
        "eager, fp32": scorer(network, device),
        "compiled, fp32": scorer(compiled, device),
    }
    if multiplies_bf16(device):
        scorers["eager, bf16"] = scorer(network, device, bf16=True)
        scorers["compiled, bf16"] = scorer(compiled, device, bf16=True)
    if device == "cpu":
        scorers["onnxruntime, int8"] = int8(network)
    found = medians(scorers, images, options.rounds)
    exact, plain = scorers["eager, fp32"](images), found["eager, fp32"]
    print(f"ViT-S/16 prediction, batch {options.batch}; {machine(*['onnxruntime'] * (device == 'cpu'), device=device)}")
    print(f"{'':22}{'images/s':>12}{'ratio':>9}{'largest':>10}{'mean':>9}{'labels kept':>12}")
    for name, median in found.items():
        scores = scorers[name](images)
        off, kept = (scores - exact).abs(), ((scores > 0.5) == (exact > 0.5)).float().mean()
        ratio, goal = plain / median, None if name == "eager, fp32" else GOAL
        print(
            f"{name:22}{options.batch / median:12.1f}{ratio:8.2f}x{off.max():10.4f}{off.mean():9.4f}{kept:12.2%}"
            f"  {against(goal, ratio)}"
        )
    print(peak_memory(device))


if __name__ == "__main__":
    main()
