"""What lies where on an invented slide: tissue, fat, lymphoid follicles, glands and tumour, in microns."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import Voronoi

from .histology_fields import CELL_UM, scattered, smooth, star
from .histology_nuclei import Nuclei, gather

EPITHELIUM_UM = 17.0
MIMICS = 0.35  # std above the mean from which a smooth map holds benign nests: about a third of the tissue
WAVE_UM = 110.0  # how far fibres swing to either side


class Shapes:
    """N outlines and the boxes around them, to find those of one part of a slide."""

    def __init__(self, outlines: list[np.ndarray]):
        self.outlines = outlines
        self.low = np.array([outline.min(axis=0) for outline in outlines]).reshape(-1, 2)
        self.high = np.array([outline.max(axis=0) for outline in outlines]).reshape(-1, 2)

    def near(self, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
        """Return those that may reach into the box from `low` to `high` (x, y in µm)."""
        touching = (self.high >= low).all(axis=1) & (self.low <= high).all(axis=1)
        return [self.outlines[number] for number in np.flatnonzero(touching)]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One slide. Maps are (H, W) float32, a value per CELL_UM x CELL_UM; outlines are (K, 2), x and y in µm.

    Attributes:
        tissue: Above 0 where there is tissue, 1 deep within.
        follicle: Likewise, of lymphoid follicles.
        nests: Above 0 where tumour cells lie in the tumour.
        eosin: How strongly the stroma takes eosin, about 1.
        swing: (2, H, W), the x and y in µm by which fibres leave the straight.
        glands: Their outlines.
        openings: What is empty: lumina of glands and nests, fat cells.
        tumour, spared: Outlines of the tumour regions, and of healthy islands in them.
        nuclei: All nuclei.
    """

    tissue: np.ndarray
    follicle: np.ndarray
    nests: np.ndarray
    eosin: np.ndarray
    swing: np.ndarray
    glands: Shapes
    openings: Shapes
    tumour: list[np.ndarray]
    spared: list[np.ndarray]
    nuclei: Nuclei


def draw_anatomy(
    width_um: float, height_um: float, mpp: float, tumours: int, rng: np.random.Generator, mimics: bool = False
) -> Anatomy:
    """Make a slide with so many tumour regions (fewer where there is no room, but one at least if any is asked for).

    With `mimics` there are benign nests too, as dense and dark as the tumour's: only their nuclei are regular.
    """
    shape = int(np.ceil(height_um / CELL_UM)) + 1, int(np.ceil(width_um / CELL_UM)) + 1
    tissue = _islands(shape, rng)
    tumour, spared = _tumours(tissue, tumours, rng)
    diseased = filled(shape, tumour) & ~filled(shape, spared)
    swing = np.stack([smooth(shape, wave / CELL_UM, rng) * WAVE_UM * share for wave, share in ((400, 0.4), (800, 1.0))])
    cellular = smooth(shape, 420 / CELL_UM, rng)
    # Follicles are as dark as tumour. There are more of them without it, so that darkness does not tell.
    quiet = rng.uniform(0.9, 1.6) - 0.25 * (not tumour)
    follicle = np.where(diseased, -1, smooth(shape, 340 / CELL_UM, rng) - quiet).astype(np.float32)
    adipose = (smooth(shape, 600 / CELL_UM, rng) - tissue > 0.25) & (tissue > 0.03) & ~diseased & (follicle < -0.2)
    room = (tissue > 0.12) & ~filled(shape, tumour, grow_um=20) & ~adipose & (follicle < -0.25) & (cellular > -0.35)
    room |= filled(shape, spared) & (tissue > 0.12)
    glands, lumina, lining = _glands(shape, room, rng)
    fat = _fat(shape, adipose & ~filled(shape, glands, grow_um=10), rng)
    nests = _nests(shape, diseased & (tissue > 0.05), rng)
    lumina += _slits(shape, nests, rng)
    taken = filled(shape, glands + fat)
    benign = np.full(shape, -1, np.float32)
    if mimics:
        room = (tissue > 0.05) & ~filled(shape, tumour, grow_um=40) & ~taken & (follicle < -0.15)
        benign = _nests(shape, room & (smooth(shape, 260 / CELL_UM, rng) > MIMICS), rng)
        lumina += _slits(shape, benign, rng)
    return Anatomy(
        tissue=tissue,
        follicle=follicle,
        nests=np.maximum(nests, benign),
        eosin=1 + 0.16 * smooth(shape, 300 / CELL_UM, rng),
        swing=swing,
        glands=Shapes(glands),
        openings=Shapes(lumina + fat),
        tumour=tumour,
        spared=spared,
        nuclei=gather([*_populations(shape, tissue, follicle, nests, benign, taken, swing, rng), lining], mpp, rng),
    )


def filled(shape: tuple[int, int], outlines: list[np.ndarray], grow_um: float = 0) -> np.ndarray:
    """Return (H, W) bool: the cells of the map that outlines (µm) cover, or come this near to."""
    mask = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [np.rint(outline / CELL_UM - 0.5).astype(np.int32)], 1)
    if grow_um:
        side = 2 * round(grow_um / CELL_UM) + 1
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return mask.astype(bool)


def _on(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return (N,) values of a map at (N, 2) places in µm; the nearest where a place is outside."""
    column, row = np.clip((places / CELL_UM).astype(int), 0, np.array(values.shape[::-1]) - 1).T
    return values[row, column]


def _islands(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    count = int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25]))
    lengthwise = width >= height
    field = np.full(shape, -9, np.float32)
    for number in range(count):
        along, across = (number + 0.5) / count + rng.normal(0, 0.03), 0.5 + rng.normal(0, 0.05)
        cx, cy = (along * width, across * height) if lengthwise else (across * width, along * height)
        rx, ry = (width / count, height) if lengthwise else (width, height / count)
        rx, ry = 0.43 * rx * rng.uniform(0.85, 1), 0.41 * ry * rng.uniform(0.8, 1)
        field = np.maximum(field, 1 - np.hypot((x - cx) / rx, (y - cy) / ry))
    least = min(shape)
    field += 0.10 * smooth(shape, 0.30 * least, rng) + 0.035 * smooth(shape, 0.09 * least, rng)
    border = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / least
    ragged = 0.15 * smooth(shape, 0.15 * least, rng).clip(-1.5, 1.5)
    return np.minimum(field, 8 * (border - 0.05) + ragged)  # the section lies wholly on the glass


def _tumours(tissue: np.ndarray, count: int, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    tumour, spared = [], []
    taken: list[np.ndarray] = []
    depth = _within_um(tissue > 0.03)
    deepest = float(depth.max())
    for _ in range(40 * count):
        radius = deepest * rng.uniform(0.25, 0.8)
        rows, columns = np.nonzero(depth > 0.7 * radius)
        pick = rng.integers(len(rows))
        centre = (np.array([columns[pick], rows[pick]]) + 0.5) * CELL_UM
        if any(np.hypot(*(centre - other)) < 1.3 * (radius + reach) + 100 for other, reach in taken):
            continue
        taken.append((centre, radius))
        tumour.append(_clipped(centre + star(radius, 0.30, 160, rng), tissue))
        if radius > 220 and rng.random() < 0.5:
            away = star(radius * 0.35, 0, 8, rng)[rng.integers(8)]
            spared.append(centre + away + star(radius * rng.uniform(0.2, 0.28), 0.15, 60, rng))
        if len(tumour) == count:
            break
    return tumour, spared


def _clipped(outline: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Return (K, 2) µm: the largest part of an outline's area that is on tissue, smoothed as a hand would draw it."""
    mask = (filled(tissue.shape, [outline]) & (tissue > 0)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)[:, 0].astype(np.float64)
    return (gaussian_filter1d(largest, 2.0, axis=0, mode="wrap")[::2] + 0.5) * CELL_UM


def _within_um(mask: np.ndarray) -> np.ndarray:
    """Return (H, W): how far inside the edge of a mask, 0 outside."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) * CELL_UM


def _fat(shape: tuple[int, int], room: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Make fat cells: what a shaken grid leaves of the plane between neighbours, less a thin wall."""
    places = scattered(shape[1] * CELL_UM, shape[0] * CELL_UM, 58.0, rng)
    cells = Voronoi(places)
    found = []
    for place in np.flatnonzero(_on(room, places)):
        corners = cells.regions[cells.point_region[place]]
        if corners and -1 not in corners:
            found.append(_rounded(cells.vertices[corners], wall_um=2.2))
    return [cell for cell in found if _on(room, cell).all()]


def _rounded(corners: np.ndarray, wall_um: float) -> np.ndarray:
    """Return (64, 2): a convex polygon made smaller by the wall, its corners rounded."""
    middle = corners.mean(axis=0)
    order = np.argsort(np.arctan2(*(corners - middle).T[::-1]))
    outline = _spaced(corners[order], 1.0)
    outline = gaussian_filter1d(outline, 9.0, axis=0, mode="wrap")[:: max(1, len(outline) // 64)]
    away = outline - middle
    return middle + away * (1 - wall_um / np.hypot(*away.T).mean())


def _glands(shape: tuple[int, int], room: np.ndarray, rng: np.random.Generator):
    """Return outlines, lumina, and the nuclei that line them (a population as `gather` takes it)."""
    outlines, lumina, places, angles = [], [], [np.zeros((0, 2))], [np.zeros(0)]
    for centre in scattered(shape[1] * CELL_UM, shape[0] * CELL_UM, 84, rng):
        radius = rng.uniform(25, 45)
        if not _on(room, centre + star(radius, 0, 8, rng)).all():
            continue
        shift = rng.uniform(0.82, 1.2), rng.uniform(0.82, 1.2)
        outline = centre + star(radius, 0.13, 72, rng) * shift
        outlines.append(outline)
        lumina.append(centre + (outline - centre) * (1 - EPITHELIUM_UM / radius))
        for depth_um, spacing_um in ((5.5, 7.0), (12.0, 16.0)):  # a row of nuclei at the base, some above
            ring = centre + (outline - centre) * (1 - depth_um / radius)
            found = _spaced(ring, spacing_um) + rng.normal(0, 1.0, 2)
            places.append(found + rng.normal(0, 0.8, found.shape))
            angles.append(np.arctan2(*(found - centre).T[::-1]) + rng.normal(0, 0.2, len(found)))
    return outlines, lumina, ("epithelial", np.concatenate(places), np.concatenate(angles))


def _spaced(outline: np.ndarray, spacing: float) -> np.ndarray:
    """Return points along a closed outline, `spacing` apart."""
    closed = np.vstack([outline, outline[:1]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.arange(0, length[-1] - spacing / 2, spacing)
    return np.stack([np.interp(at, length, closed[:, axis]) for axis in (0, 1)], axis=1)


def _nests(shape: tuple[int, int], room: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W) float32, above 0 where cells lie in nests within the room."""
    nests = smooth(shape, 95 / CELL_UM, rng) + 0.5 * smooth(shape, 45 / CELL_UM, rng) + 0.75
    return np.minimum(nests, _within_um(room) / 30 - 0.6).astype(np.float32)


def _slits(shape: tuple[int, int], nests: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Make the few small lumina that tumour forms."""
    places = scattered(shape[1] * CELL_UM, shape[0] * CELL_UM, 150, rng)
    places = places[_on(nests, places) > 0.6]
    return [place + star(rng.uniform(5, 11), 0.35, 24, rng) for place in places]


def _populations(shape, tissue, follicle, nests, benign, taken, swing, rng) -> list[tuple[str, np.ndarray, np.ndarray]]:
    width, height = shape[1] * CELL_UM, shape[0] * CELL_UM
    inside = (tissue > 0.02) & ~taken
    healthy = inside & (nests <= 0) & (benign <= 0)
    everywhere = [
        ("spindle", 21.0, 0.62 * (healthy & (follicle < 0))),
        ("lymphocyte", 26.0, 0.30 * (inside & (follicle < 0))),
        ("lymphocyte", 7.2, 0.88 * (healthy & (follicle > 0)) + 0.35 * (healthy & (follicle > -0.15))),
        ("tumour", 11.5, 0.88 * (inside & (nests > 0.05))),
    ]
    if (benign > 0.05).any():
        everywhere.append(("hyperplastic", 11.5, 0.88 * (inside & (benign > 0.05))))
    fibre = _directions(swing)
    found = []
    for kind, pitch, chance in everywhere:
        places = scattered(width, height, pitch, rng)
        places = places[rng.random(len(places)) < _on(chance, places)]
        turn = _on(fibre, places) + rng.normal(0, 0.15, len(places))
        found.append((kind, places, turn if kind == "spindle" else rng.uniform(0, np.pi, len(places))))
    return found


def _directions(swing: np.ndarray) -> np.ndarray:
    """Return (H, W) angle of the fibres, which lie where y + swing[1] is constant."""
    down, along = np.gradient(swing[1], CELL_UM)
    return np.arctan2(-along, 1 + down)
