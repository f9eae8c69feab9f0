"""A training step on a bag of 10,000 x 768 features: ours against torchmil's, in turns in one process.

uv run --group bench python benchmarks/mil.py [--rounds 10] [--device cpu]
"""

import argparse

import torch
from clinvit.finetune.losses import masked_bce
from clinvit.mil.recipe import Mil, build_aggregator
from side_by_side import machine, medians
from torch import nn
from torchmil.models import ABMIL, DSMIL, TransMIL

# Torchmil's models of the same widths.
PEERS = {
    "gated_attention": lambda: ABMIL(in_shape=(768,), att_dim=128, gated=True),
    "dsmil": lambda: DSMIL(in_shape=(768,), att_dim=128, nonlinear_q=True),
    "transmil": lambda: TransMIL(in_shape=(768,), att_dim=512, n_heads=8),
}


def main() -> None:
    """Print median seconds of each and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--instances", type=int, default=10_000)
    options = parser.parse_args()
    print(machine("torchmil", device=options.device))
    bag = torch.randn(1, options.instances, 768, device=options.device)
    for name, peer in PEERS.items():
        ours, theirs = build_aggregator(Mil(aggregator=name), 768, 1), peer()
        steps = {"ours": _ours(ours.to(options.device)), "torchmil": _theirs(theirs.to(options.device))}
        seconds = medians(steps, bag, options.rounds)
        print(
            f"{name}: ours {seconds['ours'] * 1e3:.1f} ms, torchmil {seconds['torchmil'] * 1e3:.1f} ms, "
            f"{seconds['torchmil'] / seconds['ours']:.2f} times as fast"
        )


def _ours(model: nn.Module):
    target = torch.ones(1, 1, device=next(model.parameters()).device)
    return _step(model, lambda bag: model.loss(model(bag), target, None, masked_bce))


def _theirs(model: nn.Module):
    target = torch.ones(1, device=next(model.parameters()).device)
    return _step(model, lambda bag: sum(model.compute_loss(target, bag)[1].values()))


def _step(model: nn.Module, loss):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(bag):
        loss(bag).backward()
        optimizer.step()
        optimizer.zero_grad()
        if bag.is_cuda:
            torch.cuda.synchronize()

    return step


if __name__ == "__main__":
    main()
