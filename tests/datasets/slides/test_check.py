"""`check` of slides: one that stands twice is known by its overview, whatever the file."""

import numpy as np
import pandas as pd
from clinvit.cli import main


def test_a_slide_that_stands_twice(tmp_path, tiff, capsys):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        coarse = rng.integers(60, 250, (24, 32, 3)).astype(np.uint8)
        if number == 11:
            coarse = np.random.default_rng(0).integers(60, 250, (24, 32, 3)).astype(np.uint8) - 9  # the first, darker
        tiff(tmp_path / f"{number}.tif", np.kron(coarse, np.ones((16, 16, 1), np.uint8)))
        rows.append((number, f"{number}.tif", f"p{number}", "train" if number < 8 else "val", number % 2))
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"]).to_csv(tmp_path / "m.csv", index=False)
    for options in ([], ["--files", "1", "--duplicates", str(tmp_path / "pairs.csv")]):
        assert main(["check", "slides", str(tmp_path / "m.csv"), *options]) == 0
        said = capsys.readouterr().out
        assert "1 pair of cases of different patients" in said and "0 (train) = 11 (val)" in said
        assert "different labels, first 0 and 11 (tumor)" in said
    assert len(pd.read_csv(tmp_path / "pairs.csv")) == 1
