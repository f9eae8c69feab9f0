"""Tissue tiles at 20x by other readers of slides: fastslide, dlup and TRIDENT's loop, beside OpenSlide's and ours.

    uv venv /tmp/peers && uv pip install --python /tmp/peers/bin/python fastslide dlup openslide-python openslide-bin
    uv run --group bench python benchmarks/slide_peers.py --peers /tmp/peers/bin/python [--slide FILE]

fastslide and dlup are no dependencies: they run in an environment of their own, and a row says where one is missing.
Each method reads the same tiles of the same level in a process of its own, after a round that does not count; what it
gives is compared pixel by pixel. Seconds are the clock's and, since other work takes these, the processor's of all
processes together. Without --slide phantoms as in `tiles.py` are made.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from clinvit.datasets.slides.reading import open_slide
from clinvit.datasets.slides.settings import Tiling
from clinvit.datasets.slides.tiles import TileGrid, tile_grid
from clinvit.phantoms.slides import write_pyramid
from side_by_side import machine
from tiles import ours, strips

ROUNDS, COMPARED = 3, 64
# What a peer's process runs: `tiles(path, level, down, corners, px)` yields RGB arrays.
HEAD = """
import json, resource, sys, time
import numpy as np
asked = json.load(open(sys.argv[1]))
"""
METHODS = {
    "openslide": """
import openslide
def tiles(path, level, down, corners, px):
    slide = openslide.OpenSlide(path)
    for corner in corners:
        yield np.asarray(slide.read_region(corner, level, (px, px)).convert("RGB"))
""",
    "ours, within the process": """
from clinvit.datasets.slides.reading import open_slide
def tiles(path, level, down, corners, px):
    with open_slide(path) as slide:
        for x, y in corners:
            yield slide.tile(x, y, px * down * slide.mpp, px)
""",
    "fastslide": """
import fastslide
def tiles(path, level, down, corners, px):
    slide = fastslide.FastSlide.from_file_path(path)
    for x, y in corners:
        at = slide.convert_level0_to_level_native(x, y, level)
        yield np.asarray(slide.read_region(at, level, (px, px)).numpy())[..., :3]
""",
    "fastslide, cache of 256 MB": """
import fastslide
def tiles(path, level, down, corners, px):
    slide = fastslide.FastSlide.from_file_path(path, cache=256 << 20)
    for x, y in corners:
        at = slide.convert_level0_to_level_native(x, y, level)
        yield np.asarray(slide.read_region(at, level, (px, px)).numpy())[..., :3]
""",
    "dlup, on fastslide": """
import dlup
def tiles(path, level, down, corners, px):
    with dlup.SlideImage.from_file_path(path, backend="FASTSLIDE") as slide:
        for x, y in corners:
            region = slide.read_region((x / down, y / down), 1 / down, (px, px))
            yield np.asarray(region.numpy() if hasattr(region, "numpy") else region)[..., :3]
""",
    "dlup, on OpenSlide": """
import dlup
def tiles(path, level, down, corners, px):
    with dlup.SlideImage.from_file_path(path, backend="OPENSLIDE") as slide:
        for x, y in corners:
            region = slide.read_region((x / down, y / down), 1 / down, (px, px))
            yield np.asarray(region.numpy() if hasattr(region, "numpy") else region)[..., :3]
""",
}
# As TRIDENT reads: a map-style dataset over OpenSlide, batches of 512 from as many workers as there are cores.
TRIDENT = """
import os, openslide, torch
class Patches(torch.utils.data.Dataset):
    def __init__(self, path, level, corners, px):
        self.path, self.level, self.corners, self.px, self.slide = path, level, corners, px, None
    def __len__(self):
        return len(self.corners)
    def __getitem__(self, row):
        if self.slide is None:
            self.slide = openslide.OpenSlide(self.path)
        tile = self.slide.read_region(self.corners[row], self.level, (self.px, self.px)).convert("RGB")
        return torch.from_numpy(np.array(tile))
def tiles(path, level, down, corners, px):
    workers = len(os.sched_getaffinity(0))
    loader = torch.utils.data.DataLoader(Patches(path, level, corners, px), batch_size=512, num_workers=workers)
    for batch in loader:
        yield from batch.numpy()
"""
TIMED = """
def cpu():
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
times, first = [], []
for counted in [False] + [True] * asked["rounds"]:
    start, begun = time.perf_counter(), cpu()
    for place, tile in enumerate(tiles(asked["path"], asked["level"], asked["down"], asked["corners"], asked["px"])):
        if not counted and place < asked["compared"]:
            first.append(np.array(tile))
    if counted:
        times.append((time.perf_counter() - start, cpu() - begun))
np.save(asked["out"], np.stack(first))
print(json.dumps(times))
"""  # noqa: E501


def theirs(python: str, method: str, path: Path, grid: TileGrid, level: int, down: float, folder: Path):
    """Return times and first tiles of a method; or why there are none."""
    asked = {
        "path": str(path), "level": level, "down": down, "px": grid.tile_px, "rounds": ROUNDS, "compared": COMPARED,
        "corners": grid.coords.tolist(), "out": str(folder / "tiles.npy"),
    }  # fmt: skip
    (folder / "asked.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [python, "-c", HEAD + method + TIMED, str(folder / "asked.json")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended"])[-1]
        return ("not installed" if "ModuleNotFoundError" in last else last[:100]), None
    return json.loads(done.stdout.splitlines()[-1]), np.load(folder / "tiles.npy")


def processor() -> float:
    """Return the processor's seconds of this process and of all that it started, which a server of ours may own."""
    me = psutil.Process()
    return sum(sum(each.cpu_times()[:4]) for each in [me, *me.children(recursive=True)])


def own(path: Path, grid: TileGrid):
    """Return our times and first tiles."""
    times, first = [], []
    for counted in [False] + [True] * ROUNDS:
        start, begun = time.perf_counter(), processor()
        for place, tile in enumerate(ours(path, grid)):
            if not counted and place < COMPARED:
                first.append(np.array(tile))
        if counted:
            times.append((time.perf_counter() - start, processor() - begun))
    return times, np.stack(first)


def report(path: Path, peers: str) -> None:
    """Print the rows of one slide."""
    with open_slide(path) as slide:
        grid = tile_grid(slide, Tiling())
        wanted = grid.tile_level0_px / grid.tile_px
        level = int(np.argmin([abs(each - wanted) for each in slide.downsamples]))
        down = slide.downsamples[level]
    print(f"{path.name}: {len(grid.coords)} tiles of {grid.tile_px} px, level {level} ({down:g}x)")
    if abs(down - wanted) > 0.01:
        print("  no level has these tiles: all would resample, each in its way")
        return
    mine, pixels = own(path, grid)
    rows = {"ours": (mine, pixels)}
    with tempfile.TemporaryDirectory() as folder:
        for name, method in METHODS.items():
            python = sys.executable if name in ("openslide", "ours, within the process") else peers
            rows[name] = theirs(python, method, path, grid, level, down, Path(folder))
        rows["TRIDENT's loop"] = theirs(sys.executable, TRIDENT, path, grid, level, down, Path(folder))
    clock, cpu = (statistics.median(part) for part in zip(*mine, strict=True))
    for name, (times, found) in rows.items():
        if isinstance(times, str):
            print(f"  {name:28} {times}")
            continue
        wall, used = (statistics.median(part) for part in zip(*times, strict=True))
        apart = np.abs(found.astype(np.int16) - pixels).mean()
        print(
            f"  {name:28}{len(grid.coords) / wall:8.0f} tiles/s{wall / clock:7.2f}x  processor {used:6.2f} s"
            f"{used / cpu:7.2f}x   from ours by {apart:.3f} on average"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=sys.executable, help="Python that has fastslide and dlup")
    parser.add_argument("--slide", type=Path, action="append", help="a slide of yours")
    options = parser.parse_args()
    print(machine("openslide-python", "openslide-bin"), flush=True)
    for path in options.slide or ():
        report(path, options.peers)
    if options.slide:
        return
    with tempfile.TemporaryDirectory() as folder:
        for mpp, repeats in ((0.25, 4), (0.5, 2)):
            path = Path(folder) / f"{mpp}.tif"
            write_pyramid(path, strips(mpp, repeats), mpp=mpp)
            report(path, options.peers)


if __name__ == "__main__":
    main()
