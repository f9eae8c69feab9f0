"""Clips read whole beside clips cropped to their region of interest, where the image is a small part of the frame.

    python benchmarks/clip_roi.py [--clips 300] [--out runs/roi]

Invented eyes (normal, bilateral detachment) of 96 px, each somewhere in a frame of 320 x 240 px with a name and a scale
that stand still, as on a screen that was filmed or saved whole. The same small ViT from scratch sees 64 px of either.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from clinvit.core.files import write_text
from clinvit.eval import compare
from clinvit.finetune import finetune
from clinvit.phantoms.ocular import eye_phantom
from clinvit.tasks.erdes import recipes

HEIGHT, WIDTH, SIDE, FRAMES = 240, 320, 96, 24
DIAGNOSES = ("normal", "macula_detached_bilateral")


def screen(draw: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    """Return (T, 240, 320) frames that show a clip somewhere, and writing that does not move."""
    page = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(page, f"P{draw.integers(1e5):05d}  MI 0.9", (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 220, 1)
    page[60:220:16, 308:314] = 200
    top, left = draw.integers(22, HEIGHT - SIDE), draw.integers(4, WIDTH - SIDE - 16)
    frames = page[None].repeat(len(clip), axis=0)
    frames[:, top : top + SIDE, left : left + SIDE] = clip
    return frames


def write_clips(clips: int) -> None:
    """Write folders of frames and their manifest: 60 % to train, 10 % to choose on, 30 % to score."""
    draw, rows = np.random.default_rng(0), []
    for number in range(clips):
        label = int(draw.integers(2))
        folder = Path("clips") / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        eye = eye_phantom(DIAGNOSES[label], number, size_px=SIDE, frames=FRAMES)
        for place, frame in enumerate(screen(draw, eye)):
            cv2.imwrite(str(folder / f"{place:03d}.png"), frame)
        split = "train" if number % 10 < 6 else "val" if number % 10 == 6 else "test"
        rows.append((folder.name, str(folder), f"p{number}", split, label))
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "detachment"])
    write_text("manifest.csv", table.to_csv(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/roi"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.out)
    write_clips(asked.clips)
    whole = recipes.finetune_demo()
    clip = replace(whole.data.clip, roi="moving")
    finetune(whole, data="manifest.csv", out="whole")
    finetune(replace(whole, data=replace(whole.data, clip=clip)), data="manifest.csv", out="cropped")
    print(compare("cropped", "whole").table().to_string())
