"""Which part of a clip's frames is read, and what was read of it."""

from typing import Any, NamedTuple


class Region(NamedTuple):
    """What is read of a clip.

    Attributes:
        left, top, right, bottom: px of the upright frame, the last two exclusive.
        width_px, height_px: Of the whole frame.
        whole: Why the whole frame is read; empty where a region is.
    """

    left: int
    top: int
    right: int
    bottom: int
    width_px: int
    height_px: int
    whole: str = ""

    def text(self) -> str:
        """Return left, top, right and bottom in px, as a cell of a table."""
        return f"{self.left} {self.top} {self.right} {self.bottom}"


class ClipRead(NamedTuple):
    """What was read of a clip, as `images.colour.Read` of an image.

    Attributes:
        pixels: Its frames, or the open clip.
        lost_colour: Whether the file holds colours and grey was made of them.
        region: Where it is read cropped, which part.
    """

    pixels: Any
    lost_colour: bool
    region: Region | None = None
