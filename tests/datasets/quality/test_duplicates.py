"""Images that stand twice are found however they were saved again, and those of different patients are not."""

import time

import cv2
import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.images.radiographs import read_radiograph
from clinvit.datasets.quality import duplicates as search
from clinvit.datasets.quality.duplicates import duplicates
from clinvit.datasets.quality.looks import Looks, look_at


def scene(rng) -> np.ndarray:
    """(96, 120) uint8: blobs over a shape that all images share."""
    y, x = np.mgrid[:96, :120] / 96
    pixels = 90 + 60 * np.exp(-((x - 0.4) ** 2 + (y - 0.5) ** 2) / 0.1) + 50 * (x > 0.9)
    for _ in range(60):
        cx, cy, width, height = rng.uniform(0, 1.25), rng.uniform(0, 1), rng.uniform(0.02, 0.1), rng.normal(0, 40)
        pixels += height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
    return (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def cropped(pixels: np.ndarray, share: float) -> np.ndarray:
    top, left = (int(side * share) for side in pixels.shape)
    return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]


COPIES = {
    "re-encoded": lambda p: jpeg(p, 40),
    "half": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "double": lambda p: cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "brighter": lambda p: (p.astype(int) + 35).clip(0, 255).astype(np.uint8),
    "less contrast": lambda p: (128 + 0.7 * (p - 128.0)).astype(np.uint8),
    "gamma": lambda p: (255 * (p / 255) ** 1.3).astype(np.uint8),
    "float": lambda p: (p / np.float32(255)).astype(np.float32),
    "colour": lambda p: np.repeat(p[..., None], 3, axis=2),
    "cropped by 2 %": lambda p: cropped(p, 0.02),
    "marked": lambda p: cv2.rectangle(p.copy(), (2, 2), (9, 9), 255, -1),
}


def looked(images) -> Looks:
    looks = Looks()
    for row, pixels in enumerate(images):
        looks.add(row, look_at(pixels))
    return looks


def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found(copy, hashed, monkeypatch):
    monkeypatch.setattr(search, "ALL_PAIRS", 0 if hashed else 10**6)
    rng = np.random.default_rng(1)
    images = [scene(rng) for _ in range(60)]
    images += [COPIES[copy](pixels) for pixels in images[:20]]
    found = duplicates(looked(images), names(80))
    true = (found["b"] - found["a"] == 60).to_numpy()
    assert true.all() and true.sum() >= (18 if copy.startswith("cropped") else 20)
    assert not found["equal"].any() and (found["likeness"] >= search.ALIKE).all()


def test_equal_images_and_their_groups():
    rng = np.random.default_rng(0)
    first, second = scene(rng), scene(rng)
    images = [first, second, first.copy(), jpeg(first, 50), first.copy(), np.zeros_like(first), np.zeros_like(first)]
    found = duplicates(looked(images), names(7))
    rows = [(row.a, row.b, row.equal) for row in found.itertuples()]
    # Flat images are alike only where they are equal; the near one stands with the first of the equal ones.
    assert rows == [(0, 2, True), (0, 4, True), (5, 6, True), (0, 3, False)]
    assert duplicates(Looks(), []).empty and duplicates(looked([first]), names(1)).empty


def test_images_of_one_patient_are_no_pair_unless_they_are_equal():
    rng = np.random.default_rng(0)
    first = scene(rng)
    found = duplicates(looked([first, first.copy(), jpeg(first, 50), scene(rng)]), ["a", "a", "a", "b"])
    assert found[["a", "b", "equal"]].to_numpy().tolist() == [[0, 1, True]]


def test_clips_that_share_a_scene():
    rng = np.random.default_rng(0)
    clips = [np.stack([scene(rng)] * 8) + rng.integers(0, 9, (8, 96, 120)).astype(np.uint8) for _ in range(6)]
    clips.append(np.concatenate([clips[0][:3], clips[3][3:6]]))
    found = duplicates(looked(clips), names(7))
    assert {(row.a, row.b) for row in found.itertuples()} == {(0, 6), (3, 6)}
    assert duplicates(looked([clips[0], clips[0][:-1]]), names(2))["equal"].tolist() == [False]


def test_the_cost_grows_with_the_number_not_with_its_square():
    rng = np.random.default_rng(0)
    count, twice = 20_000, 100
    looks = Looks()
    base = rng.normal(0, 1, (143,)).astype(np.float32)
    for row in range(count):
        small = rng.integers(-60, 61, 64 * 64).astype(np.int8).reshape(64, 64)
        looks.rows.append(row)
        looks.digests.append(row.to_bytes(16, "big"))
        looks.owners.append(row)
        looks.small.append(small)
        looks.waves.append(base + rng.normal(0, 1, 143).astype(np.float32))
    for row in range(twice):
        looks.small[count - 1 - row] = looks.small[row] + rng.integers(-3, 4, (64, 64)).astype(np.int8)
        looks.waves[count - 1 - row] = looks.waves[row] + rng.normal(0, 0.1, 143).astype(np.float32)
    start = time.monotonic()
    found = duplicates(looks, np.arange(count).astype(str))
    assert {(row.a, row.b) for row in found.itertuples()} == {(row, count - 1 - row) for row in range(twice)}
    assert time.monotonic() - start < 60  # 3 s alone on one core; 200 million pairs would take many minutes


@pytest.mark.slow
def test_on_real_radiographs(shared_data):
    """Every fifth of 750 X-rays, and copies of half of these: no two patients are taken for one image."""
    table = pd.read_csv(shared_data / "cxr14/labels.csv", dtype=str).iloc[::5]
    images = [(read_radiograph(shared_data / "cxr14" / path) * 255).round().astype(np.uint8) for path in table["path"]]
    copies = [COPIES[copy] for copy in ("re-encoded", "half", "brighter", "gamma", "cropped by 2 %")]
    images += [copies[i % 5](images[i]) for i in range(75)]
    found = duplicates(looked(images), names(225))
    assert ((found["b"] - found["a"]) == 150).all() and len(found) >= 73
