"""Nuclei of invented slides: stamps of haematoxylin density, and where which of them lie."""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

ORIENTATIONS, VARIANTS = 12, 8
DENSITY = 100  # stored density per unit of stain


class Kind(NamedTuple):
    """How the nuclei of a kind look.

    Attributes:
        long_um, short_um: Half axes.
        size_std: Standard deviation of the size, as a share.
        irregular: How far the outline leaves the ellipse, as a share.
        stain: Mean haematoxylin.
        clumps: Contrast of the chromatin, as a share.
        rim: Stain of the membrane on top.
        nucleoli: Mean number.
    """

    long_um: float
    short_um: float
    size_std: float
    irregular: float
    stain: float
    clumps: float
    rim: float
    nucleoli: float


KINDS = {
    "spindle": Kind(6.5, 1.5, 0.18, 0.05, 1.10, 0.15, 0.1, 0.0),
    "lymphocyte": Kind(3.0, 2.8, 0.10, 0.04, 1.55, 0.25, 0.15, 0.0),
    "epithelial": Kind(4.3, 3.1, 0.10, 0.05, 1.15, 0.20, 0.2, 0.3),
    "tumour": Kind(5.2, 4.0, 0.24, 0.14, 0.82, 0.32, 0.35, 1.3),
    "hyperplastic": Kind(5.4, 4.2, 0.08, 0.03, 0.86, 0.12, 0.35, 0.3),
}


class Nuclei(NamedTuple):
    """N nuclei, sorted by y.

    Attributes:
        x, y: (N,) int, level-0 pixels.
        kind: (N,) places in `KINDS`.
        angle: (N,) radians, of the long axis.
        variant: (N,) int.
    """

    x: np.ndarray
    y: np.ndarray
    kind: np.ndarray
    angle: np.ndarray
    variant: np.ndarray


def gather(parts: list[tuple[str, np.ndarray, np.ndarray]], mpp: float, rng: np.random.Generator) -> Nuclei:
    """Return one table of all nuclei.

    Args:
        parts: (kind, (N, 2) places in µm, (N,) angles in radians) of each population.
        mpp: Microns per pixel.
        rng: For the choice of variants.
    """
    names = list(KINDS)
    places = np.concatenate([places for _, places, _ in parts])
    kind = np.concatenate([np.full(len(places), names.index(name)) for name, places, _ in parts])
    angle = np.concatenate([angle for _, _, angle in parts])
    order = np.argsort(places[:, 1], kind="stable")
    x, y = np.rint(places[order] / mpp).astype(int).T
    return Nuclei(x, y, kind[order], angle[order], rng.integers(VARIANTS, size=len(order)))


@cache
def stamps(mpp: float) -> np.ndarray:
    """Return (kinds, ORIENTATIONS, VARIANTS, S, S) uint8 of haematoxylin in 1 / DENSITY, S odd.

    The same for every slide.
    """
    rng = np.random.default_rng(0)
    return np.stack([_stamps(kind, mpp, rng) for kind in KINDS.values()])


def press(density: np.ndarray, nuclei: Nuclei, images: np.ndarray, left: int, top: int) -> None:
    """Stamp the nuclei onto a part of the slide.

    Args:
        density: (H, W) uint8, changed in place: where nuclei overlap, the denser one shows.
        nuclei: Of the slide; those that do not lie wholly within the part are left out.
        images: Of `stamps`.
        left: Level-0 column of the part's first pixel.
        top: Its row.
    """
    side = images.shape[-1]
    height, width = density.shape
    first, last = np.searchsorted(nuclei.y, [top + side // 2, top + height - side // 2])
    x, y = nuclei.x[first:last] - left - side // 2, nuclei.y[first:last] - top - side // 2
    within = np.flatnonzero((x >= 0) & (x <= width - side))
    turn = np.rint(nuclei.angle[first:last] / np.pi * ORIENTATIONS).astype(int) % ORIENTATIONS
    chosen = np.stack([nuclei.kind[first:last], turn, nuclei.variant[first:last], x, y], axis=1)[within]
    for kind, orientation, variant, column, row in chosen.tolist():
        part = density[row : row + side, column : column + side]
        np.maximum(part, images[kind, orientation, variant], out=part)


def _stamps(kind: Kind, mpp: float, rng: np.random.Generator) -> np.ndarray:
    reach = int(np.ceil(10.5 / mpp))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] * mpp
    turn = np.arange(ORIENTATIONS)[:, None, None, None] * np.pi / ORIENTATIONS
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    each = (1, VARIANTS, 1, 1)
    size = np.clip(1 + kind.size_std * rng.standard_normal(each), 0.6, 1.7)
    stretch = np.exp(0.12 * rng.standard_normal(each))
    along, across = along / (kind.long_um * size * stretch), across / (kind.short_um * size / stretch)
    angle, shape = np.arctan2(across, along), (ORIENTATIONS, VARIANTS, *x.shape)
    bumps = sum(rng.standard_normal(each) / k * np.cos(k * angle + rng.uniform(0, 6.3, each)) for k in (2, 3, 4))
    away = 1 + kind.irregular * bumps - np.hypot(along, across)  # 1 in the middle, 0 on the membrane
    depth_um = away * kind.short_um * size
    filled = np.clip(depth_um / max(mpp, 0.6) + 0.5, 0, 1)
    noise = gaussian_filter(rng.standard_normal(shape), (0, 0, 0.9 / mpp, 0.9 / mpp))
    chromatin = 1 + kind.clumps * noise / noise.std()
    density = kind.stain * np.exp(0.12 * rng.standard_normal(each)) * chromatin
    density = density + kind.rim * np.exp(-((depth_um / 0.7) ** 2))
    for _ in range(2):
        shown = rng.random(each) < kind.nucleoli / 2
        place = rng.uniform(-0.4, 0.4, (2, *each))
        far_um = np.hypot((along - place[0]) * kind.long_um, (across - place[1]) * kind.short_um)
        density = density + shown * 0.9 * np.exp(-((far_um / 1.0) ** 2))
    return np.clip(filled * density * DENSITY, 0, 255).astype(np.uint8)
