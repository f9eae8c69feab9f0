"""Time and memory as the data grow: manifests, `prepare`, `check` and `evaluate`, beside plain pandas and scikit-learn.

    uv run --group bench python benchmarks/growth.py [--most 1000000] [--steps evaluate,prepare]

Each row is a process of its own. Seconds are those of the processor, start-up included, for other work on the machine
takes the clock's; `growth` is what ten times the rows take, start-up taken off: 10 is linear. A peer does the plain
part of the same work: it reads, checks or scores, without intervals, reports, or reading in other processes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from side_by_side import machine

START = 100  # rows of which start-up is all there is
FINDINGS = 14
LEAST_SECONDS = 0.5  # beyond start-up, from which a growth says something
OURS = "import sys; from clinvit.cli import main; sys.exit(main(sys.argv[1:]))"
MANIFEST = (
    "import sys; from clinvit.datasets.manifest.tables import read_manifest; m = read_manifest(sys.argv[1]); m.files()"
)
PEERS = {
    "manifest": """
t = pd.read_csv(path, dtype=str, keep_default_na=False)
assert t["id"].is_unique and t.groupby("patient")["split"].nunique().max() == 1
labels = t[["Mass", "Edema"]].apply(pd.to_numeric)
files = [path.parent / name for name in t["path"]]
""",
    "prepare": """
from sklearn.model_selection import GroupShuffleSplit
t = pd.read_csv(path)
assert all((path.parent / name).exists() for name in t["path"])
train, rest = next(GroupShuffleSplit(1, train_size=0.7, random_state=0).split(t, groups=t["patient"]))
t.assign(split=np.where(np.isin(np.arange(len(t)), train), "train", "test")).to_csv(path.with_name("p.csv"))
""",
    "check": """
from PIL import Image
t = pd.read_csv(path)
assert all((path.parent / name).exists() for name in t["path"])
for name in t["path"].iloc[np.linspace(0, len(t) - 1, 200).astype(int)]:
    np.asarray(Image.open(path.parent / name))
""",
    "evaluate": """
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve
t = pd.read_csv(path)
for name in [column[2:] for column in t if column.startswith("p_")]:
    y, p = t[f"y_{name}"], t[f"p_{name}"]
    roc_auc_score(y, p), average_precision_score(y, p), brier_score_loss(y, p), roc_curve(y, p)
""",
}
# A process in between: the memory of what starts another one counts as the other's.
WATCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(flush=True)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, flush=True)
sys.exit(os.waitstatus_to_exitcode(status))
"""
HEAD = "import sys; from pathlib import Path; import numpy as np; import pandas as pd; path = Path(sys.argv[1])\n"


@dataclass(frozen=True)
class Step:
    """What is timed: how its input is made, its command, its peer, and up to how many rows it is tried."""

    make: Callable[[Path, int], Path]
    command: Callable[[Path], list[str]]
    peer: str
    most: int


def predictions(folder: Path, rows: int, findings: int = 1) -> Path:
    """Write a table of predictions of patients with two cases each, in the mean."""
    rng = np.random.default_rng(0)
    table: dict = {"id": [f"c{row:07d}" for row in range(rows)]}
    table["patient"] = [f"P{number:07d}" for number in rng.integers(0, max(1, rows // 2), rows)]
    table |= {"split": "test", "status": "ok", "reason": ""}
    truth = {f"finding{k}": rng.random(rows) < 0.05 + 0.02 * k for k in range(findings)}
    table |= {f"y_{name}": y.astype(int) for name, y in truth.items()}
    table |= {f"p_{name}": 1 / (1 + np.exp(2 - rng.normal(size=rows) - 1.5 * y)) for name, y in truth.items()}
    pd.DataFrame(table).round(6).to_csv(folder / "predictions.csv", index=False)
    return folder / "predictions.csv"


def of_many_findings(folder: Path, cells: int) -> Path:
    """Write a table with 14 findings, as many cells as were asked for."""
    return predictions(folder, cells // FINDINGS, FINDINGS)


def manifest(folder: Path, rows: int) -> Path:
    """Write a manifest of files that are not there."""
    place = np.arange(rows)
    split = np.select([place // 2 % 10 < 7, place // 2 % 10 < 9], ["train", "test"], "val")
    table = {"id": place, "path": [f"img/{row // 1000:04d}/c{row}.png" for row in place], "patient": place // 2}
    table |= {"split": split, "Mass": place % 7 == 0, "Edema": place % 3 == 0}
    pd.DataFrame(table).replace({True: 1, False: 0}).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def files(folder: Path, rows: int) -> Path:
    """Write small PNG files (above 2,000 they are links to these) and a manifest of them without a split."""
    from PIL import Image

    rng, path = np.random.default_rng(0), manifest(folder, rows)
    for row in range(rows):
        file = folder / f"img/{row // 1000:04d}/c{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if row < 2000:
            grey = rng.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(grey.repeat(4, 0).repeat(4, 1)).save(file)
        else:
            os.link(folder / f"img/{row % 2000 // 1000:04d}/c{row % 2000}.png", file)
    return path


def own_table(folder: Path, rows: int) -> Path:
    """Write files and a table of them as a hospital has it: without ids and splits."""
    table = pd.read_csv(files(folder, rows)).drop(columns=["id", "split"])
    table.to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def command(*words: str) -> list[str]:
    """Return our command in a process of its own."""
    return ["-c", OURS, *words]


STEPS = {
    "read_manifest": Step(manifest, lambda path: ["-c", MANIFEST, str(path)], "manifest", 1_000_000),
    "prepare": Step(
        own_table, lambda path: command("prepare", "images", str(path), "--out", str(path.with_name("m.csv"))),
        "prepare", 100_000,
    ),
    "check": Step(files, lambda path: command("check", "images", str(path)), "check", 100_000),
    "check --files 0": Step(files, lambda path: command("check", "images", str(path), "--files", "0"), "", 10_000),
    "evaluate": Step(
        predictions, lambda path: command("evaluate", str(path), "--out", str(path.with_name("r"))), "evaluate",
        1_000_000,
    ),
    "evaluate, 14 findings": Step(
        of_many_findings, lambda path: command("evaluate", str(path), "--out", str(path.with_name("r"))), "evaluate",
        1_000_000,
    ),
}  # fmt: skip


def spent(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run Python; return the processor's seconds and the most MiB that it and what it started took."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, sys.executable, *arguments], capture_output=True, text=True, cwd=folder,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[2:])}: {done.stdout[-500:]}{done.stderr[-1000:]}")
    seconds, size = done.stdout.splitlines()[-1].split()
    return float(seconds), float(size) / 1024


def rows_of(name: str, step: Step, most: int) -> None:
    """Print a line for each size of a step."""
    start = before = 0.0
    for rows in [START, *(10**power for power in range(3, 7) if 10**power <= min(most, step.most))]:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            path = step.make(folder, rows)
            seconds, size = spent(step.command(path), folder)
            words = ""
            if step.peer:
                theirs, other = spent(["-c", HEAD + PEERS[step.peer], str(path)], folder)
                words = f"{theirs:9.2f} s {other:6.0f} MiB {seconds / theirs:6.1f}x"
        if rows == START:
            start, growth = seconds, ""
        else:
            growth = f"{(seconds - start) / before:.1f}" if before > LEAST_SECONDS else ""
            before = max(seconds - start, 0.0)
        print(f"{name:22} {rows:9,} {seconds:9.2f} s {size:6.0f} MiB {growth:>6} {words}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=1_000_000, help="rows")
    parser.add_argument("--steps", default=",".join(STEPS), help="separated by commas")
    options = parser.parse_args()
    print(machine("pandas", "scikit-learn"))
    print(f"{'step':22} {'rows':>9} {'ours':>11} {'peak':>10} {'growth':>6} {'peer':>11} {'peak':>10} {'ours/peer':>7}")
    names = [name for name in STEPS if name in options.steps or name.split(",")[0] in options.steps.split(",")]
    for name in names:
        rows_of(name, STEPS[name], options.most)


if __name__ == "__main__":
    main()
