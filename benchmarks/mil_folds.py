"""Aggregators beside torchmil's in the same folds: MUSK1 or invented slides of a difficulty that is set.

    uv run --group bench python benchmarks/mil_folds.py --table musk1.csv.gz
    uv run --group bench python benchmarks/mil_folds.py --share 0.05 --signal 4

One plain loop trains both: Adam at 5e-4 with weight decay 1e-3, a bag a step, the last epoch, features standardised by
the training bags, instances embedded to 64 values, a hidden layer of 64 in attention; each network has its own loss and
its own score. The folds are those of `clinvit bags --folds N --seed 0`. AUROC and accuracy (at 0.5) are of all held-out
bags together, means over the repeats (other folds, other seeds); 95 % intervals are of resampled bags and do not hold
what another training would change; the difference is paired.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from clinvit.datasets.slides.bag_table import BagTable, read_bag_table
from clinvit.eval.statistics.metrics import auroc
from clinvit.finetune.losses import masked_bce
from clinvit.mil.recipe import Mil, build_aggregator
from clinvit.mil.score import bag_logits
from clinvit.phantoms.bags import Difficulty, write_bag_table
from side_by_side import machine
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torchmil.models import ABMIL, CLAM_SB, DSMIL, TransMIL

HIDDEN, RESAMPLES = 64, 2000
Trained = tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]


def ours(name: str, width: int) -> Trained:
    """Our aggregator, its loss and its score."""
    sizes = {"hidden": HIDDEN, "dropout": 0.0} | ({} if name == "transmil" else {"attention": HIDDEN})
    network = build_aggregator(Mil(aggregator=name, **sizes), width, 1)

    # torchmil's DSMIL adds the losses of both streams, where the paper and we average them: the weight decay of Adam
    # weighs twice as much against a mean. It averages both streams' logits, as we do where asked.
    times, score = (2, "average") if name == "dsmil" else (1, "bag")

    def loss(bag: Tensor, target: Tensor) -> Tensor:
        return times * network.loss(network(bag), target[:, None], None, masked_bce)

    return network, loss, lambda bag: bag_logits(network(bag), None, score)[:, 0]


def theirs(name: str, width: int) -> Trained:
    """Likewise of torchmil."""
    embed = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU())
    network = {
        "gated_attention": lambda: ABMIL((width,), HIDDEN, gated=True, feat_ext=embed),
        "dsmil": lambda: DSMIL((width,), HIDDEN, nonlinear_q=True, feat_ext=embed),
        "transmil": lambda: TransMIL((width,), HIDDEN, n_heads=8),
        "clam_sb": lambda: CLAM_SB((width,), HIDDEN, gated=True, k_sample=8, feat_ext=embed),
    }[name]()
    if name == "clam_sb":
        network.inst_loss_fn = SmoothSvm()
    return (
        network,
        lambda bag, target: sum(network.compute_loss(target, bag)[1].values()),
        lambda bag: network.predict(bag, return_inst_pred=False),
    )


class SmoothSvm(nn.Module):
    """The smooth top-1 SVM loss (temperature 1, margin 1) of (N, 2) logits, a mean over N, of CLAM.

    Instead of torchmil 1.0.2's, which is handed (N, 1) targets and makes (N, N, 2) of them: its smooth part sums over
    the batch where it should over the classes, its hard part ends in an error; (N,) targets fail in its `gather`.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of (N, 2) logits and N targets of 0 and 1."""
        true = target.long().view(-1, 1)
        wrong = 1 - nn.functional.one_hot(true[:, 0], 2)
        margins = logits + wrong - logits.gather(1, true)
        top = logits.topk(2, dim=1)[0]
        hard = top[:, 0] - top[:, 1] >= np.log(1e3)
        return torch.where(hard, margins.max(dim=1)[0], margins.logsumexp(dim=1)).mean()


def held_out(bags: BagTable, make: Callable[[], Trained], options: argparse.Namespace, seed: int) -> np.ndarray:
    """Return the (B,) probability of every bag by the model that has not seen it."""
    found = np.empty(len(bags))
    splitter = StratifiedKFold(options.folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(bags.targets, bags.targets[:, 0]):
        known = np.concatenate([bags.bag(row) for row in train])
        mean, std = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-6)
        ready = [torch.from_numpy((bags.bag(row) - mean) / std)[None].float() for row in range(len(bags))]
        targets = torch.from_numpy(bags.targets[:, 0])
        torch.manual_seed(seed)
        network, loss, score = make()
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, weight_decay=1e-3)
        for _ in range(options.epochs):
            for row in train[torch.randperm(len(train)).numpy()]:
                optimizer.zero_grad()
                loss(ready[row], targets[row : row + 1]).backward()
                optimizer.step()
        network.eval()
        with torch.inference_mode():
            found[test] = [float(torch.sigmoid(score(ready[row]))) for row in test]
    return found


def metrics(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUROC and accuracy of (repeats, N) scores, each the mean over the repeats."""
    known = np.broadcast_to(truth[:, None], scores.T.shape)
    return np.array([auroc(known, scores.T).mean(), ((scores >= 0.5) == (truth == 1)).mean()])


def report(name: str, bags: BagTable, scores: dict[str, np.ndarray], seconds: dict[str, float]) -> None:
    """Print a row of each, and the paired difference."""
    truth, draw = bags.targets[:, 0], np.random.default_rng(0)
    rows = draw.integers(0, len(bags), (RESAMPLES, len(bags)))
    values, drawn = {}, {}
    for who, found in scores.items():
        values[who] = metrics(truth, found)
        drawn[who] = np.stack([metrics(truth[own], found[:, own]) for own in rows])
    if len(scores) == 2:
        values["difference"] = values["ours"] - values["torchmil"]
        drawn["difference"] = drawn["ours"] - drawn["torchmil"]
    for who, value in values.items():
        low, high = np.nanquantile(drawn[who], (0.025, 0.975), axis=0)
        sign = "+" if who == "difference" else ""
        cells = [f"{v:{sign}.3f} ({a:{sign}.3f} to {b:{sign}.3f})" for v, a, b in zip(value, low, high, strict=True)]
        print(f"| {name} | {who} | {' | '.join(cells)} | {seconds.get(who, 0):.0f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="as `clinvit bags` reads it; invented slides without")
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--signal", type=float, default=4.0)
    parser.add_argument("--aggregators", default="gated_attention,dsmil,transmil,clam_sb")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = options.table
        if table is None:
            hard = Difficulty(share=options.share, signal=options.signal)
            table = write_bag_table(Path(folder) / "slides.csv", hard, options.slides)
        bags = read_bag_table(table)
    print(f"{len(bags)} bags, {len(bags.features):,} instances; {machine('torchmil')}")
    print("| aggregator | of | AUROC | accuracy | s |\n|---|---|---|---|---|")
    for name in options.aggregators.split(","):
        scores, seconds = {}, {}
        for who, make in (("ours", ours), ("torchmil", theirs)):
            start = time.process_time()
            try:
                scores[who] = np.stack([
                    held_out(bags, lambda name=name, make=make: make(name, bags.width), options, options.seed + repeat)
                    for repeat in range(options.repeats)
                ])  # fmt: skip
            except RuntimeError as error:
                print(f"| {name} | {who} | ended in an error: {str(error).splitlines()[0]} | | |", flush=True)
            seconds[who] = time.process_time() - start
        report(name, bags, scores, seconds)


if __name__ == "__main__":
    main()
