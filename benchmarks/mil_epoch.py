"""An epoch of multiple-instance learning over 400 bags of 10,000 x 384 features, from files to updated weights.

    uv run --group bench python benchmarks/mil_epoch.py [--bags 400] [--aggregator gated_attention]

Ours is the run of `clinvit finetune slides` (batch 1, two epochs: the first reads the files, the second finds the bags
in memory), from the HDF5 files of `clinvit extract` in fp32. The peers: torchmil's ABMIL with its own data set, loader
and trainer on the same files, which it reads in every epoch or (`load_at_init`) keeps; and features as CSV, read anew
in every epoch as DSMIL and Self-ViT-MIL do, then torchmil's step. CSV and what torchmil keeps are timed on fewer bags
and extrapolated. The files were written just before and lie in the system's cache. `equal` is fp32, `best` what `auto`
chooses.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.slides.hdf5 import write_features
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.engine.recipe import Run
from clinvit.mil.recipe import Mil, build_aggregator, paper_optim
from clinvit.mil.run import train_mil
from matmuls import matmuls_of, seconds_alone
from side_by_side import machine
from sklearn.utils import shuffle
from torch.utils.data import DataLoader, Subset
from torchmil.data import collate_fn
from torchmil.datasets import ProcessedMILDataset
from torchmil.datasets.processed_mil_dataset import default_read_file
from torchmil.models import ABMIL, DSMIL
from torchmil.utils import Trainer

PEERS = {
    "gated_attention": lambda width: ABMIL(in_shape=(width,), att_dim=128, gated=True),
    "dsmil": lambda width: DSMIL(in_shape=(width,), att_dim=128, nonlinear_q=True),
}
VALIDATION, KEPT, CSV = 2, 60, 5


def main() -> None:
    """Write the bags, time everybody and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bags", type=int, default=400)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--aggregator", choices=PEERS, default="gated_attention")
    options = parser.parse_args()
    print(machine("torchmil", "pandas", "h5py"), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        table = write_bags(folder, options)
        torch.manual_seed(0)
        rows = {}
        rows["torchmil, reads its files"] = torchmil(folder, table, options, keep=False)
        for name, precision in (("equal, fp32", "32-true"), ("best, auto", "auto")):
            first, second = ours(folder, options.aggregator, precision)
            rows[f"ours {name}, first epoch (reads)"], rows[f"ours {name}, later epochs"] = first, second
        rows["torchmil, all kept in memory"] = torchmil(folder, table, options, keep=True)
        rows["CSV by pandas, torchmil's step"] = csv(folder, options)
    show(rows)
    alone, _ = seconds_alone(matmuls_of(step(options), torch.randn(1, options.instances, options.width)))
    print(f"matmuls alone, fp32: {alone * options.bags:.1f} s")


def write_bags(folder: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Feature files as `extract` writes them and a manifest, whose table is returned."""
    rng, n = np.random.default_rng(0), options.instances
    grid = TileGrid(np.zeros((n, 2), np.int64), np.ones(n, np.float32), 224, 112.0, 0.0, 224, 0.5, 100_000, 100_000)
    ids = [f"slide_{k:03d}" for k in range(options.bags + VALIDATION)]
    noise = rng.standard_normal((n, options.width), np.float32)
    for k, name in enumerate(ids):
        write_features(folder / f"{name}.h5", np.roll(noise, k) + np.float32(k % 2 / 10), grid, {"encoder": "noise"})
    splits = ["train"] * options.bags + ["val"] * VALIDATION
    table = pd.DataFrame({"id": ids, "path": ids, "patient": ids, "split": splits})
    table["tumour"] = np.arange(len(ids)) % 2
    table.to_csv(folder / "manifest.csv", index=False)
    return table


def ours(folder: Path, aggregator: str, precision: str) -> list[float]:
    """Seconds of two epochs, by the log of the run."""
    recipe = Mil(aggregator=aggregator, optim=replace(paper_optim(), epochs=2), run=Run(precision=precision))
    train_mil(recipe, read_manifest(folder / "manifest.csv"), folder, folder / precision)
    return pd.read_csv(folder / precision / "log.csv")["seconds"].tolist()


def step(options: argparse.Namespace) -> Callable[[torch.Tensor], None]:
    """Forward and backward pass of ours."""
    model = build_aggregator(Mil(aggregator=options.aggregator), options.width, 1)
    return lambda bag: model(bag).logits.sum().backward()


def torchmil(folder: Path, table: pd.DataFrame, options: argparse.Namespace, keep: bool) -> float:
    """Seconds of an epoch and its validation by torchmil's trainer; extrapolated from a few bags if it keeps them."""
    used = table.groupby("split").head(KEPT) if keep else table
    labels = dict(zip(used["id"], used["tumour"]))

    def read(path: str, kind: str) -> np.ndarray:
        return np.array(labels[Path(path).stem]) if kind == "labels" else default_read_file(path, kind)

    data = ProcessedMILDataset(
        str(folder), str(folder), bag_names=list(labels), bag_keys=["X", "Y"], file_ext=".h5", load_at_init=keep,
        read_file_fn=read, verbose=False,
    )  # fmt: skip
    train = Subset(data, range(len(labels) - VALIDATION))
    val = Subset(data, range(len(labels) - VALIDATION, len(labels)))
    model = PEERS[options.aggregator](options.width)
    trainer = Trainer(model, torch.optim.Adam(model.parameters(), 2e-4), device="cpu", disable_pbar=True, verbose=False)
    start = time.perf_counter()
    trainer.train(
        1, DataLoader(train, 1, shuffle=True, collate_fn=collate_fn), DataLoader(val, 1, collate_fn=collate_fn)
    )
    return (time.perf_counter() - start) * options.bags / len(train)


def csv(folder: Path, options: argparse.Namespace) -> float:
    """Seconds of an epoch that reads CSV, extrapolated."""
    model = PEERS[options.aggregator](options.width)
    optimizer = torch.optim.Adam(model.parameters(), 2e-4)
    features = np.random.default_rng(0).normal(size=(options.instances, options.width))
    pd.DataFrame(features).to_csv(folder / "bag.csv", index=False, float_format="%.4f")
    start = time.perf_counter()
    for _ in range(CSV):
        bag = shuffle(pd.read_csv(folder / "bag.csv")).reset_index(drop=True).to_numpy()
        optimizer.zero_grad()
        _, losses = model.compute_loss(torch.ones(1), torch.Tensor(np.array([bag])))
        sum(losses.values()).backward()
        optimizer.step()
    return (time.perf_counter() - start) / CSV * options.bags


def show(rows: dict[str, float]) -> None:
    """Seconds, and how many times as fast as each peer."""
    peers = [name for name in rows if not name.startswith("ours")]
    print(f"{'an epoch':38}{'s':>8}" + "".join(f"  vs {name.split(',')[-1].strip()[:18]:18}" for name in peers))
    for name, seconds in rows.items():
        print(f"{name:38}{seconds:8.1f}" + "".join(f"  {rows[peer] / seconds:19.1f}x " for peer in peers))


if __name__ == "__main__":
    main()
