"""From the layers of a chest to an image: how the patient stands before the beam, film, noise, markers."""

import cv2
import numpy as np


def projection(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return where each pixel comes from (turn, zoom, shift, a slight smooth distortion), as cv2.remap's two maps."""
    turn, zoom = np.deg2rad(rng.normal(0, 2)), rng.uniform(0.82, 1.02)
    shift = rng.normal(0, 0.025, 2) * size + [0, 0.02 * size]
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    x, y = axis[None, :], axis[:, None]
    bumps = cv2.resize(
        rng.normal(0, 0.010 * size, (5, 5, 2)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    cos, sin = np.float32(np.cos(turn) * zoom), np.float32(np.sin(turn) * zoom)
    middle = np.float32((size - 1) / 2)
    from_x = cos * x - sin * y + bumps[..., 0] + np.float32(middle + shift[0])
    from_y = sin * x + cos * y + bumps[..., 1] + np.float32(middle + shift[1])
    return from_x, from_y


def expose(shadow: np.ndarray, view: str, rng: np.random.Generator) -> np.ndarray:
    """Apply film and reader: tone curve, uneven beam, scatter, noise, collimator and the marker of the side."""
    size = len(shadow)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    shadow = shadow + np.float32(rng.normal(0, 0.05)) * axis[None, :] + np.float32(rng.normal(0, 0.05)) * axis[:, None]
    veil = rng.uniform(0.0, 0.22) + 0.08 * (view == "AP")
    contrast = rng.uniform(0.75, 1.15) * (0.9 if view == "AP" else 1.0)
    middle = rng.uniform(0.50, 0.66)
    grey = 1 / (1 + np.exp((middle - shadow) * np.float32(4.2 * contrast)))
    # Air beside the body stays black, whatever the curve.
    grey = (veil + (1 - veil) * grey) * np.clip(shadow * 6 + 0.2, 0.02, 1)
    noise = rng.standard_normal((size, size), dtype=np.float32)
    grey += np.float32(rng.uniform(0.006, 0.02)) * cv2.GaussianBlur(noise, (0, 0), 0.6)
    image = np.clip(grey * np.float32(rng.uniform(225, 255)), 0, 255).astype(np.uint8)
    _collimate(image, rng)
    _mark_side(image, rng)
    return image


def _collimate(image: np.ndarray, rng: np.random.Generator) -> None:
    for border in (image[:, ::-1], image, image.T, image.T[:, ::-1]):
        if rng.random() < 0.12:
            border[:, : int(rng.uniform(0.01, 0.05) * len(image))] = rng.integers(0, 6)


def _mark_side(image: np.ndarray, rng: np.random.Generator) -> None:
    size = len(image)
    left = rng.random() < 0.7
    x = rng.uniform(0.86, 0.92) if left else rng.uniform(0.05, 0.10)
    at = (round(x * size), round(rng.uniform(0.07, 0.16) * size))
    thick = max(1, round(size / 190))
    cv2.putText(image, "L" if left else "R", at, cv2.FONT_HERSHEY_SIMPLEX, size / 560, 250, thick, cv2.LINE_AA)


def shown_region(region: np.ndarray, maps: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return (S, S) bool: which pixels of the image show a region of the body frame."""
    return np.asarray(cv2.remap(region, *maps, cv2.INTER_LINEAR) > 0.35)


def framed(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return the frame around a mask, in pixels; None of fewer than four."""
    rows, columns = np.nonzero(mask)
    if len(rows) < 4:
        return None
    x, y = int(columns.min()), int(rows.min())
    return float(x), float(y), float(columns.max() + 1 - x), float(rows.max() + 1 - y)
