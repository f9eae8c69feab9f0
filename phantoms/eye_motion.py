"""How an eye moves during a kinetic examination, and how what hangs in its vitreous lags behind."""

import numpy as np

LEAD_S = 2.0  # of movement before the first frame, so that a clip may begin amid an after-movement
STEP_S = 0.01  # longest step of the integration
STILL_SHARE = 0.12  # of the clips: the patient fixates


class Motion:
    """Gaze over a clip and the oscillators that it drives.

    Attributes:
        gaze: (T,) angle by which the globe is turned in each frame, in radians, positive when the posterior pole
            goes to the temporal side.
    """

    def __init__(self, frames: int, fps: float, rng: np.random.Generator):
        steps = int(np.ceil(1 / (fps * STEP_S)))  # per frame
        self._step_s = 1 / (fps * steps)
        lead = round(LEAD_S * fps) * steps
        self._path = _gaze_path(lead + frames * steps, self._step_s, rng)
        self._shown = slice(lead, None, steps)
        self.gaze = self._path[self._shown]

    def lag(self, hz: np.ndarray, damping: np.ndarray, pull: np.ndarray) -> np.ndarray:
        """Return the displacement, relative to the globe, of masses on springs that the turning globe drags along.

        Args:
            hz: (M,) natural frequencies. Stiff things have high ones and hardly leave their place.
            damping: (M,) damping ratios; well below 1, a mass swings on after the eye has stopped.
            pull: (M,) displacement per radian of a sudden turn.

        Returns:
            (T, M): `q` of q'' + 2 d w q' + w^2 q = -pull * gaze''.
        """
        acceleration = np.gradient(np.gradient(self._path, self._step_s), self._step_s)
        omega = 2 * np.pi * np.asarray(hz)
        place, speed = np.zeros_like(omega), np.zeros_like(omega)
        places = np.empty((len(acceleration), len(omega)))
        for step, driven in enumerate(acceleration):
            speed = speed + self._step_s * (-pull * driven - 2 * damping * omega * speed - omega**2 * place)
            place = place + self._step_s * speed  # after the speed: stable without friction
            places[step] = place
        return places[self._shown]


def drift(frames: int, fps: float, size: float, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return (T, channels) slow wandering of about `size` about 0, as of the hand that holds the probe."""
    hz, phase = rng.uniform(0.1, 0.7, (2, channels)), rng.uniform(0, 2 * np.pi, (2, channels))
    time = np.arange(frames)[:, None, None] / fps
    return size * np.sin(2 * np.pi * hz * time + phase).sum(1)


def _gaze_path(steps: int, step_s: float, rng: np.random.Generator) -> np.ndarray:
    """Make holds and smooth turns from side to side, as when a patient is told to look left and right."""
    rest, reach = np.deg2rad(rng.normal(0, 3)), np.deg2rad(rng.uniform(5, 13))
    if rng.random() < STILL_SHARE:
        reach = np.deg2rad(1.0)
    side, step = rng.choice([-1.0, 1.0]), 0
    place = rest + side * reach
    path = np.full(steps, place)
    while step < steps:
        step += round(rng.uniform(0.05, 0.5) / step_s)
        side = -side
        target = rest + side * reach * rng.uniform(0.5, 1.0)
        turn = max(2, round(rng.uniform(0.12, 0.45) / step_s))
        share = np.linspace(0, 1, turn)
        smooth = share**3 * (10 - 15 * share + 6 * share**2)  # least jerk
        room = path[step : step + turn]
        room[:] = place + (target - place) * smooth[: len(room)]
        path[step + turn :] = place = target
        step += turn
    return path
