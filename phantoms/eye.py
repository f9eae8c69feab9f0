"""An invented eye in a horizontal section: where things are (`Eye`) and the echoing interfaces in it (`Sheet`).

The eye frame has the globe's centre as origin and its radius (about 12 mm) as unit; x points to the temporal
side, y away from the probe. Places on the wall are angles from the posterior pole, positive on the temporal side.
"""

from dataclasses import dataclass

import numpy as np

DISC_HALF = 0.075  # half width of the optic disc, as an angle
MACULA_HALF = 0.20  # of the macula, 5 mm wide


@dataclass(frozen=True)
class Sheet:
    """A surface that the section cuts in a curve.

    Attributes:
        points: (T, K, 2) vertices in the eye frame, one curve per frame; T = 1 for what is part of the globe.
        echo: (K,) strength along the curve; 1 is as bright as the wall of the globe.
        thickness: Of the echo, in globe radii.
        gloss: Exponent of how the echo fades as the surface turns away from the beam; 0 = it does not.
    """

    points: np.ndarray
    echo: np.ndarray
    thickness: float
    gloss: float


@dataclass(frozen=True)
class Eye:
    """What stays the same over a clip.

    Attributes:
        temporal: The side of the image on which the temple lies, 1 = right, -1 = left.
        disc, macula: Angles of the optic disc and of the fovea.
        ora: Angles where the retina ends, (nasal, temporal).
        cornea: Height of its vertex above the globe.
        lens: y of its front and back vertex, and its half width.
        pupil: Half width.
        cataract: Echo of the lens body; 0 = clear.
        nerve: Half width of the optic nerve's dark band, and how dark it is (0..1).
        apex: x where the nerve runs to, two radii behind the centre.
    """

    temporal: float
    disc: float
    macula: float
    ora: tuple[float, float]
    cornea: float
    lens: tuple[float, float, float]
    pupil: float
    cataract: float
    nerve: tuple[float, float]
    apex: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Eye":
        """Draw a random eye without a finding."""
        disc = -rng.uniform(0.22, 0.36)
        front = -rng.uniform(0.76, 0.83)
        return cls(
            temporal=float(rng.choice([-1.0, 1.0])),
            disc=disc,
            macula=disc + rng.uniform(0.33, 0.38),
            ora=(-rng.uniform(1.85, 2.1), rng.uniform(1.85, 2.1)),
            cornea=rng.uniform(0.06, 0.11),
            lens=(front, front + rng.uniform(0.29, 0.40), rng.uniform(0.35, 0.42)),
            pupil=rng.uniform(0.10, 0.24),
            cataract=max(0.0, rng.normal(0, 0.02)),
            nerve=(rng.uniform(0.11, 0.17), rng.uniform(0.75, 0.97)),
            apex=-rng.uniform(0.35, 0.75),
        )

    def interfaces(self) -> list[Sheet]:
        """Draw cornea, lens, iris, ciliary body and the smooth inner face of the wall on both sides of the disc."""
        across = np.linspace(-1, 1, 33)
        front, back, half = self.lens
        bulge = _arc(across * 0.80, 0.65, -1 - self.cornea + 0.65)
        rim = across**2
        lens = [
            _fixed(half * across, front + 0.13 * rim, 0.9, 0.010, 5),
            _fixed(half * across, back - 0.16 * rim, 1.2, 0.010, 5),
        ]
        body = [_fixed(0.8 * half * across, front + share * (back - front), self.cataract, 0.03, 0)
                for share in (0.35, 0.65)] if self.cataract else []  # fmt: skip
        cornea = [_fixed(bulge[0], bulge[1], 1.6, 0.010, 3), _fixed(0.93 * bulge[0], bulge[1] + 0.045, 1.2, 0.008, 3)]
        sides = [part for side in (-1, 1) for part in (*self._iris(side), self._inner_face(side))]
        return [*cornea, *lens, *body, *sides]

    def _inner_face(self, side: int) -> Sheet:
        points = on_wall(np.linspace(self.disc + side * DISC_HALF, side * 1.5, 33), 1.012)
        return _fixed(points[:, 0], points[:, 1], 1.0, 0.008, 2)

    def _iris(self, side: float) -> list[Sheet]:
        front, _, half = self.lens
        along = np.linspace(0, 1, 9)
        iris = self.pupil + (0.50 - self.pupil) * along
        level = front + 0.05 * (iris / half) ** 2 - 0.07 * along**2
        ciliary = 0.50 + 0.10 * along
        return [
            _fixed(side * iris, level, 0.55, 0.016, 1),
            _fixed(side * ciliary, front + 0.04 + 0.12 * along, 0.45, 0.035, 0.5),
        ]


def on_wall(angle: np.ndarray, radius: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the (..., 2) point in the eye frame at an angle from the posterior pole."""
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], -1)


def turned(points: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Turn points (T or 1, K, 2) with the globe by gaze (T,): (T, K, 2)."""
    cos, sin = np.cos(gaze)[:, None], np.sin(gaze)[:, None]
    x, y = points[..., 0], points[..., 1]
    return np.stack([x * cos + y * sin, y * cos - x * sin], -1)


def _arc(angle: np.ndarray, radius: float, centre: float) -> tuple[np.ndarray, np.ndarray]:
    return radius * np.sin(angle), centre - radius * np.cos(angle)


def _fixed(x: np.ndarray, y: np.ndarray, echo: float, thickness: float, gloss: float) -> Sheet:
    return Sheet(np.stack(np.broadcast_arrays(x, y), -1)[None], np.full(len(x), echo), thickness, gloss)
