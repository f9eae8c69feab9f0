"""What a task is. One folder below `tasks/` fills it in, and every stage and verb takes what it needs from here."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..core.errors import UserError
from .pacs.options import add_web, web_query
from .unit_options import add_units, asked_units

if TYPE_CHECKING:
    import pandas as pd

    from ..datasets.manifest.layouts import Layout
    from ..datasets.manifest.tables import Manifest
    from ..datasets.quality.check import Findings
    from .dicom.case import Code
    from .dicom.results import Results
    from .reproduce.table import Table

Recipes = Mapping[str, Callable[[], Any]]


class Arguments(Protocol):
    """Where a task's own options go: the parser of a verb."""

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """Add an option, as argparse does; with `advanced=True` only `--help-all` shows it."""


class Task:
    """A clinical question: what its cases are, how its data sets are laid out, which recipes answer it.

    A task is a subclass of `ImageTask`, `ClipTask` or `SlideTask` in `tasks/<name>/task.py`, whose instance is called
    `TASK` there. Methods import what they need when they are called: the command lists tasks without torch.

    Attributes:
        name: As on the command line, and the folder below `tasks/`.
        summary: What its cases are, for help: `chest X-rays`.
        unit: What a case is called in reports: `image`, `clip`, `slide`.
        holds: What its folders hold, as of `datasets.manifest.contents`: `image`, `radiograph`, `clip`, `slide`.
        recipes: By stage (`pretrain`, `finetune`; of slides also `tile` and `extract`), then by name.
        cached: Whether decoded files are kept in a cache of pixels.
        channels: Channels of the recipes: 1 reads files in grey, 3 in colour.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    unit: ClassVar[str]
    holds: ClassVar[str]
    recipes: ClassVar[Mapping[str, Recipes]]
    cached: ClassVar[bool] = True
    channels: ClassVar[int] = 1

    def layouts(self) -> "Mapping[str, Layout]":
        """Return the layouts of data sets that `prepare` reads, by name."""
        raise NotImplementedError

    def tables(self) -> "Mapping[str, Table]":
        """Return the tables of papers that `reproduce` measures, by name: `<task>/<table>`."""
        return {}

    def demo(self, out: Path, seed: int) -> object:
        """Run all stages on invented data.

        Args:
            out: Folder to write. Repeating the command continues there.
            seed: Seed of the invented data and of the training.
        """
        raise UserError(f"{self.name} has no demo; `clinvit demo --help` names the tasks that have one.")

    def check(self, manifest: "Manifest", files: int | None, cache_px: int) -> "Findings":
        """Look at a manifest and its files before anything runs (see `datasets.quality.check.check_manifest`)."""
        raise NotImplementedError

    def reader(self, manifest: "Manifest", cache_px: int, channels: int | None = None) -> Any:
        """Return the reader of this task's files, for a look at each or for a cache.

        Args:
            manifest: The cases.
            cache_px: Shorter side, pixels.
            channels: 1 for grey, 3 for RGB; None for what the task's recipes have.
        """
        raise NotImplementedError

    def add_arguments(self, verb: str, parser: Arguments) -> None:
        """Add the options that a verb has for this task alone."""

    def warnings(self, manifest: "Manifest") -> list[str]:
        """Return what may spoil a result, by a look at a few files."""
        return []

    def needs(self, verb: str) -> tuple[str, ...]:
        """Return the names of options that a training verb cannot do without, beside `data` and `out`."""
        return ()

    def inputs(self, verb: str, options: Namespace) -> dict[str, Any]:
        """Return what `pretrain_stage` and `finetune_stage` are given of this task's own options."""
        return {}

    def baseline(self, network: str) -> Any:
        """Return the recipe of a published network that a paper of this task compares; None of any other."""
        return None

    def codes(self) -> "Mapping[str, Code]":
        """Return codes of public terminologies by label, for DICOM results; labels without are coded privately."""
        return {}

    def results(self, options: Namespace) -> "Results | None":
        """Return what DICOM results the options of a prediction ask for."""
        from .dicom.results import Results

        kinds = options.dicom or (["sr"] if getattr(options, "store", False) else None)
        return Results.beside(options.out, kinds, self.codes()) if kinds else None

    def predict(self, options: Namespace) -> "pd.DataFrame | None":
        """Predict what the command line asks for; None in a process that only helps another one."""
        raise NotImplementedError


class ImageTask(Task):
    """Cases are image files; a subclass adds layouts and recipes."""

    unit = holds = "image"

    def layouts(self) -> "Mapping[str, Layout]":
        from ..datasets.manifest.layouts import own_layouts

        return own_layouts(self.holds)

    def check(self, manifest: "Manifest", files: int | None, cache_px: int) -> "Findings":
        from ..datasets.images.radiographs import read_grey, read_radiograph
        from ..datasets.quality.check import check_manifest

        read = read_grey if self.channels == 1 else partial(read_radiograph, channels=3)
        return check_manifest(manifest, read, files=files, cache_px=cache_px)

    def reader(self, manifest: "Manifest", cache_px: int, channels: int | None = None) -> Any:
        from ..datasets.loading.readers import ImageReader

        return ImageReader(cache_px, channels=channels or self.channels)

    def add_arguments(self, verb: str, parser: Arguments) -> None:
        if verb in ("pretrain", "finetune"):
            parser.add_argument(
                "--cache", type=lambda text: text if "://" in text else Path(text), metavar="FOLDER or URL",
                advanced=True, help="folder for decoded files, or the URL of shards made by `prepare` (default: "
                "pixel-cache, beside --out)",
            )  # fmt: skip
            parser.add_argument(
                "--cache-gb", type=float, default=50.0, advanced=True,
                help="of shards, what is kept on this machine, GB (default: 50)",
            )  # fmt: skip
        if verb == "pretrain":
            _add_start(parser)
            _add_reports(parser)
        if verb == "finetune":
            parser.add_argument(
                "--encoder", type=Path,
                help="encoder folder, a checkpoint of MAE, thorax-MAE, VideoMAE, DINO or any network of timm, or a "
                "name such as rad-dino (`clinvit weights list`); from scratch without",
            )  # fmt: skip
        if verb == "extract":
            parser.add_argument(
                "--encoder",
                help="encoder folder, checkpoint of a ViT or any network of timm, or a name such as rad-dino "
                "(`clinvit weights list`)",
            )
        if verb == "predict":
            self._add_prediction(parser)

    def needs(self, verb: str) -> tuple[str, ...]:
        return ("encoder",) if verb == "extract" else ()

    def _add_prediction(self, parser: Arguments) -> None:
        parser.add_argument("--resume", action="store_true", help="go on where a killed prediction stopped")
        parser.add_argument("--batch", type=int, default=32, help="files per batch (default: %(default)s)")
        parser.add_argument("--workers", type=int, default=1, help="reading processes (default: %(default)s)")
        parser.add_argument(
            "--explain", type=Path, metavar="FOLDER",
            help="also write where the model looked: maps of images, frames of clips; as `explanations` beside --out, "
            "`evaluate` holds them against boxes",
        )  # fmt: skip
        parser.add_argument(
            "--explain-method", choices=["gradient", "attention", "both"], advanced=True,
            help="of images: gradient-weighted attention, of a CNN Grad-CAM; attention rollout; or both, which "
            "`evaluate` shows side by side (default: gradient)",
        )  # fmt: skip
        add_web(parser)
        add_units(
            parser, "a row per study, patient or case instead of one per image (default: as the model was trained)"
        )
        parser.add_argument(
            "--alarm", type=Path, metavar="FILE", advanced=True,
            help="of `clinvit audit MODEL ARCHIVE --alarm FILE`: warn of images unlike the earlier images of the "
            "patient they claim",
        )  # fmt: skip
        parser.add_argument(
            "--runtime", choices=["torch", "onnx"], default="torch",
            help="what computes; onnx: --model is a folder of `clinvit export --to onnx`, or a graph (.onnx) in it "
            "(default: torch)",
        )  # fmt: skip
        parser.add_argument(
            "--bf16", action="store_true", advanced=True,
            help="matmuls in bfloat16: quicker where the processor has them; scores differ by up to about 0.01",
        )  # fmt: skip
        parser.add_argument(
            "--identifiers", action="store_true", advanced=True,
            help="name DICOM files by their file names and patient numbers (default: hashes, and a key beside --out)",
        )  # fmt: skip

    def inputs(self, verb: str, options: Namespace) -> dict[str, Any]:
        given = {"cache": options.cache, "cache_gb": options.cache_gb}
        if verb in ("pretrain", "finetune"):
            given["encoder"] = options.encoder
        if verb == "pretrain":
            given |= {"reports": options.reports, "text_encoder": options.text_encoder}
        return given

    def predict(self, options: Namespace) -> "pd.DataFrame | None":
        from .fold_predict import predict_any
        from .predict import Request
        from .processes import own_share

        if options.explain is None and options.explain_method:
            raise UserError("--explain-method belongs to --explain: leave it out.")
        return predict_any(
            Request(
                options.model, options.inputs, options.out, options.batch, options.workers, options.explain,
                options.explain_method, options.resume, options.identifiers, options.bf16, own_share(), self.holds,
                options.audit, options.images == "one", web_query(options), self.results(options), options.runtime,
                asked_units(options), options.alarm,
            )
        )  # fmt: skip


class ClipTask(ImageTask):
    """Cases are clips: video files, GIFs, multi-frame DICOM or folders of frames."""

    unit = holds = "clip"

    def check(self, manifest: "Manifest", files: int | None, cache_px: int) -> "Findings":
        from ..datasets.quality.check import check_manifest
        from ..datasets.video.clips import read_clip, read_grey_clip

        read = read_grey_clip if self.channels == 1 else partial(read_clip, colour=True)
        found = check_manifest(manifest, read, files=files, cache_px=cache_px)
        if files is not None:
            found.warnings += self.warnings(manifest, files)
        return found

    def warnings(self, manifest: "Manifest", files: int = 40) -> list[str]:
        """Warn of unequal frame rates of so many files (0 for all), and of frames that are missing."""
        from ..datasets.video.rates import frames_warning, rate_warning

        paths = manifest.files()
        return [warning for warning in (rate_warning(paths, files), frames_warning(paths)) if warning]

    def reader(self, manifest: "Manifest", cache_px: int, channels: int | None = None) -> Any:
        from ..datasets.loading.readers import ClipReader

        return ClipReader(cache_px, channels or self.channels)


class SlideTask(Task):
    """Cases are whole slides: tiled, encoded to features, and classified as bags of these."""

    unit = holds = "slide"
    cached = False

    def check(self, manifest: "Manifest", files: int | None, cache_px: int) -> "Findings":
        from ..datasets.slides.check import check_slides

        return check_slides(manifest, files)

    def reader(self, manifest: "Manifest", cache_px: int, channels: int | None = None) -> Any:
        from ..datasets.slides.check import OverviewReader

        return OverviewReader(dict(zip(manifest.files(), manifest.microns_per_px())))

    def add_arguments(self, verb: str, parser: Arguments) -> None:
        if verb in ("pretrain", "extract"):
            parser.add_argument("--tiles", type=Path, help="folder of tile coordinates (`clinvit tile`)")
        if verb == "pretrain":
            _add_start(parser)
        if verb == "extract":
            parser.add_argument(
                "--encoder",
                help="encoder folder, checkpoint file, a name such as uni2-h (`clinvit weights list`), timm:NAME, or "
                "hf-hub:OWNER/NAME",
            )
        if verb == "finetune":
            parser.add_argument("--features", type=Path, help="folder of features (`clinvit extract`)")
        if verb == "predict":
            self._add_prediction(parser)

    def _add_prediction(self, parser: Arguments) -> None:
        parser.add_argument(
            "--features", type=Path, metavar="FOLDER", help="features of the slides, or where to put them"
        )
        parser.add_argument("--encoder", help="what makes the features that are missing, as for `extract`")
        parser.add_argument(
            "--explain", type=Path, metavar="FOLDER",
            help="also write heat maps and a page per slide; as `explanations` beside --out, `evaluate` holds them "
            "against outlines",
        )  # fmt: skip
        add_units(
            parser, "a row per patient, study or case instead of one per slide (default: as the model was trained)"
        )
        parser.add_argument("--tiff", action="store_true", help="with --explain, heat maps as pyramidal TIFF too")
        parser.add_argument(
            "--tile-geojson", action="store_true", help="with --explain, every tile with its score for QuPath too"
        )
        parser.add_argument("--split", action="append", help="of a manifest, only this split; may be repeated")
        parser.add_argument(
            "--tile-level0-px", type=int, advanced=True, metavar="PX",
            help="with --explain, side of a tile in level-0 px, for features of other tools that do not say",
        )  # fmt: skip
        parser.add_argument(
            "--identifiers", action="store_true", advanced=True,
            help="name DICOM slides by their file names and patient numbers (default: hashes, and a key beside --out)",
        )  # fmt: skip

    def needs(self, verb: str) -> tuple[str, ...]:
        return {"pretrain": ("tiles",), "extract": ("tiles", "encoder"), "finetune": ("features",)}.get(verb, ())

    def inputs(self, verb: str, options: Namespace) -> dict[str, Any]:
        names = (*self.needs(verb), *["encoder"] * (verb == "pretrain"))
        return {name: getattr(options, name) for name in names}

    def predict(self, options: Namespace) -> "pd.DataFrame":
        from .processes import own_share
        from .slides.maps import Maps
        from .slides.predict import Request, predict_slides

        if own_share().of > 1:
            raise UserError(
                "slides are shared by several processes in `clinvit tile` and `clinvit extract`: extract first, and "
                "predict with one process."
            )
        if options.features is None:
            raise UserError(
                "--features is missing: the folder of the slides' features, or where to put them (--encoder)."
            )
        for name in ("tiff", "tile_geojson", "tile_level0_px") if options.explain is None else ():
            if getattr(options, name):
                raise UserError(f"--{name.replace('_', '-')} belongs to --explain: leave it out.")
        return predict_slides(
            Request(
                options.model, options.inputs, options.out, options.features, options.encoder, options.explain,
                options.split, options.identifiers, Maps(options.tiff, options.tile_geojson, options.tile_level0_px),
                options.audit, self.results(options), asked_units(options),
            )
        )  # fmt: skip


def _add_start(parser: Arguments) -> None:
    """Add the encoder that a pre-training goes on from."""
    parser.add_argument(
        "--encoder", type=Path,
        help="go on from an encoder folder, a checkpoint of MAE, VideoMAE, DINO, timm, ..., or a name such as rad-dino "
        "(`clinvit weights list`); from scratch without",
    )  # fmt: skip


def _add_reports(parser: Arguments) -> None:
    """Add what a pre-training on images and reports reads beside the images."""
    parser.add_argument(
        "--reports", type=Path, advanced=True,
        help="of recipes that read reports: a table with `id` or `study` and columns of text, or a folder of .txt "
        "files (default: the manifest's column `report`)",
    )  # fmt: skip
    parser.add_argument(
        "--text-encoder", type=Path, metavar="FOLDER", advanced=True,
        help="of recipes that read reports: a local folder of transformers with a text encoder",
    )  # fmt: skip
