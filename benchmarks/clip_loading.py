"""Loading ultrasound clips for pre-training, second epoch: 16 frames cut from a cache against decord from the file.

uv run --group bench python benchmarks/clip_loading.py
"""

import tempfile
from pathlib import Path

import cv2
import decord
import numpy as np
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.readers import ClipReader
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.views import TrainView
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


def main() -> None:
    """Time both and print the ratio."""
    print(machine("decord"))
    with tempfile.TemporaryDirectory() as folder:
        write_erdes(Path(folder), clips=CLIPS, size_px=320, seconds=(2.0, 3.0))
        files = sorted(Path(folder).rglob("*.mp4"))
        peer = per_item(lambda i: from_file(files[i]), CLIPS)
        cache = build_cache(files, Path(folder) / "cache", ClipReader(256), progress=False)
        view = TrainView(Augment(size=SIZE, crop_scale=(0.5, 1.0)), Clip("strided", stride=2), FRAMES)
        ours = per_item(lambda i: view(cache[i], i), CLIPS, rounds=5)
        print(f"decord from the file (320 px, colour as stored)  {peer * 1000:8.2f} ms a clip")
        print(f"ours, from the cache (256 px, grey)              {ours * 1000:8.2f} ms a clip{peer / ours:8.1f}x")


if __name__ == "__main__":
    main()
