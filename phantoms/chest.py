"""An invented chest: a patient's anatomy (`Body`) and its layers before exposure (`Chest`).

Everything lives in a body frame: x and y run from -1 to 1 over the raster, y downwards, and negative x is the
patient's right, which a frontal radiograph shows on the left. Borders are one-dimensional curves (`wall(y)`,
`dome(x)`, `left(y)`), so that most shapes are one broadcast of a row against a column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

SHIFT = 4  # cv2 draws at 1/16 pixel
LEFT, RIGHT = 1.0, -1.0  # the patient's sides, as the sign of x


@dataclass(frozen=True)
class Body:
    """What stays the same in every image of a patient. Lengths are in the body frame.

    Attributes:
        seed: Of everything random that belongs to the patient (vessels, where a finding sits).
        female: Breast shadows.
        width: Half width of the rib cage at its widest.
        flesh: Half width of the trunk beyond the rib cage, and how much of the beam it takes.
        apex: y of the lung tips.
        dome: y of the right diaphragm's top; the left one lies lower.
        flatness: 0 = well-rounded diaphragm, 1 = flat.
        ctr: Cardiothoracic ratio, heart width / chest width.
        knob: Width of the aortic arch's shadow.
        ribs: How much the ribs add to the shadow.
        bend: How far the spine leaves the midline.
        clavicle: y of the clavicles' inner ends.
        bubble: Radius of the gastric bubble.
    """

    seed: int
    female: bool
    width: float
    flesh: float
    apex: float
    dome: float
    flatness: float
    ctr: float
    knob: float
    ribs: float
    bend: float
    clavicle: float
    bubble: float

    @classmethod
    def draw(cls, rng: np.random.Generator, female: bool | None = None) -> "Body":
        """Draw a random healthy patient."""
        female = bool(rng.random() < 0.45) if female is None else female
        return cls(
            seed=int(rng.integers(2**31)),
            female=female,
            width=rng.uniform(0.60, 0.70) - 0.03 * female,
            flesh=rng.uniform(0.08, 0.20),
            apex=rng.uniform(-0.74, -0.64),
            dome=rng.uniform(0.32, 0.48),
            flatness=rng.uniform(0.0, 0.35),
            ctr=rng.uniform(0.40, 0.49),
            knob=rng.uniform(0.12, 0.19),
            ribs=rng.uniform(0.7, 1.2),
            bend=rng.normal(0, 0.012),
            clavicle=rng.uniform(-0.60, -0.52),
            bubble=rng.uniform(0.04, 0.13),
        )

    def wall(self, y: np.ndarray) -> np.ndarray:
        """Return half width of the lungs at height y; negative above the lung tips."""
        depth = (y - self.apex) / (0.75 - self.apex)
        return self.width * curve(
            depth, [-1, 0, 0.03, 0.1, 0.25, 0.5, 0.8, 1, 2], [-1, 0.3, 0.46, 0.62, 0.81, 0.94, 1, 0.99, 0.9]
        )

    def diaphragm(self, x: np.ndarray) -> np.ndarray:
        """Return y of the diaphragm at x: two domes, the left one lower, falling steeply towards the chest wall."""
        side = np.clip(np.abs(x) / self.width, 0, 1.2)
        fall = curve(side, [0, 0.15, 0.45, 0.75, 0.92, 1.0, 1.2], [0.08, 0.05, 0, 0.05, 0.13, 0.21, 0.34])
        lower = np.where(x > 0, np.float32(0.05), np.float32(0))
        return self.dome + lower + fall * (1 - 0.6 * self.flatness) + 0.07 * self.flatness

    def silhouette(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return half widths of the mediastinal shadow left and right of the midline at height y, both positive."""
        heart = self.ctr * 2 * self.width
        left, right = 0.68 * heart, 0.32 * heart
        arch, waist = -0.30, -0.08
        down = self.dome + 0.05 - waist  # from the heart's waist to where it rests on the diaphragm
        on_left = curve(
            y,
            [
                -1,
                -0.6,
                arch - 0.13,
                arch,
                arch + 0.12,
                waist,
                *(waist + down * np.array([0.3, 0.65, 0.95, 1.25, 2.2])),
            ],
            [0.1, 0.11, 0.11, self.knob, 0.13, 0.18, 0.60 * left, 0.96 * left, left, 0.9 * left, 0.3],
        )
        on_right = curve(
            y,
            [-1, -0.6, arch, waist, *(waist + down * np.array([0.3, 0.65, 1.0, 2.2]))],
            [0.1, 0.11, 0.12, 0.13, 0.8 * right, right, 0.85 * right, 0.2],
        )
        return on_left, on_right


class Frame:
    """The borders of a body on a raster of S x S pixels, all float32.

    Attributes:
        x, y: (1, S) and (S, 1) coordinates.
        wall, dome: (S, 1) and (1, S) borders of the lungs.
        left, right: (S, 1) half widths of the mediastinal shadow.
        inside: (S, S) distance to the chest wall along x, positive inside.
    """

    def __init__(self, body: Body, size: int):
        self.body, self.size = body, size
        axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
        self.x, self.y = axis[None, :], axis[:, None]
        self.wall = body.wall(self.y)
        self.dome = body.diaphragm(self.x)
        self.left, self.right = body.silhouette(self.y)
        self.inside = self.wall - np.abs(self.x)


class Chest(Frame):
    """The layers of one chest, each (S, S) float32 in the body frame.

    Attributes:
        air: Share of the beam's way that is air-filled lung, 0..1. Findings that displace air multiply it.
        vessels: Lung vessels, 0..1.
        bone: Ribs, clavicles, spine and shoulder blades, in units of shadow.
        tissue: Skin to skin without lungs, in units of shadow.
        extra: What findings add to (or take from) the shadow.
    """

    def __init__(self, body: Body, size: int):
        super().__init__(body, size)
        self.air = self._air()
        self.vessels = _vessels(self)
        self.bone = _bones(self)
        # Soft parts have no fine detail: half the resolution is enough, and four times as fast.
        self.tissue = cv2.resize(_tissue(Frame(body, size // 2)), (size, size), interpolation=cv2.INTER_LINEAR)
        self.extra = np.zeros((size, size), np.float32)

    def shadow(self) -> np.ndarray:
        """Return (S, S) float32: what the beam meets on its way, 0 = nothing, about 1 = the middle of the trunk."""
        lung = np.clip(self.air, 0, 1.3)
        return self.tissue - 0.60 * lung + 0.17 * self.vessels * np.minimum(lung, 1) + self.bone + self.extra

    def _air(self) -> np.ndarray:
        body = self.body
        beside = np.where(self.x > 0, self.x - self.left, -self.x - self.right)
        lungs = ramp(beside, 0.02) * 0.90 + 0.10 * ramp(np.abs(self.x) - 0.12, 0.1)
        lungs *= ramp(self.y - body.apex - 1.3 * (np.abs(self.x) - 0.28) ** 2, 0.02)
        lungs *= ramp(self.dome - self.y, 0.018) * 0.94 + 0.06 * ramp(self.dome + 0.2 - self.y, 0.3)
        # The lung is a rounded body: less air towards its rim and its tip.
        lungs *= ramp(self.inside, 0.02) * (0.55 + 0.45 * np.sqrt(np.clip(self.inside / 0.35, 0, 1)))
        return lungs * (0.74 + 0.26 * ramp(self.y - body.apex - 0.3, 0.6))


def curve(at: np.ndarray, knots: list[float], values: list[float]) -> np.ndarray:
    """Make a smooth curve without overshoot through (knots, values), level beyond both ends."""
    return _interpolator(tuple(knots), tuple(values))(np.clip(at, knots[0], knots[-1])).astype(np.float32)


@lru_cache(maxsize=64)  # most curves have the same shape in all patients, and to make one costs more than to use it
def _interpolator(knots: tuple[float, ...], values: tuple[float, ...]) -> PchipInterpolator:
    return PchipInterpolator(knots, values)


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """Smooth step from 0 to 1 over `width` around distance 0."""
    share = distance * (1 / width)
    share += 0.5
    np.clip(share, 0, 1, out=share)
    step = share * share
    share *= -2
    share += 3
    step *= share
    return step


def draw_curves(canvas: np.ndarray, curves: Sequence[np.ndarray] | np.ndarray, width: float, value: int) -> None:
    """Draw polylines, (curves, points, 2) in the body frame, into a uint8 raster. `width` is in the body frame.

    Lines thinner than a pixel are drawn one pixel wide and paler.
    """
    size = canvas.shape[0]
    pixels = width / 2 * size
    value = round(value * min(1.0, pixels))
    points = np.rint((np.asarray(curves) + 1) / 2 * size * 2**SHIFT).astype(np.int32)
    cv2.polylines(canvas, list(points), False, value, max(1, round(pixels)), cv2.LINE_AA, SHIFT)


def soft(canvas: np.ndarray, sigma: float) -> np.ndarray:
    """Return a uint8 raster as float32 0..1, blurred by `sigma` (body frame)."""
    pixels = sigma / 2 * canvas.shape[0]
    image = canvas.astype(np.float32) / 255
    return cv2.GaussianBlur(image, (0, 0), pixels) if pixels > 0.2 else image


def window(frame: Frame, x: float, y: float, reach: float) -> tuple[slice, slice]:
    """Return rows and columns that hold everything within `reach` of (x, y)."""
    low, high = (
        (np.array([y, x]) + 1 - reach) / 2 * frame.size,
        (np.array([y, x]) + 1 + reach) / 2 * frame.size,
    )
    low, high = np.floor(low).clip(0).astype(int), np.ceil(high).clip(0).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def disc(frame: Frame, x: float, y: float, radius: float, edge: float) -> np.ndarray:
    """Return (S, S): a disc with a soft edge."""
    image = np.zeros((frame.size, frame.size), np.float32)
    rows, columns = window(frame, x, y, radius + edge)
    image[rows, columns] = ramp(radius - np.hypot(frame.x[:, columns] - x, frame.y[rows] - y), edge)
    return image


def _tissue(frame: Frame) -> np.ndarray:
    body, x, y = frame.body, np.abs(frame.x), frame.y
    trunk = body.width + body.flesh + 0.05 * curve(y, [-1, -0.4, 0.2, 1], [0, 1, 0, 1 + 6 * body.flesh])
    # Neck and shoulders close the trunk above.
    half = np.minimum(trunk, curve(y, [-1, -0.86, -0.74, -0.6, -0.4], [0.24, 0.27, 0.5, 1.0, 1.4]))
    across = np.clip(1 - (x / half) ** 4, 0, 1)
    tissue = np.sqrt(across) * (0.86 + 0.10 * ramp(y - 0.25, 0.5) - 0.22 * ramp(-0.62 - y, 0.4))
    reach = (1.02 + 0.16 * (y + 0.6)).astype(np.float32)
    arm = np.sqrt(np.clip(1 - ((x - reach) / 0.17) ** 2, 0, 1)) * ramp(y + 0.72 - 0.15 * x, 0.2)
    shoulder = np.sqrt(np.clip(1 - (x - 0.72) ** 2 / 0.14 - (y + 0.48) ** 2 / 0.075, 0, 1))
    tissue = np.maximum(tissue, 0.62 * np.maximum(arm, shoulder))
    tissue += 0.10 * ramp(y - frame.dome, 0.05) * (x < half)
    tissue += 0.07 * ramp(np.where(frame.x > 0, frame.left - frame.x, frame.right + frame.x), 0.06) * ramp(y + 0.6, 0.4)
    tissue -= 0.18 * body.bubble / 0.1 * _gas(frame)
    if body.female:
        tissue += _breasts(frame)
    return tissue.astype(np.float32)


def _gas(frame: Frame) -> np.ndarray:
    body = frame.body
    x, y = 0.26, body.dome + 0.11 + body.bubble
    return disc(frame, x, y, body.bubble, 0.06) * ramp(y + 0.4 * body.bubble - frame.y, 0.03)


def _breasts(frame: Frame) -> np.ndarray:
    size = 0.22 + 0.6 * frame.body.flesh
    x, y = np.abs(frame.x) - 0.6 * frame.body.width, frame.y - 0.18
    away = np.sqrt((x / size) ** 2 + (y / (1.1 * size)) ** 2)
    return 0.11 * ramp(1 - away, 0.22) * ramp(y + size, 1.4 * size)


def _bones(chest: Chest) -> np.ndarray:
    back, front = _rib_cage(chest)
    ribs = 0.17 * back + 0.10 * front * ramp(np.abs(chest.x) - 0.2, 0.2)
    ribs *= 0.35 + 0.65 * np.minimum(chest.air, 1)  # hardly seen through heart and belly
    bone = chest.body.ribs * (ribs + 0.12 * _clavicles(chest)) + 0.10 * _shoulder_blades(chest)
    return (bone + _spine(chest) - 0.10 * _airways(chest)).astype(np.float32)


def _rib_cage(chest: Chest) -> tuple[np.ndarray, np.ndarray]:
    """Draw posterior and anterior halves of ten pairs of ribs."""
    body = chest.body
    canvases = []
    pitch = 0.118 + 0.03 * (body.width - 0.6)
    turn = np.linspace(0.05, 0.5, 16) * np.pi
    for half in (0, 1):
        canvas = np.zeros((chest.size, chest.size), np.uint8)
        curves = []
        for i in range(10):
            top, drop = body.apex + 0.02 + pitch * i, 0.20 + 0.02 * min(i, 8)
            slope = 0.05 + 0.03 * i
            reach = float(body.wall(np.array(top + 0.5 * drop + 0.6 * slope * body.width))) + 0.015
            angle = turn if half == 0 else np.pi - turn[4:]
            x = 0.05 + (reach - 0.05) * np.sin(angle) ** 0.85
            y = top + drop * (1 - np.cos(angle)) / 2 + slope * (x if half == 0 else 2 * reach - x)
            curves += [np.stack([side * x, y], 1) for side in (LEFT, RIGHT)]
        width = 0.046 if half == 0 else 0.052
        # A rib is a tube: its borders shadow more than its middle.
        draw_curves(canvas, curves, width, 255)
        draw_curves(canvas, curves, width - 0.016, 150)
        canvases.append(soft(canvas, 0.005))
    return canvases[0], canvases[1]


def _clavicles(chest: Chest) -> np.ndarray:
    canvas = np.zeros((chest.size, chest.size), np.uint8)
    along = np.linspace(0, 1, 14)
    x = 0.08 + 0.72 * along
    y = chest.body.clavicle - 0.16 * along**0.8 + 0.035 * np.sin(2 * np.pi * along)
    curves = [np.stack([side * x, y], 1) for side in (LEFT, RIGHT)]
    draw_curves(canvas, curves, 0.056, 255)
    draw_curves(canvas, curves, 0.034, 165)
    return soft(canvas, 0.005)


def _shoulder_blades(chest: Chest) -> np.ndarray:
    """Draw the shoulder blade with its bright inner border, and the head of the upper arm."""
    canvas = np.zeros((chest.size, chest.size), np.uint8)
    inner = chest.body.width + 0.02
    blade = np.array(
        [[0, -0.52], [-0.02, -0.3], [0.02, -0.08], [0.08, 0.02], [0.14, -0.2], [0.26, -0.46], [0.3, -0.58]]
    )
    for side in (LEFT, RIGHT):
        outline = (blade + np.array([inner, 0])) * [side, 1]
        points = np.rint((outline + 1) / 2 * chest.size * 2**SHIFT).astype(np.int32)
        cv2.fillPoly(canvas, [points], 90, cv2.LINE_AA, SHIFT)
        draw_curves(canvas, [outline[:4]], 0.018, 200)
        draw_curves(canvas, [outline[3:]], 0.018, 200)
    head = disc(chest, LEFT * (inner + 0.32), -0.55, 0.11, 0.04) + disc(
        chest, RIGHT * (inner + 0.32), -0.55, 0.11, 0.04
    )
    return np.maximum(soft(canvas, 0.008), 1.2 * head)


def _spine(chest: Chest) -> np.ndarray:
    """Draw a column of vertebrae that bends a little, paler at the discs, with spinous processes in the middle."""
    spine = np.zeros((chest.size, chest.size), np.float32)
    columns = slice(*np.flatnonzero(np.abs(chest.x[0]) < 0.2)[[0, -1]])
    phase = (chest.y + 1.2) * (7.5 - chest.y) * np.pi
    x = chest.x[:, columns] - chest.body.bend * np.sin(2.2 * chest.y)
    half = 0.075 + 0.012 * chest.y + 0.004 * np.cos(2 * phase)
    column = ramp(half - np.abs(x), 0.02) * (0.8 + 0.2 * np.clip(np.abs(x) / half, 0, 1) ** 4)
    disc_space = 0.75 + 0.25 * ramp(np.abs(np.sin(phase)) - 0.3, 0.3)
    process = np.exp(-((x / 0.016) ** 2)) * ramp(np.abs(np.sin(phase + 0.6)) - 0.6, 0.3)
    spine[:, columns] = 0.10 * column * disc_space + 0.045 * process
    return spine


def _airways(chest: Chest) -> np.ndarray:
    """Draw windpipe and main bronchi, as air."""
    canvas = np.zeros((chest.size, chest.size), np.uint8)
    carina = -0.24
    draw_curves(canvas, [np.array([[0, -1.0], [0.004, -0.6], [-0.012, carina - 0.02]])], 0.075, 255)
    draw_curves(canvas, [np.array([[-0.01, carina - 0.03], [-0.08, carina + 0.10], [-0.15, carina + 0.2]])], 0.05, 210)
    draw_curves(canvas, [np.array([[-0.01, carina - 0.03], [0.09, carina + 0.08], [0.2, carina + 0.14]])], 0.045, 190)
    return soft(canvas, 0.012)


def _vessels(chest: Chest) -> np.ndarray:
    """Draw arteries and veins that branch from both hila and taper towards the rim."""
    rng = np.random.default_rng((chest.body.seed, 1))
    canvas = np.zeros((chest.size, chest.size), np.uint8)
    for side, hilum in ((LEFT, (0.17, -0.10)), (RIGHT, (0.14, -0.04))):
        _grow(canvas, rng, side, hilum, 0.55 * chest.body.width)
    tree = soft(canvas, 0.003)
    hila = disc(chest, 0.17, -0.09, 0.05, 0.12) + disc(chest, -0.16, -0.03, 0.05, 0.12)
    return tree + 0.8 * hila.astype(np.float32)


def _grow(canvas: np.ndarray, rng: np.random.Generator, side: float, hilum: tuple[float, float], reach: float) -> None:
    """Draw six generations of vessels; all vessels of a generation are computed and drawn together."""
    roots = np.deg2rad([-86, -76, -62, -40, -12, 15, 36, 54, 68, 80])
    angle = roots + rng.normal(0, 0.10, len(roots))
    start = np.tile([hilum[0], hilum[1]], (len(roots), 1)) + rng.normal(0, 0.02, (len(roots), 2))
    length = reach * rng.uniform(0.32, 0.5, len(roots)) * (1.1 + 0.25 * np.abs(np.sin(angle)))
    along = np.linspace(0, 1, 5)[None, :]
    for generation in range(6):
        bend = rng.normal(0, 0.38, len(angle))
        heading = angle[:, None] + bend[:, None] * along
        steps = np.stack([np.cos(heading), np.sin(heading)], -1) * (length / 5)[:, None, None]
        path = start[:, None] + np.concatenate([np.zeros_like(steps[:, :1]), np.cumsum(steps, 1)], 1)
        draw_curves(canvas, path * [side, 1], 0.022 * 0.72**generation, round(235 * 0.85**generation))
        fork = rng.uniform(0.18, 0.55, len(angle))
        start = np.concatenate([path[:, -1]] * 2)
        angle = np.concatenate([angle + bend + fork, angle + bend - 0.8 * fork])
        length = np.concatenate([length] * 2) * rng.uniform(0.62, 0.9, 2 * len(length))
