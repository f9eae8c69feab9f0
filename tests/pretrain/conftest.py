"""Small slides with their tiles."""

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.slides.hdf5 import write_tiles
from clinvit.datasets.slides.tiles import TileGrid

TILE = 32


@pytest.fixture
def slide_cohort(tmp_path):
    """Six small slides of 24 tiles, half of them with label 1, their tile files and manifest; one has no tiles."""
    tifffile = pytest.importorskip("tifffile")
    rng, rows = np.random.default_rng(0), []
    for i in range(7):
        name = f"s{i}"
        pixels = rng.normal((200, 120 + 60 * (i % 2), 180), 20, (128, 192, 3)).clip(0, 255).astype(np.uint8)
        scale = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"} if i else {}
        options = {"tile": (64, 64), "photometric": "rgb", "compression": "deflate", "metadata": None}
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, **options, **scale)
        corners = [(x, y) for y in range(0, 128, TILE) for x in range(0, 192, TILE)]
        grid = TileGrid(
            np.array(corners, np.int64), np.ones(24, np.float32), TILE, TILE * 0.5, 0.0, TILE, 0.5, 192, 128
        )  # fmt: skip
        if i < 6:
            write_tiles(tmp_path / "tiles" / f"{name}.h5", grid)
        rows.append((name, f"{name}.tif", f"p{i}", "train", i % 2, "" if i else "0.5"))
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor", "mpp"])
    table.to_csv(tmp_path / "manifest.csv", index=False)
    return read_manifest(tmp_path / "manifest.csv", ["tumor"]), tmp_path / "tiles"
