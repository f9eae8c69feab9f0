"""Smooth random maps and repeating textures: what the anatomy of an invented slide is drawn from."""

from functools import cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

CELL_UM = 8.0  # of the maps of a whole slide
TEXTURE_PX = 1024  # after so many pixels a texture repeats


def smooth(shape: tuple[int, int], wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W) float32 noise of mean 0 and variance about 1, `wavelength` pixels from crest to crest."""
    step = max(1.0, wavelength / 8)  # drawn coarsely, then enlarged
    coarse = [int(np.ceil(side / step)) + 2 for side in shape]
    sigma = wavelength / step / 4
    drawn = gaussian_filter(rng.standard_normal(coarse), sigma, mode="wrap") * (2 * np.sqrt(np.pi) * sigma)
    matrix = np.array([[1 / step, 0, 0.5], [0, 1 / step, 0.5]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(drawn.astype(np.float32), matrix, shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def star(radius: float, roughness: float, points: int, rng: np.random.Generator) -> np.ndarray:
    """Return (points, 2) of a closed, rounded, irregular outline around 0 with this mean radius."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    orders = np.arange(2, 9)
    waves = rng.standard_normal((2, len(orders))) / orders
    ripple = waves[0] @ np.cos(np.outer(orders, angle)) + waves[1] @ np.sin(np.outer(orders, angle))
    reach = radius * np.clip(1 + roughness * ripple, 0.35, 1.9)
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)


def scattered(width: float, height: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Return (N, 2) points over a rectangle about `pitch` apart: a hexagonal grid, shaken."""
    rows = np.arange(-pitch, height + pitch, pitch * 0.87)
    columns = np.arange(-pitch, width + pitch, pitch)
    x = columns[None] + pitch / 2 * (np.arange(len(rows)) % 2)[:, None]
    grid = np.stack([x, np.broadcast_to(rows[:, None], x.shape)], axis=-1).reshape(-1, 2)
    return grid + rng.uniform(-0.33, 0.33, grid.shape) * pitch


@cache
def fibres(mpp: float) -> np.ndarray:
    """Make collagen running along x: (2 TEXTURE_PX, 2 TEXTURE_PX) uint8 of which each quarter is the same."""
    fx, fy = np.meshgrid(*(np.fft.fftfreq(TEXTURE_PX, mpp),) * 2)  # cycles per µm
    bundles = np.exp(-((fx * 34) ** 2) - ((np.abs(fy) - 0.05) / 0.035) ** 2)
    threads = np.exp(-((fx * 14) ** 2) - ((np.abs(fy) - 0.15) / 0.08) ** 2)
    return _texture(bundles / np.linalg.norm(bundles) + threads / np.linalg.norm(threads), 0)


@cache
def grain(mpp: float) -> np.ndarray:
    """Make what cytoplasm is like at close sight, some 3 µm from crest to crest: as `fibres`, without direction."""
    fx, fy = np.meshgrid(*(np.fft.fftfreq(TEXTURE_PX, mpp),) * 2)
    return _texture(np.exp(-np.hypot(fx, fy) * 3.2), 1)


@cache
def scanner_noise() -> np.ndarray:
    """Return (2 TEXTURE_PX, 2 TEXTURE_PX, 3) int8 grey values, repeating as the others do."""
    noise = np.random.default_rng(2).normal(0, 1.3, (TEXTURE_PX, TEXTURE_PX, 3))
    return np.tile(np.rint(noise).clip(-4, 4).astype(np.int8), (2, 2, 1))


def _texture(spectrum: np.ndarray, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(spectrum.shape)
    noise = np.fft.ifft2(np.fft.fft2(drawn) * spectrum).real
    once = np.clip(128 + 48 * (noise - noise.mean()) / noise.std(), 0, 255).astype(np.uint8)
    return np.tile(once, (2, 2))
