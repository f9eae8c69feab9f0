"""Recognition of text in images, by the optional rapidocr and the models that its wheel carries: no network."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import UserError
from ...core.extras import require
from ...core.platform import usable_cores

MARGIN_PX = 16  # of black around an image: text at the very edge is found too


class FoundText(NamedTuple):
    """A line of text in an image.

    Attributes:
        text: As recognised.
        box: Left, top, right and bottom, px of the image.
    """

    text: str
    box: tuple[int, int, int, int]


class TextFinder:
    """Finds lines of text.

    Raises:
        UserError: rapidocr is not installed, or without its models.
    """

    def __init__(self) -> None:
        rapidocr = require("rapidocr", "ocr", "looking for text in pixels")
        require("onnxruntime", "ocr", "looking for text in pixels")
        models = Path(rapidocr.__file__).parent / "models"
        # Named, so that none is ever fetched.
        paths = {f"{part}.model_path": _model(models, part.lower()) for part in ("Det", "Rec")}
        threads = {
            "EngineConfig.onnxruntime.intra_op_num_threads": usable_cores(),
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        settings = {"Global.log_level": "critical", "Global.use_cls": False}
        self._engine: Any = rapidocr.RapidOCR(params=settings | paths | threads)

    def lines(self, pixels: np.ndarray) -> list[FoundText]:
        """Return the lines of text in a (H, W) uint8 image."""
        framed = np.pad(pixels, MARGIN_PX)
        found = self._engine(np.repeat(framed[:, :, None], 3, axis=2))
        if found.boxes is None:
            return []
        height, width = pixels.shape
        lines = []
        for text, corners in zip(found.txts, found.boxes, strict=True):
            if text.strip():
                low, high = np.min(corners, axis=0) - MARGIN_PX, np.max(corners, axis=0) - MARGIN_PX
                left, top, right, bottom = (round(float(each)) for each in (*low, *high))
                lines.append(FoundText(text, (max(left, 0), max(top, 0), min(right, width), min(bottom, height))))
        return lines


def _model(folder: Path, part: str) -> str:
    found = sorted(folder.glob(f"*_{part}_*.onnx"))
    if not found:
        raise UserError(f"{folder}: rapidocr has no model {part!r} there: pip install --force-reinstall 'clinvit[ocr]'")
    return str(found[0])
