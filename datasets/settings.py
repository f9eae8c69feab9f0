"""What a recipe says of the data."""

from dataclasses import dataclass, field

from ..core.errors import UserError
from ..core.ranges import check_ranges, within

SAMPLINGS = ("strided", "dense", "sparse", "uniform", "volume")
CLIP_READERS = ("pyav", "decord", "torchcodec")
ROIS = ("none", "moving", "boxes")
MAX_FPS = 1000


@dataclass(frozen=True)
class Clip:
    """How frames are taken from a clip; of no account for images (`model.frames` 1).

    Attributes:
        sampling: `strided` (VideoMAE V2's pre-training: every `stride`-th frame from a random start), `dense` (its
            fine-tuning: evenly within a window of frames x stride), `sparse` (one frame of each equal segment, as for
            Something-Something), `uniform` (evenly over the whole clip) or `volume` (ERDES: the whole clip, padded to
            a square, resampled in space and time; nothing is random).
        stride: Frames from one to the next, for strided and dense.
        repeats: Samples of each decoded clip in a step (repeated augmentation); they do not count in `batch_size`.
        black_out: Blacken all that never moves, where names, scales and logos are burned in.
        fps: Frames a second: clips are sampled by time, and `stride` counts such frames. null takes the frames of the
            file, of which a clip of 60 frames a second has four for one of 15.
        reader: What decodes videos: `pyav`; `decord` or `torchcodec`, which give the same frames, are refused for files
            of which they do not, and are installed by `pip install 'clinvit[decord]'` or `'clinvit[torchcodec]'`.
        roi: Region of interest that every clip is cropped to before anything else: `none`; `moving`, the box around the
            part that moves, such as the scan sector; or `boxes`, of the table `roi.csv` beside the manifest. A clip in
            which none is found is read whole, which is said and stored.
        roi_margin: Added to the region on each side, as a share of the region's side.
    """

    sampling: str = "strided"
    stride: int = field(default=4, metadata=within(1))
    repeats: int = field(default=1, metadata=within(1))
    black_out: bool = False
    fps: float | None = field(default=None, metadata=within(0, MAX_FPS, exclude="low"))
    reader: str = "pyav"
    roi: str = "none"
    roi_margin: float = field(default=0.05, metadata=within(0, 1))

    def __post_init__(self):
        check_ranges(self, "data.clip")
        if self.sampling not in SAMPLINGS:
            raise UserError(f"data.clip.sampling {self.sampling!r}: one of {', '.join(SAMPLINGS)}.")
        if self.reader not in CLIP_READERS:
            raise UserError(f"data.clip.reader {self.reader!r}: one of {', '.join(CLIP_READERS)}.")
        if self.roi not in ROIS:
            raise UserError(f"data.clip.roi {self.roi!r}: one of {', '.join(ROIS)}.")


@dataclass(frozen=True)
class Data:
    """Which cases, and how their pixels are stored and normalised.

    Attributes:
        splits: Splits of the manifest that are trained on.
        labels: Labels to learn, in this order; null for all of the manifest.
        cache: Decode each file once and keep it on disk; false decodes it anew every time (sets too large to keep).
        cache_px: Shorter side that files are shrunk to when they are decoded, pixels; at least the input size.
        clip: How frames are taken from clips.
        mean: Mean of pixels in 0..1, one value per channel.
        std: Standard deviation of pixels in 0..1, one value per channel.
    """

    splits: tuple[str, ...] = ("train",)
    labels: tuple[str, ...] | None = None
    cache: bool = True
    cache_px: int = field(default=256, metadata=within(1))
    clip: Clip = field(default_factory=Clip)
    mean: tuple[float, ...] = field(default=(0.5056,), metadata=within(0, 1))
    std: tuple[float, ...] = field(default=(0.252,), metadata=within(0, 1, exclude="low"))

    def __post_init__(self):
        check_ranges(self, "data")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3):
                raise UserError(f"data.{name} {list(values)}: one value, or three for red, green and blue.")


def for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return input statistics for another number of channels: one has the mean of three, three have that of the one."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
