"""Stain normalisation: slides of other laboratories brought to one look (Macenko et al. 2009; Reinhard et al. 2001).

A `Normaliser` is estimated from the pixels of a whole slide's tissue (stable, the default) or of every tile by
itself (Self-ViT-MIL). Applying it is a 3 x 3 matrix between two element-wise functions.
"""

import numpy as np

from ...core.errors import DataError
from .reading import Slide
from .settings import Stain
from .tiles import TileGrid

# Self-ViT-MIL, `normalize_staining.py`: transmitted light, least optical density of a stained pixel, percentile of
# angles, and the stain vectors (haematoxylin, eosin) and densities to reach.
LIGHT, LEAST_DENSITY, PERCENTILE = 240.0, 0.15, 1.0
REFERENCE_STAINS = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
REFERENCE_DENSITIES = np.array([1.9705, 1.0308])

_DENSITY = -np.log((np.arange(256) + 1) / LIGHT)
_LEAST_PX = 100
# Sine of the least angle between two stain vectors; nearer ones are one stain and noise.
_LEAST_SINE = 0.02
_LEAST_STD = 1e-6
_ADVICE = "Estimate per slide (stain.scope slide), ask for more tissue (min_tissue), or use stain.method none."
_SAMPLE_TILES, _SAMPLE_PX_PER_TILE = 64, 4000

# Reinhard et al., equations 4 and 6: RGB to cone responses, and their logarithms to decorrelated axes.
_RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_LMS_TO_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
# Measured on the tissue of OpenSlide's public test slide CMU-1-Small-Region after Macenko normalisation, so that
# both methods lead to the same look.
REFERENCE_MEAN = np.array([8.4988, -0.0958, 0.0389])
REFERENCE_STD = np.array([0.5437, 0.0804, 0.0204])


class Normaliser:
    """Turns tiles of one slide into normalised tiles; may be pickled."""

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Normalise.

        Args:
            tile: (..., 3) uint8 RGB.

        Returns:
            The same shape, uint8.

        Raises:
            DataError: Estimated per tile, from a tile with too little stain.
        """
        return tile


class Macenko(Normaliser):
    """Macenko et al.: optical densities unmixed into two stains, rescaled, mixed with the reference stains.

    Args:
        pixels: (N, 3) uint8 to estimate from.
        what: Named in messages.

    Raises:
        DataError: Fewer than 100 stained pixels, or only one stain.
    """

    def __init__(self, pixels: np.ndarray, what: str):
        density = _DENSITY[pixels]
        stains = _stain_vectors(_stained(pixels, what), what)
        unmix = np.linalg.pinv(stains)
        greatest = np.percentile(unmix @ density.T, 100 - PERCENTILE, axis=1)
        if not (greatest > 0).all():
            raise DataError(f"{what}: its pixels do not show two stains. {_ADVICE}")
        mix = REFERENCE_STAINS @ np.diag(REFERENCE_DENSITIES / greatest) @ unmix
        self._mix = (-mix.T).astype(np.float32)

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Normalise a tile (h, w, 3) uint8."""
        light = np.exp(_DENSITY.astype(np.float32)[tile].reshape(-1, 3) @ self._mix)
        light *= np.float32(LIGHT)
        light[light > 255] = 254  # as in the original
        return light.astype(np.uint8).reshape(tile.shape)


class Reinhard(Normaliser):
    """Reinhard et al.: mean and standard deviation of three decorrelated axes of log colour brought to a reference.

    Args:
        pixels: (N, 3) uint8 to estimate from; those without stain do not count.
        what: Named in messages.

    Raises:
        DataError: Fewer than 100 stained pixels, or all alike.
    """

    def __init__(self, pixels: np.ndarray, what: str):
        mean, std = log_colour_statistics(pixels, what)
        if not (std > _LEAST_STD).all():
            raise DataError(f"{what}: its pixels are all alike. {_ADVICE}")
        to_log = np.linalg.inv(_LMS_TO_LAB)
        gain = REFERENCE_STD / std
        self._matrix = (to_log @ np.diag(gain) @ _LMS_TO_LAB).T.astype(np.float32)
        self._shift = (to_log @ (REFERENCE_MEAN - gain * mean)).astype(np.float32)

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Normalise a tile (h, w, 3) uint8."""
        lms = np.log((tile.reshape(-1, 3).astype(np.float32) + 1) @ _RGB_TO_LMS.T.astype(np.float32))
        rgb = np.exp(lms @ self._matrix + self._shift) @ np.linalg.inv(_RGB_TO_LMS).T.astype(np.float32) - 1
        return np.rint(rgb.clip(0, 255)).astype(np.uint8).reshape(tile.shape)


class _PerTile(Normaliser):
    """Estimates from every tile by itself."""

    def __init__(self, kind: type[Macenko] | type[Reinhard], what: str):
        self._kind, self._what = kind, what

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Normalise a tile (h, w, 3) uint8."""
        return self._kind(tile.reshape(-1, 3), self._what)(tile)


def stain_normaliser(slide: Slide, grid: TileGrid, recipe: Stain) -> Normaliser:
    """Return the normaliser of a slide.

    Args:
        slide: The slide.
        grid: Its tiles; per slide, the estimate comes from 64 of them, evenly along the grid, always the same.
        recipe: How.

    Raises:
        DataError: The slide cannot be read, or has too little stain.
    """
    if recipe.method == "none":
        return Normaliser()
    kind = {"macenko": Macenko, "reinhard": Reinhard}[recipe.method]
    if recipe.scope == "tile":
        return _PerTile(kind, f"{slide.path}: a tile")
    count = min(_SAMPLE_TILES, len(grid.coords))
    chosen = grid.coords[np.linspace(0, len(grid.coords) - 1, count).astype(int)]
    rng = np.random.default_rng(0)
    tiles = (slide.tile(int(x), int(y), grid.tile_um, grid.tile_px).reshape(-1, 3) for x, y in chosen)
    return kind(np.concatenate([rng.choice(tile, min(len(tile), _SAMPLE_PX_PER_TILE)) for tile in tiles]), slide.path)


def log_colour_statistics(pixels: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (3,) mean and (3,) standard deviation of stained pixels (N, 3) uint8 on Reinhard's axes."""
    _stained(pixels, what)
    kept = pixels[(_DENSITY[pixels] >= LEAST_DENSITY).all(axis=1)]
    axes = np.log((kept + 1.0) @ _RGB_TO_LMS.T) @ _LMS_TO_LAB.T
    return axes.mean(axis=0), axes.std(axis=0)


def _stained(pixels: np.ndarray, what: str) -> np.ndarray:
    """Return (n, 3) densities of the pixels with stain in every channel."""
    density = _DENSITY[pixels]
    density = density[(density >= LEAST_DENSITY).all(axis=1)]
    if len(density) < _LEAST_PX:
        raise DataError(f"{what}: only {len(density)} of {len(pixels)} pixels are stained. {_ADVICE}")
    return density


def _stain_vectors(density: np.ndarray, what: str) -> np.ndarray:
    """Return (3, 2) unit vectors of haematoxylin and eosin.

    The extremes of the plane that holds most of the densities.
    """
    _, vectors = np.linalg.eigh(np.cov(density.T))
    plane = vectors[:, 1:3]
    plane = plane * np.array([1.0, 1.0 if plane[:, 1].sum() > 0 else -1.0])  # densities are positive; signs are free
    along = density @ plane
    low, high = np.percentile(np.arctan2(along[:, 1], along[:, 0]), (PERCENTILE, 100 - PERCENTILE))
    if abs(np.sin(high - low)) < _LEAST_SINE:
        raise DataError(f"{what}: all its pixels have one stain. {_ADVICE}")
    extremes = plane @ np.array([[np.cos(low), np.cos(high)], [np.sin(low), np.sin(high)]])
    return extremes if extremes[0, 0] > extremes[0, 1] else extremes[:, ::-1]
