"""Findings, each with the visible cause that a radiologist would name.

A finding changes the body before it is drawn (`reshape`: a larger heart, a flat diaphragm) or the layers of
the drawn chest (`apply`), and gives a mask of where it is. Sides and places belong to the patient: drawn from
the body's seed and the finding's name, they stay the same in follow-ups, whatever else is found.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from .chest import LEFT, RIGHT, Body, Chest, disc, draw_curves, ramp, soft, window

Finding = Callable[[Chest, np.random.Generator], np.ndarray]


def reshape(body: Body, findings: frozenset[str]) -> Body:
    """Return the body with the findings that change its shape: heart size, lung volume."""
    if "Cardiomegaly" in findings:
        body = replace(body, ctr=_draws(body, "Cardiomegaly").uniform(0.59, 0.70))
    if "Emphysema" in findings:
        draws = _draws(body, "Emphysema")
        body = replace(
            body,
            dome=draws.uniform(0.55, 0.62),
            flatness=1.0,
            width=min(0.72, body.width + 0.05),
            ctr=body.ctr * 0.85,
        )
    if "Fibrosis" in findings:
        body = replace(body, dome=body.dome - 0.10)
    return body


def apply(chest: Chest, finding: str) -> np.ndarray:
    """Change the layers of `chest` in place.

    Returns:
        (S, S) float32 within 0..1: where the finding is.
    """
    return FINDINGS[finding](chest, _draws(chest.body, finding)).astype(np.float32)


def _draws(body: Body, finding: str) -> np.random.Generator:
    return np.random.default_rng((body.seed, zlib.crc32(finding.encode())))


def _side(rng: np.random.Generator) -> float:
    return LEFT if rng.random() < 0.5 else RIGHT


def _opacify(chest: Chest, region: np.ndarray, share: float) -> None:
    """Replace `share` of the air in `region` by water."""
    chest.air *= 1 - share * region


def _place(chest: Chest, rng: np.random.Generator, margin: float) -> tuple[float, float]:
    """Return a point of well-aerated lung, `margin` away from the chest wall."""
    step = max(1, chest.size // 64)
    lung = chest.air[::step, ::step] * (chest.inside[::step, ::step] > margin)
    lung = lung * (chest.y[::step] > chest.body.apex + 0.2) > 0.75 * lung.max()
    rows, columns = np.nonzero(lung)
    chosen = rng.integers(len(rows))
    return float(chest.x[0, columns[chosen] * step]), float(chest.y[rows[chosen] * step, 0])


def _cloud(chest: Chest, rng: np.random.Generator, grain: float) -> np.ndarray:
    """Return (S, S) smooth random field with mean 0 and deviation about 1; `grain` is the size of its lumps."""
    field = np.zeros((chest.size, chest.size), np.float32)
    for share, octave in ((1.1, 1.0), (0.8, 0.55)):
        cells = round(2 / (grain * octave))
        coarse = rng.normal(0, share, (cells, cells)).astype(np.float32)
        field += cv2.resize(coarse, (chest.size, chest.size), interpolation=cv2.INTER_CUBIC)
    return field


def cardiomegaly(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Return the heart's shadow below the hila as the region; `reshape` enlarged the heart."""
    across = np.where(chest.x > 0, chest.left - chest.x, chest.right + chest.x)
    return (across > 0) & (chest.y > -0.08) & (chest.y < chest.dome + 0.03)


def effusion(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add fluid that fills the costophrenic angle and climbs the chest wall as a meniscus."""
    side = _side(rng)
    height = rng.uniform(0.10, 0.42)
    level = chest.body.dome + 0.06 - height - 0.22 * np.exp(-np.clip(chest.inside, 0, None) / 0.10)
    fluid = ramp(chest.y - level, 0.05) * (side * chest.x > 0.02)
    region = fluid * (chest.inside > 0) * (chest.y < chest.dome + 0.03)
    _opacify(chest, fluid, 0.93)
    chest.extra += 0.05 * fluid * ramp(chest.inside, 0.05) * ramp(side * chest.x - 0.1, 0.1)
    return region * (chest.inside < 0.5)


def pneumothorax(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Take the lung off the chest wall: a fine edge, and beyond it black air without vessels."""
    side = _side(rng)
    gap = rng.uniform(0.15, 0.30) * (0.45 + 0.9 * np.exp(-np.clip(chest.y - chest.body.apex, 0, None) / 0.45))
    edge = chest.body.wall(chest.y - 0.5 * gap) - gap - np.abs(chest.x)
    here = side * chest.x > 0
    free = ramp(-edge, 0.012) * here
    line = np.exp(-((edge / 0.008) ** 2)) * here * (chest.inside > 0.02)
    chest.vessels *= 1 - free
    chest.air *= 1 + free * 0.34 - 0.22 * (1 - free) * here
    chest.extra += 0.16 * line * np.clip(chest.air, 0, 1)
    return free * (chest.inside > 0.01) * (chest.air > 0.5)


def _lump(chest: Chest, rng: np.random.Generator, radius: float, share: float) -> np.ndarray:
    x, y = _place(chest, rng, radius * 0.7)
    part = window(chest, x, y, 1.2 * radius)
    dx, dy = chest.x[:, part[1]] - x, chest.y[part[0]] - y
    angle = np.arctan2(dy, dx)
    waves, phase = rng.integers(2, 7, 3), rng.uniform(0, 2 * np.pi, 3)
    uneven = sum(0.035 * np.cos(n * angle + p) for n, p in zip(waves, phase))
    away = np.hypot(dx, dy) / (radius * (1 + uneven))
    ball = np.sqrt(np.clip(1.05 - away**2, 0, 1))
    chest.vessels[part] *= 1 - 0.7 * ball
    chest.extra[part] += share * ball * np.clip(chest.air[part], 0, 1)
    region = np.zeros((chest.size, chest.size), np.float32)
    region[part] = away < 1
    return region


def nodule(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add a round spot below 3 cm."""
    return _lump(chest, rng, rng.uniform(0.042, 0.064), rng.uniform(0.42, 0.55))


def mass(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add a round shadow above 3 cm."""
    return _lump(chest, rng, rng.uniform(0.11, 0.18), rng.uniform(0.46, 0.6))


def infiltration(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add ill-defined patches of haze, in one or both lungs."""
    region = np.zeros((chest.size, chest.size), np.float32)
    for side in (LEFT, RIGHT) if rng.random() < 0.5 else (_side(rng),):
        x, y = side * rng.uniform(0.25, 0.42), rng.uniform(-0.1, 0.3)
        away = np.hypot((chest.x - x) / 0.24, (chest.y - y) / 0.30)
        region = np.maximum(region, ramp(1 - away, 0.9))
    patches = region * ramp(_cloud(chest, rng, 0.09) + 0.5, 1.6)
    _opacify(chest, patches, rng.uniform(0.5, 0.7))
    return region * (chest.air > 0.05)


def consolidation(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add a lobe full of fluid, ending at a fissure, with air-filled bronchi showing."""
    side, upper = _side(rng), rng.random() < 0.5
    fissure = -0.10 + rng.normal(0, 0.03) + 0.18 * (np.abs(chest.x) - 0.3)
    lobe = ramp((fissure - chest.y) * (1 if upper else -1), 0.03) * ramp(side * chest.x - 0.05, 0.05)
    lobe = lobe * ramp(1 - np.abs(chest.y - fissure) / rng.uniform(0.38, 0.6), 0.4)
    lobe = lobe * np.clip(0.95 + 0.12 * _cloud(chest, rng, 0.12), 0, 1)
    _opacify(chest, lobe, rng.uniform(0.8, 0.95))
    chest.extra -= 0.07 * chest.vessels * lobe
    return lobe * (chest.inside > 0) * (chest.y < chest.dome)


def pneumonia(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add one segment, dense in the middle and woolly at its border."""
    x, y = _place(chest, rng, 0.14)
    away = np.hypot(chest.x - x, chest.y - y) / rng.uniform(0.18, 0.28) + 0.13 * _cloud(chest, rng, 0.08)
    segment = ramp(1 - away, 0.7) * (chest.inside > 0)
    _opacify(chest, segment, rng.uniform(0.65, 0.85))
    return segment


def atelectasis(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add plates of airless lung above a diaphragm that is drawn up."""
    side = _side(rng)
    raised = chest.dome - rng.uniform(0.08, 0.16) * ramp(side * chest.x - 0.1, 0.2)
    _opacify(chest, ramp(chest.y - raised, 0.03) * (side * chest.x > 0), 0.9)
    canvas = np.zeros((chest.size, chest.size), np.uint8)
    top = float(raised.min())
    for _ in range(rng.integers(2, 4)):
        x, y = rng.uniform(0.14, 0.26), top - rng.uniform(0.03, 0.22)
        length, tilt = rng.uniform(0.22, 0.36), rng.normal(0, 0.22)
        along = np.linspace(0, 1, 6)
        plate = np.stack([side * (x + length * along), y + length * tilt * along - 0.03 * np.sin(np.pi * along)], 1)
        draw_curves(canvas, [plate], rng.uniform(0.022, 0.036), 255)
    plates = soft(canvas, 0.008) * (chest.inside > 0.02)
    chest.extra += 0.26 * plates * np.clip(chest.air, 0, 1)
    return np.maximum(
        plates, (np.abs(chest.y - raised + 0.02) < 0.02) * (side * chest.x > 0.15) * (chest.inside > 0.02)
    )


def edema(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add haze around both hila like a bat's wings, swollen and blurred vessels."""
    away = np.hypot((np.abs(chest.x) - 0.2) / rng.uniform(0.26, 0.36), (chest.y - 0.02) / rng.uniform(0.36, 0.46))
    wings = ramp(1 - away, 0.9) * np.clip(0.9 + 0.15 * _cloud(chest, rng, 0.07), 0, 1)
    chest.vessels = 1.5 * cv2.GaussianBlur(chest.vessels, (0, 0), 0.006 * chest.size)
    _opacify(chest, wings, rng.uniform(0.5, 0.7))
    return wings * (chest.inside > 0)


def emphysema(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add too much air: `reshape` flattened the diaphragm; dark lungs with few, thin vessels."""
    chest.air *= 1.16
    chest.vessels *= 0.55
    return (chest.air > 0.4).astype(np.float32)


def fibrosis(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add a net of coarse lines, densest at the rim and the bases of small lungs."""
    net = np.exp(-((_cloud(chest, rng, 0.035) / 0.4) ** 2)) + 0.6 * np.exp(-((_cloud(chest, rng, 0.06) / 0.3) ** 2))
    where = ramp(0.3 - chest.inside, 0.3) * 0.6 + ramp(chest.y - 0.05, 0.5)
    where = np.clip(where, 0, 1) * (chest.air > 0.05)
    chest.extra += 0.20 * net * where * np.clip(chest.air, 0, 1)
    return where


def pleural_thickening(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add a band of soft tissue along the chest wall."""
    side, middle = _side(rng), rng.uniform(-0.35, 0.1)
    thick = rng.uniform(0.06, 0.10) * np.exp(-(((chest.y - middle) / rng.uniform(0.25, 0.4)) ** 2))
    band = ramp(thick - chest.inside, 0.02) * (side * chest.x > 0) * (thick > 0.015)
    _opacify(chest, band, 0.85)
    return band * (chest.inside > 0)


def hernia(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Add a stomach behind the heart: a round shadow whose upper part is gas above a level of fluid."""
    x, radius = rng.uniform(-0.02, 0.10), rng.uniform(0.12, 0.17)
    y = chest.body.dome - 0.6 * radius
    sac, gas = disc(chest, x, y, radius, 0.02), disc(chest, x, y, radius - 0.02, 0.02)
    chest.extra += 0.10 * sac * (0.3 + np.clip(chest.air, 0, 1)) - 0.30 * gas * ramp(y - 0.02 - chest.y, 0.012)
    return sac


# Shadows that displace air come first; what lies on top of aerated lung (spots, plates, lines) last.
FINDINGS: dict[str, Finding] = {
    "Cardiomegaly": cardiomegaly,
    "Emphysema": emphysema,
    "Edema": edema,
    "Effusion": effusion,
    "Consolidation": consolidation,
    "Pneumonia": pneumonia,
    "Infiltration": infiltration,
    "Pleural_Thickening": pleural_thickening,
    "Pneumothorax": pneumothorax,
    "Atelectasis": atelectasis,
    "Fibrosis": fibrosis,
    "Mass": mass,
    "Nodule": nodule,
    "Hernia": hernia,
}
