"""Invented chest radiographs with a mask and boxes of every finding, ready to be learned: a manifest and its files.

ChestX-ray14's boxes lie on test images alone; here every split has them, and masks, which that set has not.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..core.files import written_aside
from ..datasets.manifest.boxes import BOXES, Box, write_boxes
from ..datasets.manifest.tables import write_manifest
from .chest import Body
from .exposure import framed
from .radiographs import masked_chest_phantom

SPLITS = ("train", "train", "train", "val", "test")  # of patients, in turn
PREVALENCE = {"Mass": 0.5}


def write_masked_radiographs(
    root: str | Path, *, patients: int, seed: int = 0, size: int = 128, prevalence: Mapping[str, float] = PREVALENCE
) -> Path:
    """Write `manifest.csv` with columns `mask_<label>`, `boxes.csv`, `images/` and `masks/<label>/`.

    Args:
        root: The folder to write.
        patients: Number of patients, of one image each; of five, three are for training, one for validation, one for
            testing.
        seed: Everything random follows from it.
        size: Side of the images, pixels.
        prevalence: Chance of each finding, independent of the others.

    Returns:
        The manifest.

    Raises:
        UserError: Fewer than five patients.
    """
    root = Path(root)
    if patients < len(SPLITS):
        raise UserError(f"{patients} patients: {len(SPLITS)} are needed for all splits.")
    rows, boxes = [], []
    for patient in range(patients):
        rng = np.random.default_rng((seed, patient))
        findings = [name for name, chance in prevalence.items() if rng.random() < chance]
        image, masks = masked_chest_phantom(findings, size=size, rng=rng, body=Body.draw(rng))
        case = f"p{patient:05d}"
        row = {"id": case, "path": f"images/{case}.png", "patient": case, "split": SPLITS[patient % len(SPLITS)]}
        _write_png(root / row["path"], image)
        for name in prevalence:
            box = framed(masks[name]) if name in masks else None
            row |= {name: int(box is not None), f"mask_{name}": ""}
            if box is not None:
                row[f"mask_{name}"] = f"masks/{name}/{case}.png"
                _write_png(root / row[f"mask_{name}"], masks[name].astype(np.uint8) * 255)
                boxes.append(Box(case, name, *box, size, size))
        rows.append(row)
    write_boxes(root / BOXES, boxes)
    meaning = {name: f"{name} is drawn" for name in prevalence}
    write_manifest(root / "manifest.csv", pd.DataFrame(rows), list(prevalence), meaning)
    return root / "manifest.csv"


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        aside.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
