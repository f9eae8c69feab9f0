"""The moving sector of ultrasound clips is found, and all that is written around it goes black."""

import csv

import cv2
import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.video.clips import read_clip
from clinvit.datasets.video.overlay import black_out, moving_region

HEIGHT, WIDTH = 240, 320


def fan(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W) True in the sector of a convex probe."""
    y, x = np.mgrid[:height, :width]
    y, x = y - 0.02 * height, x - width / 2
    radius, angle = np.hypot(x, y), np.abs(np.arctan2(x, y))
    return (radius > 0.2 * height) & (radius < 0.85 * height) & (angle < 0.6)


def box() -> np.ndarray:
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[40:200, 60:260] = True
    return region


def written() -> np.ndarray:
    """(H, W) levels of a name, a logo and a scale that stand still."""
    page = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(page, "DOE JANE 12.03.1956", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1)
    cv2.putText(page, "7 cm", (280, 230), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 200, 1)
    page[60:180:12, 310:316] = 255
    page[60:180, 4:10] = np.linspace(255, 0, 120, dtype=np.uint8)[:, None]
    return page


def scan(sector: np.ndarray, count: int = 20, noise: float = 0, seed: int = 0) -> np.ndarray:
    """(T, H, W) moving speckle in a sector, with the writing around it, and compression noise everywhere."""
    draw = np.random.default_rng(seed)
    speckle = draw.gamma(2, 30, (HEIGHT + 3 * count, WIDTH))
    frames = []
    for number in range(count):
        frame = np.where(sector, speckle[3 * number : 3 * number + HEIGHT], np.where(sector, 0, written()))
        frames.append(frame + draw.normal(0, noise, frame.shape) if noise else frame)
    return np.clip(frames, 0, 255).astype(np.uint8)


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    return (found & true).sum() / (found | true).sum()


@pytest.mark.parametrize("sector", [fan(), box()], ids=["fan", "box"])
@pytest.mark.parametrize("noise", [0, 1.5])
@pytest.mark.parametrize("colour", [False, True])
def test_the_sector_is_found_and_the_writing_goes(sector, noise, colour):
    frames = scan(sector, noise=noise)
    frames = frames[..., None].repeat(3, axis=3) if colour else frames
    region = moving_region(frames)
    assert region.dtype == bool
    assert overlap(region, sector) > 0.9
    text = (written() > 0) & ~sector
    clean = black_out(frames, region)
    assert clean.shape == frames.shape
    assert clean.dtype == np.uint8
    assert not clean[:, text].any()
    assert np.array_equal(clean[:, region], frames[:, region])
    assert not np.shares_memory(clean, frames)


def test_a_sector_that_fluid_parts_stays_whole():
    sector = fan()
    frames = scan(sector)
    frames[:, 90:140] = np.where(sector[90:140], 0, frames[:, 90:140])
    assert overlap(moving_region(frames), sector) > 0.9


def test_a_clock_and_a_trace_beside_the_sector_are_not_kept():
    sector = fan()
    frames = scan(sector)
    for number, frame in enumerate(frames):
        cv2.putText(frame, f"10:42:{number:02d}", (240, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
        frame[225 + number % 8, 20:120] = 255
    region = moving_region(frames)
    assert overlap(region, sector) > 0.9
    assert not region[:20].any()
    assert not region[224:].any()


@pytest.mark.parametrize("count", [1, 2, 50])
def test_without_motion_nothing_can_be_told(count):
    frames = np.repeat(scan(fan(), 1), count, axis=0)
    with pytest.raises(DataError, match="no moving region"):
        moving_region(frames)


def test_long_clips_are_looked_at_all_over():
    sector = box()
    still = np.repeat(scan(sector, 1), 300, axis=0)
    still[-60:] = scan(sector, 60, seed=1)
    assert overlap(moving_region(still), sector) > 0.9


def test_real_clips_have_a_moving_region(shared_data):
    with (shared_data / "pocus" / "manifest.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))[::6]
    for row in rows:
        frames = read_clip(shared_data / "pocus" / row["path"], shorter_px=128)
        region = moving_region(frames)
        changing = frames.std(axis=0) > 10
        assert region[changing].mean() > 0.95, row["path"]  # next to nothing that moves is lost
        assert region.mean() > 0.3, row["path"]
