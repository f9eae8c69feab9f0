"""How a decoded frame is turned and mirrored to be upright, as players do it by the display matrix of a file."""

from dataclasses import dataclass

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations: rows and columns swapped first, then what is mirrored.

    Attributes:
        swap: Rows become columns.
        mirror_x, mirror_y: Mirror left to right, and top to bottom.
    """

    swap: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether it is no mere turn."""
        return self.swap ^ self.mirror_x ^ self.mirror_y

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the upright (height, width) of a stored one, and the other way round."""
        return size[::-1] if self.swap else size

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the upright image, a view of (H, W) or (H, W, 3)."""
        if self.swap:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation(frame: av.VideoFrame, time_base) -> Orientation:
    """Return the orientation of a frame of a stream with that time base; a slant is taken for the nearest quarter.

    The matrix maps places of the stored image to those of the shown one: x' = a x + c y, y' = b x + d y
    (ISO 14496-12, 6.2.2).
    """
    small = _small(frame, time_base)
    matrix = small.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def _small(frame: av.VideoFrame, time_base) -> av.VideoFrame:
    """Return a tiny frame with the same side data.

    Asking PyAV for the side data of a frame ties it to itself: its memory is kept until Python looks for circles.
    """
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=time_base or 1
    )
    scale, sink = graph.add("scale", "8:8:flags=neighbor"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()
