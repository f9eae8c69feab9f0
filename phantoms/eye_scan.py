"""The probe and the scanner: from an eye's scatterers to B-mode images.

An image is the magnitude of a complex field: scatterers, each with a random phase, blurred by the pulse (narrow in
depth, wide across), which is what makes speckle. The scatterers belong to the tissue, so that speckle moves with it,
and two sets are mixed with a drifting weight, so that it also changes as the section wanders. Shadows, noise and
logarithmic compression follow.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .eye import Eye, Sheet, on_wall, turned
from .eye_motion import drift

PER_PX = 2.0  # scatterers of an interface per pixel of its length
POOL_PX = 61  # by how much the noise pool is larger than an image


@dataclass(frozen=True)
class Setting:
    """Scanner and crop of one clip.

    Attributes:
        crop: (left, top, right, bottom) of the image in the eye frame, before an eye with its temple on the left
            mirrors it. Pixels need not be square.
        gain_db, range_db: Amplification, and the span from black to white.
        tgc_db: How much brighter the bottom is than the top, by a wrong depth compensation.
        pulse: Spread in depth and across, in globe radii.
        noise_db: Level of the electronics' noise against the wall's echo.
        persistence: Weight of the image before.
        gel: Depth of the near-field haze in globe radii.
    """

    crop: tuple[float, float, float, float]
    gain_db: float
    range_db: float
    tgc_db: float
    pulse: tuple[float, float]
    noise_db: float
    persistence: float
    gel: float

    @classmethod
    def draw(cls, shape: tuple[int, int], rng: np.random.Generator) -> "Setting":
        """Draw a random examination, cropped to the globe for images of `shape` (H, W)."""
        height, top, aside = rng.uniform(2.35, 2.65), rng.uniform(1.08, 1.20), rng.normal(0, 0.03)
        half = max(1.03, height / 2 * shape[1] / shape[0] * rng.uniform(0.94, 1.06))
        return cls(
            crop=(aside - half, -top, aside + half, height - top),
            gain_db=rng.normal(-3, 3),
            range_db=rng.uniform(44, 60),
            tgc_db=rng.normal(0, 3),
            pulse=(rng.uniform(0.009, 0.014), rng.uniform(0.016, 0.030)),
            noise_db=rng.uniform(-62, -43),
            persistence=rng.uniform(0.0, 0.45),
            gel=rng.uniform(0.04, 0.16),
        )


class Scan:
    """One eye in front of one scanner, on a raster of H x W pixels.

    Args:
        eye: Its anatomy.
        setting: Scanner and crop.
        shape: (H, W).
        rng: Of scatterers and noise.
    """

    def __init__(self, eye: Eye, setting: Setting, shape: tuple[int, int], rng: np.random.Generator):
        self.eye, self.setting, self.shape, self._rng = eye, setting, shape, rng
        left, top, right, bottom = setting.crop
        if eye.temporal < 0:
            left, right = -right, -left
        height, width = shape
        self._scale = np.array([eye.temporal * width / (right - left), height / (bottom - top)])
        self._centre = np.array([-left * width / (right - left), -top * height / (bottom - top)])
        self._px = float(np.sqrt(np.abs(self._scale).prod()))  # per globe radius
        self._pad = int(0.2 * self._px) + 1
        self._kernels = [_gaussian(sigma * self._px) for sigma in setting.pulse]
        self._tissue()
        self._optics()

    def film(self, sheets: list[Sheet], gaze: np.ndarray, fps: float) -> np.ndarray:
        """Return the clip.

        Args:
            sheets: Interfaces and membranes, in the eye frame.
            gaze: (T,) turn of the globe in radians.
            fps: Frames per second.

        Returns:
            (T, H, W) uint8.
        """
        frames = len(gaze)
        hand = drift(frames, fps, 0.012, 2, self._rng) * np.abs(self._scale)
        mix = drift(frames, fps, 0.8, 1, self._rng)[:, 0] + 2.0 * gaze
        at, strength = self._scatterers(sheets, gaze, hand)
        clip, before = np.empty((frames, *self.shape), np.uint8), None
        for t in range(frames):
            field = self._bulk(gaze[t], hand[t], mix[t])
            field += _splat(at[t], strength[t], self.shape)
            grey = self._develop(field, self._shadow(gaze[t], hand[t]))
            if before is not None:
                grey += self.setting.persistence * (before - grey)
            clip[t], before = grey, grey
        return clip

    def _tissue(self) -> None:
        """Make static scatterers of the wall, which turns with the globe, and of what surrounds it."""
        x, y = self._grid(self._pad)
        radius = np.hypot(x, y)
        angle = np.abs(np.arctan2(x, y))
        steep = (np.abs(y) / np.maximum(radius, 0.1)) ** 2  # a wall along the beam echoes little
        wall = _ramp(radius - 1.0, 2 / self._px) * _ramp(1.085 - radius, 0.05) * (0.10 + 0.90 * steep)
        wall *= _ramp(2.55 - angle, 0.1)  # the cornea takes its place in front
        cap = np.hypot(x, y + 1 + self.eye.cornea - 0.65) - 0.65  # distance to the cornea
        outside = _ramp(np.minimum(radius - 1.04, cap - 0.02), 0.03)
        fat = 0.22 * _ramp(y - 0.45, 1.0) * np.exp(-1.2 * np.maximum(radius - 1.1, 0))
        muscle = 1 - 0.75 * np.exp(-(((radius - 1.22) / 0.06) ** 2)) * _ramp(angle - 0.75, 0.3)
        lid = 0.13 * _ramp(-0.6 - y, 0.5)
        orbit = outside * (fat * muscle + lid + 0.03) * self._lobules(radius.shape)
        self._wall = [wall[..., None] * self._noise(radius.shape) for _ in range(2)]
        self._orbit = [orbit[..., None] * self._noise(radius.shape) for _ in range(2)]

    def _optics(self) -> None:
        """Return what the way of the sound does to each pixel: depth compensation, contact, near field, noise."""
        setting, rng = self.setting, self._rng
        height, width = self.shape
        depth = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        contact = cv2.resize(rng.normal(0, 1.6, (1, 6)).astype(np.float32), (width, 1), interpolation=cv2.INTER_CUBIC)
        edges = -7 * np.abs(np.linspace(-1, 1, width, dtype=np.float32))[None] ** 6
        self._beam = 10 ** ((setting.gain_db + setting.tgc_db * (depth - 0.6) + contact + edges) / 20)
        self._hiss = self._noise((height + POOL_PX, width + POOL_PX))
        self._level = 10 ** ((setting.noise_db + 8 * (depth[..., None] - 0.5)) / 20)
        below = depth * (setting.crop[3] - setting.crop[1])
        ringing = 0.12 + 0.25 * np.cos(np.pi * below / (0.5 * setting.gel)) ** 8
        self._near = (np.exp(-below / setting.gel) * ringing)[..., None] * self._noise((height, width))

    def _scatterers(self, sheets: list[Sheet], gaze: np.ndarray, hand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points of all interfaces: where, (T, N, 2) in pixels, and their complex strength (T, N, 2)."""
        places, strengths = [], []
        across = self.setting.pulse[1] / self.setting.pulse[0]
        for sheet in sheets:
            nodes = turned(sheet.points, gaze) * self._scale + (self._centre + hand[:, None])
            sides = np.diff(nodes, axis=1)
            length = np.linalg.norm(sides, axis=2)
            count = int(PER_PX * length[0].sum() * (1 + sheet.thickness / 0.02)) + 2
            along = self._rng.uniform(0, length.shape[1] - 1e-6, count)
            node, share = along.astype(int), (along % 1)[:, None]
            side = sides[:, node]
            unit = side / np.maximum(length[:, node, None], 1e-6)
            off = self._rng.normal(0, sheet.thickness * self._px, (count, 1))
            places.append(nodes[:, node] + share * side + off * unit[..., ::-1] * [-1, 1])
            facing = 0.08 + 0.92 * np.abs(unit[..., 0]) ** sheet.gloss
            echo = sheet.echo[node] * length[:, node] * length.shape[1] / count / np.sqrt(2 * across)
            phase = 0.6 * self._rng.standard_normal((count, 2)) + [0.8, 0]  # partly in step: a smooth surface
            strengths.append((facing * echo)[..., None] * phase)
        return np.concatenate(places, 1).astype(np.float32), np.concatenate(strengths, 1).astype(np.float32)

    def _bulk(self, gaze: float, hand: np.ndarray, mix: float) -> np.ndarray:
        """Return (H, W, 2) field of wall and orbit, with the nerve's dark band."""
        cos, sin = np.float32(np.cos(mix)), np.float32(np.sin(mix))
        height, width = self.shape
        turn = self._turn(gaze, hand)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        field = cv2.warpAffine(cos * self._wall[0] + sin * self._wall[1], turn, (width, height), flags=flags)
        moved = self._turn(0.0, hand)
        field += cv2.warpAffine(cos * self._orbit[0] + sin * self._orbit[1], moved, (width, height), flags=flags)
        self._darken_nerve(field, gaze, hand)
        return field

    def _turn(self, gaze: float, hand: np.ndarray) -> np.ndarray:
        """Return (2, 3) from a pixel to the padded raster of the globe at rest."""
        cos, sin = np.cos(gaze), np.sin(gaze)
        stretch = np.diag(self._scale)
        back = stretch @ np.array([[cos, -sin], [sin, cos]]) @ np.linalg.inv(stretch)
        return np.column_stack([back, self._centre + self._pad - back @ (self._centre + hand)])

    def _darken_nerve(self, field: np.ndarray, gaze: float, hand: np.ndarray) -> None:
        half, depth = self.eye.nerve
        disc_x, disc_y = on_wall(np.array(self.eye.disc + gaze)).tolist()
        x, y = self._grid(0, hand)
        top = max(0, int(np.searchsorted(y[:, 0], disc_y - 0.05)))
        y = y[top:]
        depth = np.clip((y - disc_y) / (2.0 - disc_y), 0, 1)
        middle = disc_x + (self.eye.apex - disc_x) * depth * (1.4 - 0.4 * depth)
        band = _ramp(half * (0.75 + 0.5 * np.minimum(4 * depth, 1)) - np.abs(x - middle), 0.08) * _ramp(
            y - disc_y, 0.06
        )
        field[top:] *= (1 - depth * band)[..., None]

    def _shadow(self, gaze: float, hand: np.ndarray) -> np.ndarray:
        """Return (H, W) of what passes: the lens bends sound away at its rim, which leaves two dark streaks below."""
        front, back, half = self.eye.lens
        level = (front + back) / 2
        rims = turned(np.array([[[-half, level], [half, level]]]), np.array([gaze]))[0, :, 0].tolist()
        x, y = self._grid(0, hand)
        across = sum(np.exp(-(((x - rim) / 0.07) ** 2)) for rim in rims)
        return 1 - 0.55 * across * _ramp(y - level, 0.3)

    def _develop(self, field: np.ndarray, shadow: np.ndarray) -> np.ndarray:
        """Return (H, W) float32 grey 0..255 of a field of scatterers."""
        setting = self.setting
        height, width = self.shape
        field *= shadow[..., None]
        top, left = self._rng.integers(0, POOL_PX, 2)
        field += self._near + self._level * self._hiss[top : top + height, left : left + width]
        field = cv2.sepFilter2D(field, -1, self._kernels[1], self._kernels[0])
        field *= self._beam[..., None]
        power = cv2.transform(field * field, np.ones((1, 2), np.float32))
        power = cv2.GaussianBlur(power, (0, 0), 0.6)  # compounding softens speckle
        decibel = 10 * np.log10(power + np.float32(1e-9))
        return np.clip(255 * (1 + (decibel - 3) / setting.range_db), 0, 255)

    def _grid(self, pad: int, hand: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return x (1, W) and y (H, 1) in the orbit's frame, float32."""
        height, width = self.shape
        shift = self._centre + hand
        x = (np.arange(-pad, width + pad) - shift[0]) / self._scale[0]
        y = (np.arange(-pad, height + pad) - shift[1]) / self._scale[1]
        return np.float32(x)[None, :], np.float32(y)[:, None]

    def _noise(self, shape: tuple[int, int]) -> np.ndarray:
        """Return (H, W, 2) scatterers of unit strength after the pulse's blur."""
        gain = np.sqrt(4 * np.pi * np.prod([max(0.5, sigma * self._px) for sigma in self.setting.pulse]))
        return self._rng.standard_normal((*shape, 2), np.float32) * np.float32(gain / np.sqrt(2))

    def _lobules(self, shape: tuple[int, int]) -> np.ndarray:
        """Return (H, W) coarse texture of fat."""
        coarse = self._rng.normal(0, 0.5, (12, 12)).astype(np.float32)
        return np.exp(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC))


def _splat(at: np.ndarray, strength: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return (H, W, 2) sum of points (N, 2: x, y in pixels) of strength (N, 2), shared between four pixels each."""
    height, width = shape
    inside = (at[:, 0] >= 0) & (at[:, 0] < width - 1) & (at[:, 1] >= 0) & (at[:, 1] < height - 1)
    at, strength = at[inside], strength[inside]
    corner = at.astype(np.int64)
    right, down = (at - corner).T
    first = corner[:, 1] * width + corner[:, 0]
    index = np.concatenate([first, first + 1, first + width, first + width + 1])
    share = np.concatenate([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down])
    planes = [np.bincount(index, share * np.tile(strength[:, c], 4), height * width) for c in (0, 1)]
    return np.stack(planes, -1).reshape(height, width, 2).astype(np.float32)


def _gaussian(sigma: float) -> np.ndarray:
    sigma = max(0.5, sigma)
    return cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma)) + 1, sigma, cv2.CV_32F)


def _ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a straight step from 0 to 1 over `width` around distance 0."""
    return np.clip(distance * np.float32(1 / width) + np.float32(0.5), 0, 1)
