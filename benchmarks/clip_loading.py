"""Loading ultrasound clips for pre-training, second epoch: 16 frames cut from a cache against decord from the file.

And from the file by each of `data.clip.reader`, at random places, side by side: opening counts.

uv run --group bench python benchmarks/clip_loading.py
"""

import tempfile
from pathlib import Path

import cv2
import decord
import numpy as np
from clinvit.core.errors import UserError
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.readers import ClipReader
from clinvit.datasets.settings import CLIP_READERS, Clip
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.views import TrainView
from clinvit.datasets.video.backends import refuse_absent
from clinvit.datasets.video.clips import open_clip
from clinvit.phantoms.ocular import write_erdes
from side_by_side import machine, per_item

CLIPS, SIZE, FRAMES = 24, 224, 16


def from_file(file: Path) -> np.ndarray:
    """What a plain loader does: every second frame from a random start, a random square crop, resized."""
    reader = decord.VideoReader(str(file), num_threads=1)
    start = np.random.default_rng().integers(0, max(1, len(reader) - 2 * FRAMES + 1))
    ids = np.minimum(start + 2 * np.arange(FRAMES), len(reader) - 1)
    frames = reader.get_batch(ids).asnumpy()
    side = int(min(frames.shape[1:3]) * 0.8)
    return np.stack([cv2.resize(frame[:side, :side], (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for frame in frames])


def ours_from_file(file: Path, reader: str) -> np.ndarray:
    """The same frames by ours, as they are without a cache."""
    with open_clip(file, colour=True, reader=reader) as clip:
        start = np.random.default_rng().integers(0, max(1, len(clip) - 2 * FRAMES + 1))
        return clip[np.minimum(start + 2 * np.arange(FRAMES), len(clip) - 1)]


def installed(reader: str) -> bool:
    """Whether a reader can be tried here; says why not."""
    try:
        refuse_absent(reader)
    except UserError as error:
        print(error)
        return False
    return True


def main() -> None:
    """Time all and print the ratios."""
    print(machine("decord"))
    with tempfile.TemporaryDirectory() as folder:
        write_erdes(Path(folder), clips=CLIPS, size_px=320, seconds=(2.0, 3.0))
        files = sorted(Path(folder).rglob("*.mp4"))
        peer = per_item(lambda i: from_file(files[i]), CLIPS)
        cache = build_cache(files, Path(folder) / "cache", ClipReader(256), progress=False)
        view = TrainView(Augment(size=SIZE, crop_scale=(0.5, 1.0)), Clip("strided", stride=2), FRAMES)
        ours = per_item(lambda i: view(cache[i], i), CLIPS, rounds=5)
        readers = {
            reader: per_item(lambda i, reader=reader: ours_from_file(files[i], reader), CLIPS)
            for reader in filter(installed, CLIP_READERS)
        }
        print(f"decord from the file (320 px, colour as stored)  {peer * 1000:8.2f} ms a clip")
        print(f"ours, from the cache (256 px, grey)              {ours * 1000:8.2f} ms a clip{peer / ours:8.1f}x")
        for reader, seconds in readers.items():
            print(f"data.clip.reader {reader:11} (320 px, colour, no crop) {seconds * 1000:8.2f} ms a clip")


if __name__ == "__main__":
    main()
