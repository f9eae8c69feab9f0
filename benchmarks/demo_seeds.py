"""Whether the thorax demo's gain of pre-training holds over seeds: the whole demo again, with other patients each time.

A seed decides the invented patients, who of them is labelled, and both trainings. Nothing is chosen by these runs.
Repeating the command goes on where it was interrupted.

    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4 5 6 7 8 9 --out runs/demo-seeds
"""

import argparse
import time
from pathlib import Path

import torch
from clinvit.core.documents import read_json
from clinvit.core.files import write_text
from clinvit.tasks.thorax.demo import LABELLED, demo

SECONDS = "seconds.txt"


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--labelled", type=int, nargs="+", default=list(LABELLED))
    parser.add_argument("--out", type=Path, default=Path("runs/demo-seeds"))
    parser.add_argument("--threads", type=int, default=0, help="computing threads; 0 takes all cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = []
    for seed in options.seeds:
        out, start = options.out / f"seed-{seed}", time.perf_counter()
        if not (out / SECONDS).is_file():
            demo(out, seed, labelled=tuple(options.labelled))
            write_text(out / SECONDS, str(time.perf_counter() - start))
        steps = read_json(out / "report/report.json")["efficiency"]["steps"]
        rows += [_row(seed, step) for step in steps]
    print("\n| seed | labelled images | pretrained | scratch | difference (95 % interval) | excludes 0 |")
    print("|---|---|---|---|---|---|", *rows, sep="\n")


def _row(seed: int, step: dict) -> str:
    one, other, gain = (step[key] for key in ("first", "second", "gain"))
    return (
        f"| {seed} | {step['cases']} | {one['value']:.3f} | {other['value']:.3f} | {gain['value']:+.3f} "
        f"({gain['low']:+.3f} to {gain['high']:+.3f}) | {'yes' if gain['low'] > 0 or gain['high'] < 0 else 'no'} |"
    )


if __name__ == "__main__":
    main()
