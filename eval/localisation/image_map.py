"""A map of where a model looked in one image, on the image's own pixels."""

from dataclasses import dataclass, replace

import numpy as np

CENTRE_STD = 0.25  # standard deviation of the central map, as a share of the image's sides


@dataclass(frozen=True, eq=False)
class ImageMap:
    """A coarse grid over an image, or over the part of it that the model saw.

    Attributes:
        values: (gh, gw) at least 0, of any scale.
        extent_px: Left, top, right and bottom of the grid in px of the image; parts may lie outside of it.
        width_px, height_px: Of the image.
    """

    values: np.ndarray
    extent_px: tuple[float, float, float, float]
    width_px: float
    height_px: float

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x (gw,) and y (gh,) of the cells' middles, in px of the image."""
        left, top, right, bottom = self.extent_px
        rows, columns = self.values.shape
        across, down = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
        return left + across * (right - left), top + down * (bottom - top)

    def peaks(self) -> np.ndarray:
        """Return (K, 2) x and y of the highest cells' middles, several where they tie; none where the map is 0."""
        if not self.values.max() > 0:
            return np.zeros((0, 2))
        x, y = self.centres()
        rows, columns = np.nonzero(self.values == self.values.max())
        return np.column_stack([x[columns], y[rows]])

    def sampled(self, width: int, height: int) -> np.ndarray:
        """Return the whole image's map (height, width), linear between cells' middles; NaN where no cell lies."""
        left, top, right, bottom = self.extent_px
        x = (np.arange(width) + 0.5) / width * self.width_px
        y = (np.arange(height) + 0.5) / height * self.height_px
        across, down = self.centres()
        out = _weights(y, down) @ self.values @ _weights(x, across).T
        out[(y < top) | (y > bottom)] = np.nan
        out[:, (x < left) | (x > right)] = np.nan
        return out

    def uniform(self) -> "ImageMap":
        """Return the map that prefers no place."""
        return replace(self, values=np.ones(self.values.shape))

    def central(self) -> "ImageMap":
        """Return the map that always points at the middle of the image, on the same grid."""
        x, y = self.centres()
        away_x = (x / self.width_px - 0.5) / CENTRE_STD
        away_y = (y / self.height_px - 0.5) / CENTRE_STD
        # Rounded, so that cells as far from the middle tie.
        return replace(self, values=np.round(np.exp(-(away_x[None] ** 2 + away_y[:, None] ** 2) / 2), 9))


def box_cover(shape: tuple[int, int], box: np.ndarray) -> np.ndarray:
    """Return (h, w) share of each pixel that lies in a box (left, top, right, bottom in pixels)."""
    along = []
    for start, end, size in ((box[1], box[3], shape[0]), (box[0], box[2], shape[1])):
        first = np.arange(size)
        along.append(np.clip(np.minimum(end, first + 1) - np.maximum(start, first), 0, None))
    return np.outer(*along)


def _weights(places: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return (P, n) weights of linear interpolation between rising nodes, constant beyond the first and the last."""
    at = np.interp(places, nodes, np.arange(len(nodes), dtype=np.float64))
    return np.clip(1 - np.abs(at[:, None] - np.arange(len(nodes))), 0, None)
