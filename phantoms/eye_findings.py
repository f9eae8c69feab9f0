"""What is found in the vitreous: detached retina, detached posterior hyaloid, floaters.

A detached retina hangs on to the optic disc and to the ora serrata, is thick and bright, and follows the globe
stiffly. A detached posterior vitreous face crosses in front of the disc without touching it, is thin and faint, and
swings on after the globe has stopped.
"""

import numpy as np

from .eye import DISC_HALF, MACULA_HALF, Eye, Sheet, on_wall
from .eye_motion import Motion

FLOATERS_SHARE = 0.4  # of the clips, whatever the diagnosis
NODES = 49  # vertices of a membrane
LEAST_LIFT = 0.16  # of a detached retina off the wall, at its middle


def membranes(diagnosis: str, eye: Eye, motion: Motion, rng: np.random.Generator) -> list[Sheet]:
    """Return the membranes that make a diagnosis, as `eye_phantom` names them; none in a normal eye."""
    if diagnosis == "normal":
        return []
    if diagnosis == "pvd":
        return [_hyaloid(eye, motion, rng)]
    nasal, temporal = eye.ora
    at_disc = {-1: eye.disc - DISC_HALF, 1: eye.disc + DISC_HALF}
    echo = 10 ** (rng.uniform(-14, -1) / 20)
    if diagnosis == "macula_detached_bilateral":
        sag = rng.uniform(0.6, 1.05)
        leaves = [(at_disc[-1], nasal, sag), (at_disc[1], temporal, sag + rng.normal(0, 0.08))]
    elif diagnosis == "macula_detached_td":
        leaves = [(at_disc[1], temporal, rng.uniform(0.6, 1.05))]
    elif diagnosis == "macula_intact_nd":
        leaves = [(at_disc[-1] - max(0.0, rng.uniform(-0.3, 0.3)), nasal, rng.uniform(0.8, 1.6))]
    else:
        beyond = eye.macula + MACULA_HALF
        leaves = [(beyond + rng.uniform(0.06, 0.45), temporal, rng.uniform(0.9, 1.7))]
    return [_retina(start, end, sag, echo, motion, rng) for start, end, sag in leaves]


def floaters(motion: Motion, rng: np.random.Generator) -> list[Sheet]:
    """Return now and then some specks and short strands that drift in the vitreous."""
    if rng.random() > FLOATERS_SHARE:
        return []
    swing = _swing(motion, rng, modes=2, pull=0.8)
    return [_speck(swing, rng) for _ in range(rng.integers(1, 8))]


def _retina(start: float, end: float, sag: float, echo: float, motion: Motion, rng: np.random.Generator) -> Sheet:
    """Lift a leaf of retina off the wall between two angles.

    `sag`: 0 = flat against the wall, 1 = a straight chord, beyond = bulging into the vitreous.
    """
    along = np.linspace(0, 1, NODES)
    wall = on_wall(start + (end - start) * along)
    chord = wall[0] + (wall[-1] - wall[0]) * along[:, None]
    held = np.sin(np.pi * along)  # both ends are attached
    belly = sag + rng.normal(0, 0.12) * np.sin(2 * np.pi * along)
    rest = wall + belly[:, None] * (chord - wall)
    inward = _normals(rest) * np.sign(end - start)
    folds = _waves(along, rng, first=3, count=5, size=0.035) * held
    modes = np.stack([held, np.sin(2 * np.pi * along)])
    hz, damping = rng.uniform(2.5, 4.5, 2), rng.uniform(0.35, 0.6, 2)
    sway = motion.lag(hz, damping, rng.uniform(0.3, 0.8, 2)) @ modes  # (T, K)
    points = rest + inward * (folds + sway)[..., None]
    # Neither folds nor sway may lay it back on the wall: the label must stay true in every frame.
    points *= np.minimum(1, (1 - LEAST_LIFT * held**0.7) / np.linalg.norm(points, axis=-1))[..., None]
    return Sheet(points, np.full(NODES, echo), rng.uniform(0.012, 0.022), rng.uniform(0.1, 0.4))


def _hyaloid(eye: Eye, motion: Motion, rng: np.random.Generator) -> Sheet:
    """Draw the posterior vitreous face: from base to base, in front of the disc and the macula."""
    along = np.linspace(0, 1, NODES)
    nasal, temporal = eye.ora[0] + rng.uniform(0, 0.25), eye.ora[1] - rng.uniform(0, 0.25)
    angle = nasal + (temporal - nasal) * along
    held = np.sin(np.pi * along)
    gap = rng.uniform(0.22, 0.60) * held ** rng.uniform(0.5, 1.0) * (1 + 0.4 * rng.normal() * (along - 0.5))
    folds = _waves(along, rng, first=2, count=3, size=0.03) * held
    swing = _swing(motion, rng, modes=4, pull=0.9)
    turn = swing[:, :1] * held
    heave = 0.30 * swing[:, 1:] @ np.stack([np.sin(k * np.pi * along) for k in (1, 2, 3)])
    lift = np.maximum(gap + folds + heave, 0.06 * held)  # the wall stops it
    echo = 10 ** (rng.uniform(-24, -9) / 20) * _patchy(along, rng)
    return Sheet(on_wall(angle + turn, 1 - lift), echo, rng.uniform(0.003, 0.008), rng.uniform(0.6, 1.6))


def _speck(swing: np.ndarray, rng: np.random.Generator) -> Sheet:
    place = on_wall(rng.uniform(-1.6, 1.6), 0.85 * np.sqrt(rng.random()))
    place = place * [1, 0.6] + [0, 0.22]  # behind the lens
    curl = np.cumsum(rng.normal(0, 0.02, (5, 2)) + rng.normal(0, 0.012, 2), 0)
    path = swing * np.hypot(*place)
    sway = np.stack([path[:, 0], 0.5 * path[:, 1]], -1)[:, None]
    echo = 10 ** (rng.uniform(-30, -14) / 20)
    return Sheet(place + curl + sway, np.full(5, echo), rng.uniform(0.004, 0.015), 0.0)


def _swing(motion: Motion, rng: np.random.Generator, modes: int, pull: float) -> np.ndarray:
    """Return (T, modes) of a jelly: slow, hardly damped; the first mode stays behind the globe, the others slosh."""
    hz, damping = rng.uniform(0.7, 1.8, modes), rng.uniform(0.10, 0.25, modes)
    sense = np.where(np.arange(modes) == 0, 1, rng.choice([-1, 1], modes))
    return motion.lag(hz, damping, pull * sense * rng.uniform(0.6, 1.1, modes))


def _waves(along: np.ndarray, rng: np.random.Generator, first: int, count: int, size: float) -> np.ndarray:
    order = np.arange(first, first + count)[:, None]
    phase, height = rng.uniform(0, 2 * np.pi, (count, 1)), rng.normal(0, size, (count, 1)) * first / order
    return (height * np.sin(order * np.pi * along + phase)).sum(0)


def _patchy(along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a strength that varies along the curve by about 4 dB."""
    return 10 ** (_waves(along, rng, first=2, count=4, size=2.5) / 20)


def _normals(points: np.ndarray) -> np.ndarray:
    """Return (K, 2) unit normals of a curve that point to the globe's centre when its angle grows."""
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.stack([tangent[:, 1], -tangent[:, 0]], -1)
