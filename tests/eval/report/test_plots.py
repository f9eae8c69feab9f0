"""Images: the film strip of a clip and the confusion matrix."""

import base64
import io
import re

import numpy as np
import pytest
from clinvit.eval.report.film_strip import frame_importance_plot
from clinvit.eval.report.matrix import confusion_image, confusion_matrix
from PIL import Image

ACCENT = (196, 80, 10)


def image(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def accent_columns(pixels: np.ndarray) -> tuple[float, float]:
    """Left and right end of the framed thumbnails, as shares of the width."""
    strip = (np.abs(pixels[60:250].astype(int) - ACCENT) < 8).all(axis=2).sum(axis=0) > 60
    return np.flatnonzero(strip)[[0, -1]] / pixels.shape[1]


@pytest.mark.parametrize("sign", [1, -1])
def test_film_strip_marks_the_frames_blanked_together(sign):
    importance = np.zeros(32)
    importance[24:28] = sign * 2.0
    frames = np.full((32, 96, 96), 128, np.uint8)
    pixels = image(frame_importance_plot(np.arange(32) / 8, importance, frames, "clip", "detached", fps=8))
    assert pixels.shape == (600, 1200, 3)
    left, right = accent_columns(pixels)
    # The axis runs from 0.095 over 0.885 of the width; frames 24-27 are the seventh of its eight thumbnails.
    assert (left, right) == pytest.approx((0.095 + 0.885 * 6 / 8, 0.095 + 0.885 * 7 / 8), abs=0.01)


def test_the_most_important_frame_is_shown_even_between_the_regular_ones():
    importance, frames = np.zeros(40), np.zeros((40, 64, 64), np.uint8)
    importance[20], frames[20] = 1, 255
    pixels = image(frame_importance_plot(np.arange(40) / 10, importance, frames, "clip", "x"))
    left, right = accent_columns(pixels)
    inside = pixels[60:250, int(left * 1200) + 10 : int(right * 1200) - 10]
    assert (inside == 255).all(axis=2).mean() > 0.5


@pytest.mark.parametrize("frames", [1, 3, 9])
def test_film_strip_of_few_frames_without_any_importance(frames):
    data = frame_importance_plot(np.arange(frames), np.zeros(frames), np.zeros((frames, 9, 16), np.uint8), "$x", "<y>")
    assert not (np.abs(image(data).astype(int) - ACCENT) < 8).all(axis=2).any()


def test_matrix_shows_counts_and_shares_and_escapes_labels():
    svg = confusion_matrix(np.array([[1998, 2], [0, 0]]), ["<a>", "$b$"], "m", "alt")
    assert [text for text in re.findall(r">([^<>]+)</text>", svg) if "%" in text] == ["100 %", "&lt;1 %"]
    assert "1,998" in svg
    assert "n = 2,000" in svg
    assert "&lt;a&gt;" in svg
    assert "$b$" in svg
    assert not re.search(r"#0000\d\d|@\d+@", svg)


def test_matrix_of_many_classes_is_one_pixel_per_cell():
    counts = np.diag([4, 0, 9])
    counts[0, 2] = 12
    data = base64.b64decode(confusion_image(counts).removeprefix("data:image/png;base64,"))
    alpha = np.asarray(Image.open(io.BytesIO(data)))[:, :, 3]
    np.testing.assert_array_equal(alpha, [[128, 0, 221], [0, 0, 0], [0, 0, 255]])
