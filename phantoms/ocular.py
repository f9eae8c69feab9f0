"""Invented ocular ultrasound clips with findings whose cause is visible, singly or as a small ERDES.

Nothing here is a patient, and nothing learned here is a claim about one: phantoms let the demo and the tests
walk the road of real data, with labels that are true by construction.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..core.extras import require
from ..core.files import write_text, written_aside
from ..datasets.manifest.tables import nearest
from .eye import Eye
from .eye_findings import floaters, membranes
from .eye_motion import Motion
from .eye_scan import Scan, Setting

LEAST_PX = 48  # smaller, the layers of an eye are under a pixel
LEAST_MIDDLE_PX = 64  # of a set, whose images are down to 24 % smaller


class Place(NamedTuple):
    """Where ERDES keeps the clips of a diagnosis.

    Attributes:
        folder: Below the root.
        prefix: How their names begin.
        diagnostic_class, subtype, anatomical_subclass: What `metadata.csv` says of them.
        share: Of a phantom set. The real set is nearly four fifths normal; here every task has enough of both classes.
    """

    folder: str
    prefix: int
    diagnostic_class: str
    subtype: str
    anatomical_subclass: str
    share: float


PLACES = {
    "normal": Place("Non_Retinal_Detachment/Normal", 164267, "non_rd", "normal", "", 0.26),
    "pvd": Place("Non_Retinal_Detachment/Posterior_Vitreous_Detachment", 825315, "non_rd", "pvd", "", 0.24),
    "macula_intact_nd": Place("Retinal_Detachment/Macula_Intact/ND", 258033, "rd", "macula_intact", "ND", 0.12),
    "macula_intact_td": Place("Retinal_Detachment/Macula_Intact/TD", 102769, "rd", "macula_intact", "TD", 0.13),
    "macula_detached_bilateral": Place(
        "Retinal_Detachment/Macula_Detached/Bilateral", 755384, "rd", "macula_detached", "Bilateral", 0.12
    ),
    "macula_detached_td": Place("Retinal_Detachment/Macula_Detached/TD", 405744, "rd", "macula_detached", "TD", 0.13),
}


def eye_phantom(diagnosis: str, seed: int, *, size_px: int = 160, frames: int = 48, fps: float = 25.0) -> np.ndarray:
    """Make one clip of an eye that looks from side to side under a linear probe.

    Args:
        diagnosis: "normal", "pvd" (posterior vitreous detachment), or a retinal detachment: "macula_intact_nd" (nasal),
            "macula_intact_td" (temporal), "macula_detached_bilateral", "macula_detached_td".
        seed: Of everything random. The same seed gives the same eye, scanner and gaze with any diagnosis.
        size_px: Side of the square images.
        frames: Number of frames.
        fps: Frames per second.

    Returns:
        (T, H, W) uint8.

    Raises:
        UserError: No such diagnosis, images too small, or a clip without frames.
    """
    _known(diagnosis)
    if size_px < LEAST_PX or frames < 1 or fps <= 0:
        raise UserError(
            f"{frames} frames, {size_px} px, {fps} fps: a phantom needs 1 frame, {LEAST_PX} px and a positive rate."
        )
    return _clip(diagnosis, seed, (size_px, size_px), frames, fps)


def write_erdes(
    root: str | Path,
    *,
    clips: int | Mapping[str, int] = 240,
    seed: int = 0,
    size_px: int = 160,
    seconds: tuple[float, float] = (1.0, 3.0),
    fps: float = 25.0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a small ERDES tree exactly as it is downloaded.

    `Non_Retinal_Detachment/Normal/164267_00001.mp4` and the other five folders, and `metadata.csv`. Each clip is of
    another eye and has its own length and nearly square size. Files that exist are written again; the same
    arguments give the same bytes with the same encoder (H.264; MPEG-4 part 2 where PyAV lacks x264).

    Args:
        root: The folder that is to hold `Non_Retinal_Detachment`, `Retinal_Detachment` and `metadata.csv`.
        clips: Number of clips, shared out as `PLACES` says, or the number for each diagnosis.
        seed: Everything random follows from it; a clip does not depend on how many there are.
        size_px: Middle height of the images; heights vary by 15 %, widths by another 10 %, all even.
        seconds: Shortest and longest clip.
        fps: Frames per second of all clips.
        progress: Called with (clips done, clips in all).

    Returns:
        `root`.

    Raises:
        UserError: Fewer clips than diagnoses, an unknown diagnosis, images too small or lengths that are none.
    """
    root = Path(root)
    numbers = _numbers(clips)
    if not 0 < seconds[0] <= seconds[1]:
        raise UserError(f"seconds={seconds}: give the shortest and the longest clip, both above 0.")
    if size_px < LEAST_MIDDLE_PX or fps <= 0:
        raise UserError(f"{size_px} px, {fps} fps: a phantom set needs {LEAST_MIDDLE_PX} px and a positive rate.")
    rows, total = [], sum(numbers.values())
    for diagnosis, count in numbers.items():
        for number in range(1, count + 1):
            rows.append(_write_clip(root, diagnosis, number, seed, size_px, seconds, fps))
            if progress is not None:
                progress(len(rows), total)
    write_text(root / "metadata.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    return root


def _clip(diagnosis: str, seed: int, shape: tuple[int, int], frames: int, fps: float) -> np.ndarray:
    # One stream each, so that a finding leaves the eye, its movement and the scanner as they are.
    anatomy, moving, finding, scanning = (np.random.default_rng((seed, part)) for part in range(4))
    eye, motion, setting = Eye.draw(anatomy), Motion(frames, fps, moving), Setting.draw(shape, scanning)
    sheets = [*eye.interfaces(), *floaters(motion, moving), *membranes(diagnosis, eye, motion, finding)]
    return Scan(eye, setting, shape, scanning).film(sheets, motion.gaze, fps)


def _known(diagnosis: str) -> None:
    if diagnosis not in PLACES:
        raise UserError(f"No phantom of {diagnosis!r}{nearest(diagnosis, PLACES)}. There are: {', '.join(PLACES)}.")


def _numbers(clips: int | Mapping[str, int]) -> dict[str, int]:
    """Count the clips of each diagnosis, in the order of `PLACES`."""
    if isinstance(clips, Mapping):
        for name in clips:
            _known(name)
        if min(clips.values(), default=0) < 0 or not sum(clips.values()):
            raise UserError(f"clips={dict(clips)}: a phantom set needs a clip, and no number below 0.")
        return {name: clips[name] for name in PLACES if name in clips}
    if clips < len(PLACES):
        raise UserError(f"{clips} clips: a phantom set needs {len(PLACES)} at least, one of each diagnosis.")
    # Rounding the running sum keeps the total; the last of it is exactly `clips`.
    ends = np.rint(np.cumsum([place.share for place in PLACES.values()]) * (clips - len(PLACES))).astype(int)
    return dict(zip(PLACES, (1 + np.diff(ends, prepend=0)).tolist()))


def _write_clip(
    root: Path, diagnosis: str, number: int, seed: int, size_px: int, seconds: tuple[float, float], fps: float
) -> dict:
    """Write one clip; its row of metadata.csv."""
    place = PLACES[diagnosis]
    rng = np.random.default_rng((seed, place.prefix, number))
    height = size_px * rng.uniform(0.85, 1.15)
    height, width = (2 * round(side / 2) for side in (height, height * rng.uniform(0.9, 1.1)))
    frames = max(1, round(rng.uniform(*seconds) * fps))
    clip = _clip(diagnosis, int(rng.integers(2**31)), (height, width), frames, fps)
    name = f"{place.prefix}_{number:05d}"
    path = f"{place.folder}/{name}.mp4"
    _write_mp4(root / path, clip, fps)
    return {
        "clip_id": name,
        "file_path": path,
        "diagnostic_class": place.diagnostic_class,
        "subtype": place.subtype,
        "anatomical_subclass": place.anatomical_subclass,
        "fps": fps,
        "frame_count": frames,
        "width": width,
        "height": height,
        "duration_seconds": round(frames / fps, 3),
    }


def _write_mp4(path: Path, clip: np.ndarray, fps: float) -> None:
    """Write grey (T, H, W), even sides, as H.264 in yuv420p."""
    av = require("av", "video", path)

    x264 = "libx264" in av.codec.codecs_available
    height, width = clip.shape[1:]
    luma = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)[clip]  # black is 16 and white 235 in video
    planes = np.full((len(clip), height * 3 // 2, width), 128, np.uint8)  # no colour
    planes[:, :height] = luma
    with written_aside(path) as aside, av.open(str(aside), "w", format="mp4") as file:
        stream = file.add_stream(
            "libx264" if x264 else "mpeg4",
            rate=Fraction(fps).limit_denominator(1001),
            options={"crf": "20", "preset": "veryfast", "threads": "1"} if x264 else {"qscale": "3"},
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in planes:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="yuv420p")))
        file.mux(stream.encode())
