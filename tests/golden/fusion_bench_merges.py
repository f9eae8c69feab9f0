"""Write `fusion_bench_merges.npz`: what the published package makes of small random models.

Not run by the tests: fusion_bench 0.2.33 does not import with transformers 5, which the extra `text` needs. In an own
environment:

    pip install 'fusion_bench==0.2.33' 'transformers<5'
    python tests/golden/fusion_bench_merges.py
"""

import json
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from fusion_bench.method import SimpleAverageAlgorithm, TaskArithmeticAlgorithm, TiesMergingAlgorithm
from fusion_bench.method.opcm.opcm_general import OPCM
from fusion_bench.modelpool import BaseModelPool
from torch import nn

MODELS = ("a", "b", "c", "d")


def network() -> nn.Module:
    """Return wide, tall and square linear layers, a convolution, a norm and positions, all random.

    Positions are a layer: OPCM of the package passes over parameters that a module with children holds itself.
    """
    net = nn.ModuleDict({
        "conv": nn.Conv2d(1, 3, 2), "wide": nn.Linear(10, 6), "tall": nn.Linear(4, 9), "norm": nn.LayerNorm(6),
        "square": nn.Linear(6, 6, bias=False), "pos": nn.Embedding(2, 6),
    }).double()  # fmt: skip
    for value in net.parameters():
        nn.init.normal_(value)
    return net


def moved(start: nn.Module, scale: float) -> nn.Module:
    net = deepcopy(start)
    for value in net.parameters():
        value.data += scale * torch.randn_like(value)
    return net


if __name__ == "__main__":
    torch.manual_seed(28)
    start = network()
    models = {name: moved(start, scale) for name, scale in zip(MODELS, (0.1, 0.2, 0.05, 0.1))}
    runs = {"average": SimpleAverageAlgorithm(), "task-arithmetic": TaskArithmeticAlgorithm(scaling_factor=0.3)}
    runs["ties"] = TiesMergingAlgorithm(scaling_factor=0.5, threshold=20, remove_keys=[], merge_func="sum")
    for alpha in (0.0, 0.5, 0.9):
        runs[f"orthogonal-{alpha}"] = OPCM(alpha=alpha, shuffle_order=False, save_on_every_step=False)
    arrays = {f"in/{name}/{key}": value for name, net in {"start": start, **models}.items()
              for key, value in net.state_dict().items()}  # fmt: skip
    for name, method in runs.items():
        merged = method.run(BaseModelPool(deepcopy({"_pretrained_": start, **models})))
        arrays |= {f"out/{name}/{key}": value for key, value in merged.state_dict().items()}
    meta = {package: version(package) for package in ("fusion_bench", "transformers", "torch")} | {"models": MODELS}
    target = Path(__file__).with_suffix(".npz")
    np.savez(target, meta=json.dumps(meta), **{key: value.detach().numpy() for key, value in arrays.items()})
