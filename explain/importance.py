"""Which frames of a clip raise or lower a score: parts are blanked, and the score's change is measured (occlusion)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..core.pixels import normalised
from ..datasets.loading.cache import Files, opened
from ..datasets.loading.readers import Reader
from ..finetune.model import ModelCard, predict_batch

WINDOWS = 16  # a clip is blanked in at most so many parts


class FrameImportance(NamedTuple):
    """What each frame that the model saw adds to its scores.

    Attributes:
        times_s: (T,) time of each frame in the clip, seconds.
        change: (L, T) change of the log-odds, per label, when the frame is blanked together with its neighbours in the
            same part of the clip; of targets that of the value, the expected grade or the risk. Below 0: the frame
            raises it.
        frames: (T, S, S) uint8, the frames as the model saw them.
    """

    times_s: np.ndarray
    change: np.ndarray
    frames: np.ndarray


@torch.inference_mode()
def frame_importance(
    model: nn.Module, card: ModelCard, file: Path, reader: Reader | None = None
) -> FrameImportance:  # fmt: skip
    """Measure what each part of a clip adds to the score, by blanking it (Zeiler & Fergus 2014, in time).

    A blanked part becomes the mean frame of the clip.

    Args:
        model: A model of clips.
        card: Its card.
        file: The clip.
        reader: Where it crops to boxes, one that knows them (`readers.with_boxes`); None for the card's.

    Raises:
        DataError: The clip cannot be read.
    """
    from ..datasets.video.clips import open_clip

    with open_clip(file, fps=card.clip.fps) as clip:
        times = clip.times
    view = card.views().single()
    with opened(Files([file], reader or card.reader()), 0) as pixels:
        image = view(pixels)
    length = card.arch.frames
    x = normalised(torch.from_numpy(image).to(next(model.parameters()).device), card.mean, card.std)
    parts = min(WINDOWS, length)
    part_of = np.arange(length) * parts // length
    blanked = x.expand(parts, -1, -1, -1, -1).clone()
    mean = x.mean(dim=2, keepdim=True)
    for part in range(parts):
        blanked[part, :, part_of == part] = mean[0]
    scores = predict_batch(model, torch.cat([x, blanked]), card).double().cpu()
    if card.targets:
        values = card.summaries(scores.numpy())
    else:
        values = scores.clamp(1e-7, 1 - 1e-7).logit().numpy()
    change = (values[1:] - values[0]).T
    shown = image[0].mean(axis=0).astype(np.uint8)
    return FrameImportance(times[view.frames_of(len(times))], change[:, part_of], shown)
