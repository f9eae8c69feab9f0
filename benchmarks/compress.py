"""Prediction by a smaller ViT: idle units merged, pruned, in int8, against the same network in eager fp32.

    uv run python benchmarks/compress.py [--size small] [--rounds 5]

224 px, 3 channels, 14 labels, batches of 8, random weights: size and speed do not depend on what is learned, AUROC does
(`clinvit compress` judges it). One thread; its processor's seconds count, as in `clinvit compress`.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from clinvit.backbone.sizes import architecture
from clinvit.compress.idle import merge_idle
from clinvit.compress.pruning import prune
from clinvit.finetune.idle import idle_architecture
from clinvit.finetune.model import ModelCard, build_model
from clinvit.finetune.recipe import Finetune, View
from clinvit.stages.compress.forms import (
    BATCH,
    Scores,
    graph_scores,
    network_scores,
    rates,
    weights_bytes,
    write_graphs,
)
from side_by_side import against, machine, multiplies_bf16
from torch import nn

LABELS = tuple(f"finding {number}" for number in range(14))
GOALS = {"idle 75 %, merged": 1.6, "idle 75 %, onnx int8": 3.0}


def model(size: str, idle: float = 0.0) -> tuple[nn.Module, ModelCard]:
    """A classifier with scores all over 0..1, and its card."""
    torch.manual_seed(0)
    arch = idle_architecture(architecture(size, channels=3), Finetune(idle=idle))
    card = ModelCard(LABELS, {}, False, "full", "vit", "mean", arch, (0.5,) * 3, (0.25,) * 3, View(), 256)
    network = build_model(card)
    nn.init.normal_(network.head.weight, std=0.1)
    return network.eval(), card


def in_bf16(network: nn.Module, card: ModelCard) -> Scores:
    """What gives the probabilities as `clinvit predict --bf16` does."""
    scores = network_scores(network, card)

    def cast(x):
        with torch.autocast("cpu", torch.bfloat16):
            return scores(x)

    return cast


def main() -> None:
    """Time all in turn and print a table of medians, ratios and sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    plain = model(options.size)
    unmerged = model(options.size, idle=0.75)
    networks = {
        "plain": plain,
        "idle 50 %, merged": merge_idle(*model(options.size, idle=0.5)),
        "idle 75 %, merged": merge_idle(*unmerged),
        "idle 75 %, 25 % of heads": prune(*merge_idle(*unmerged), 0.25, 0.0),
        "pruned: 25 %": prune(*plain, 0.25, 0.25),
        "pruned: 50 % units, 25 % heads": prune(*plain, 0.25, 0.5),
    }
    steps = {name: network_scores(*each) for name, each in networks.items()}
    sizes = {name: weights_bytes(network) for name, (network, _) in networks.items()}
    if multiplies_bf16("cpu"):
        for name in ("plain", "idle 75 %, merged"):
            steps[f"{name}, bf16"], sizes[f"{name}, bf16"] = in_bf16(*networks[name]), sizes[name]
    with tempfile.TemporaryDirectory() as folder:
        for name, words in (("plain", "plain"), ("idle 75 %, merged", "idle 75 %")):
            files = write_graphs(*networks[name], Path(folder) / words, int8=True)
            for form, file in files.items():
                steps[f"{words}, onnx {form}"] = graph_scores(file)
                sizes[f"{words}, onnx {form}"] = file.stat().st_size
        found = rates(steps, plain[1], options.rounds)
    print(f"ViT-{options.size} prediction, batch {BATCH}, one thread; {machine('timm', 'onnxruntime')}")
    print(f"{'':34}{'images/s':>10}{'ratio':>8}{'MB':>9}{'smaller':>9}")
    for name, rate in found.items():
        ratio = rate / found["plain"]
        print(
            f"{name:34}{rate:10.2f}{ratio:7.2f}x{sizes[name] / 1e6:9.1f}"
            f"{sizes['plain'] / sizes[name]:8.2f}x  {against(GOALS.get(name), ratio)}"
        )
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)).numpy()
    moved = abs(network_scores(*unmerged)(x) - steps["idle 75 %, merged"](x)).max()
    print(f"merging moves the probabilities by {moved:.1g} at most")


if __name__ == "__main__":
    main()
