"""The stages of every task: what the report shows of a case."""

import numpy as np
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.video.clips import read_clip
from clinvit.datasets.video.frame_folder import FolderFrames
from clinvit.stages.case_images import case_images


def test_four_frames_of_a_clip_are_shown_and_no_others_decoded(clip_cohort, monkeypatch):
    manifest = read_manifest(clip_cohort(patients=2))
    case, clip = manifest.table["id"][0], manifest.files()[0]
    frames = read_clip(clip, shorter_px=160)
    chosen = [int((quarter + 0.5) * len(frames) / 4) for quarter in range(4)]
    decoded = []
    images = FolderFrames.images

    def look(self, ids, size):
        decoded.extend(ids)
        return images(self, ids, size)

    monkeypatch.setattr(FolderFrames, "images", look)
    image = case_images(manifest)
    shown = image(case)
    assert decoded == chosen and shown.shape == (64, 64) and shown.dtype == np.float32
    corners = shown[:32, :32], shown[:32, 32:], shown[32:, :32], shown[32:, 32:]
    for corner, frame in zip(corners, chosen, strict=True):
        np.testing.assert_array_equal(corner, frames[frame] / np.float32(255))
    (clip / f"{chosen[2]:03d}.png").write_bytes(b"no image")
    assert image(case) is None and image("unknown") is None
