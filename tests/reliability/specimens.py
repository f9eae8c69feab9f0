"""Good files of every format that is read, small, and the functions that read them."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from clinvit.tests.reliability.damage import Good
from PIL import Image

HEIGHT, WIDTH, COUNT = 46, 58, 6


class Specimen(NamedTuple):
    """A good file.

    Attributes:
        name: Its format.
        entry: Name of what reads it (`ENTRIES`).
        good: The file.
        checked: Whether the format has checksums, so that other contents than the good ones are a fault.
        beside: Files that lie beside it, by name; the file's own name is then `called`.
        called: Its name, where that matters.
    """

    name: str
    entry: str
    good: Good
    checked: bool = False
    beside: dict[str, bytes] = {}  # noqa: RUF012  (never changed)
    called: str = ""


def read_radiograph(path: Path):
    from clinvit.datasets.images.radiographs import radiograph_size, read_radiograph

    pixels = read_radiograph(path)
    assert pixels.shape == radiograph_size(path), "the size that is announced is not that of the image"
    return [pixels]


def read_clip(path: Path):
    from clinvit.datasets.video.clips import open_clip

    with open_clip(path) as clip:
        frames = clip[:]
        assert len(frames) == len(clip) and frames.shape[1:] == clip.size
        return [frames]


def read_slide(path: Path):
    from clinvit.datasets.slides.reading import open_slide

    with open_slide(path, 0.5) as slide:
        found = [slide.overview(64)]
        for y in range(0, min(4, slide.height_px // 64)):
            for x in range(0, min(4, slide.width_px // 64)):
                found.append(slide.tile(64 * x, 64 * y, 64 * slide.mpp, 32))
        return found


def read_features(path: Path):
    from clinvit.datasets.slides.hdf5 import open_features, read_tiles

    with open_features(path) as file:
        found = [file.read(), file.read(np.arange(0, file.count, 3)), file.coords]
    return [*found, read_tiles(path, 0.5).coords]


def read_manifest(path: Path):
    from clinvit.datasets.manifest.tables import read_manifest

    manifest = read_manifest(path)
    return [manifest.table.to_csv(), manifest.labels, manifest.targets().shape, manifest.microns_per_px()]


def read_predictions(path: Path):
    from clinvit.datasets.manifest.tables import read_predictions

    predictions = read_predictions(path)
    return [predictions.table.to_csv(), predictions.scores().shape, predictions.decisions()]


def read_recipe(path: Path):
    from clinvit.engine.recipe import parse_recipe, to_yaml
    from clinvit.finetune.recipe import Finetune

    return [to_yaml(parse_recipe(Finetune(), path))]


def read_outlines(path: Path):
    from clinvit.datasets.slides.outlines import read_outlines

    return [part for one in read_outlines(path) for part in (one.points, one.group, one.name)]


def read_encoder(path: Path):
    from clinvit.backbone.encoder import open_vit

    vit, card = open_vit(path.parent)
    return [*[value.numpy() for value in vit.state_dict().values()], str(card.arch), card.mean]


def read_model(path: Path):
    from clinvit.finetune.model import load_model

    network, card = load_model(path.parent)
    card.reader(), card.views()
    return [*[value.numpy() for value in network.state_dict().values()], card.labels, str(card.view)]


def read_mil(path: Path):
    from clinvit.mil.model import load_mil

    network, card = load_mil(path.parent)
    return [*[value.numpy() for value in network.state_dict().values()], card.labels]


def read_weights(path: Path):
    from clinvit.backbone.weights import open_checkpoint

    found = open_checkpoint(path, heads=2)
    return [value.numpy() for value in found.named.state.values()]


def read_checkpoint(path: Path):
    from clinvit.engine.trainer import _check

    return [_check(path, _Training())]


def read_journal(path: Path):
    from clinvit.stages.journal import Journal

    return [json.dumps(Journal(path.with_name("p.csv"), {"model": "abc"}, resume=True).done)]


ENTRIES: dict[str, Callable[[Path], list]] = {
    "radiograph": read_radiograph, "clip": read_clip, "slide": read_slide, "features": read_features,
    "manifest": read_manifest, "predictions": read_predictions, "recipe": read_recipe, "outlines": read_outlines,
    "encoder": read_encoder, "model": read_model, "mil": read_mil, "weights": read_weights,
    "checkpoint": read_checkpoint, "journal": read_journal,
}  # fmt: skip


class _Training:
    """What a checkpoint is compared with."""

    def state_dict(self) -> dict:
        import torch

        return {"model.weight": torch.zeros(8, 4), "model.bias": torch.zeros(8)}


def specimens() -> list[Specimen]:
    """All of them, made anew, always the same."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        return [
            *_images(), *_dicom(root), *_clips(root), *_dicom_clips(root), *_slides(root), *_hdf5(root), *_tables(),
            *_models(root),
        ]  # fmt: skip


def _image(bits: int = 8, channels: int = 1) -> np.ndarray:
    """A ramp with noise, so that no part of a file is without meaning."""
    ramp = np.add.outer(np.linspace(0.1, 0.6, HEIGHT), np.linspace(0, 0.3, WIDTH))
    noise = np.random.default_rng(bits).uniform(0, 0.08, (*ramp.shape, channels))
    pixels = np.rint((ramp[..., None] + noise) * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)
    return pixels[..., 0] if channels == 1 else pixels


def _images() -> list[Specimen]:
    import cv2

    def saved(pixels: np.ndarray, kind: str, **options) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        return file.getvalue()

    sides = (HEIGHT, WIDTH)
    grey, deep, colour = _image(), _image(16), _image(8, 3)
    deep_colour = cv2.imencode(".png", _image(16, 3))[1].tobytes()
    return [
        Specimen("PNG 8 bit", "radiograph", Good(saved(grey, "PNG"), ".png", sides), True),
        Specimen("PNG 16 bit", "radiograph", Good(saved(deep, "PNG"), ".png", sides), True),
        Specimen("PNG RGB", "radiograph", Good(saved(colour, "PNG"), ".png", sides), True),
        Specimen("PNG RGB 16 bit", "radiograph", Good(deep_colour, ".png", sides), True),
        Specimen("JPEG", "radiograph", Good(saved(grey, "JPEG"), ".jpg", sides)),
        Specimen("JPEG progressive", "radiograph", Good(saved(colour, "JPEG", progressive=True), ".jpg", sides)),
        Specimen("TIFF", "radiograph", Good(saved(grey, "TIFF"), ".tif", sides)),
        Specimen("TIFF LZW", "radiograph", Good(saved(grey, "TIFF", compression="tiff_lzw"), ".tif", sides)),
        Specimen("TIFF 16 bit", "radiograph", Good(saved(deep, "TIFF", compression="tiff_deflate"), ".tif", sides)),
        Specimen("BMP", "radiograph", Good(saved(colour, "BMP"), ".bmp", sides)),
        Specimen("WebP", "radiograph", Good(saved(colour, "WEBP", lossless=True), ".webp", sides)),
    ]


def _dicom(root: Path) -> list[Specimen]:
    from clinvit.tests.datasets.images.test_dicom import LOSSLESS, LOSSY, dicom, recoded, saved
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    plain = {
        "implicit": ImplicitVRLittleEndian, "explicit": ExplicitVRLittleEndian, "big endian": ExplicitVRBigEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
    }  # fmt: skip
    found, sides = [], (HEIGHT, WIDTH, 8, 12, 16)
    for bits in (8, 12, 16):
        pixels = _image(bits)
        for name, syntax in plain.items():
            path = saved(dicom(pixels, bits, syntax), root)
            found.append(Specimen(f"DICOM {name} {bits}", "radiograph", Good(path.read_bytes(), ".dcm", sides)))
        original = saved(dicom(pixels, bits), root)
        for name in [*LOSSLESS, *LOSSY]:
            path = recoded(original, name)
            if path is not None:
                good = Good(path.read_bytes(), ".dcm", sides)
                found.append(Specimen(f"DICOM {name} {bits}", "radiograph", good))
    return found


def _frames() -> np.ndarray:
    """(T, H, W, 3) of a square that moves over noise."""
    frames = np.random.default_rng(1).integers(20, 60, (COUNT, HEIGHT + 2, WIDTH + 6, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        frame[10:30, 5 * number : 5 * number + 20] += 120
    return frames


def _clips(root: Path) -> list[Specimen]:
    from clinvit.tests.datasets.video.test_clips import gif, video

    kinds = {
        "MP4 H.264": ("mp4", "libx264", {"g": 3}), "MP4 MPEG-4": ("mp4", "mpeg4", {}),
        "MOV MJPEG": ("mov", "mjpeg", {"pixels": "yuvj420p"}), "AVI MPEG-4": ("avi", "mpeg4", {}),
        "AVI MJPEG": ("avi", "mjpeg", {"pixels": "yuvj420p"}), "MPEG-2": ("mpeg", "mpeg2video", {}),
        "MPEG-1": ("mpg", "mpeg1video", {}), "MKV H.264": ("mkv", "libx264", {}), "MKV FFV1": ("mkv", "ffv1", {}),
        "WebM VP9": ("webm", "libvpx-vp9", {}), "WMV": ("wmv", "wmv2", {}),
    }  # fmt: skip
    found, sides = [], (HEIGHT + 2, WIDTH + 6, COUNT)
    for name, (suffix, codec, options) in kinds.items():
        path = video(root / f"clip.{suffix}", _frames(), codec, **options)
        found.append(Specimen(name, "clip", Good(path.read_bytes(), f".{suffix}", sides)))
    path = gif(root / "clip.gif", _frames())
    return [*found, Specimen("GIF", "clip", Good(path.read_bytes(), ".gif", sides))]


def _dicom_clips(root: Path) -> list[Specimen]:
    from clinvit.tests.datasets.video.test_dicom_clip import dicom, saved
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

    frames, found = _frames(), []
    grey, sides = frames[..., 0].copy(), (HEIGHT + 2, WIDTH + 6, COUNT, 8)
    found.append(("grey", saved(dicom(grey, FrameTime="40"), root).read_bytes()))
    found.append(("RGB", saved(dicom(frames), root).read_bytes()))
    for name, syntax in (("RLE", RLELossless), ("JPEG 2000", JPEG2000Lossless)):
        dataset = dicom(grey)
        dataset.compress(syntax, generate_instance_uid=False)
        found.append((name, saved(dataset, root).read_bytes()))
    encoded = []
    for frame in grey:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG")
        encoded.append(file.getvalue())
    dataset = dicom(grey, syntax=JPEGBaseline8Bit)
    dataset.PixelData = encapsulate(encoded)
    dataset["PixelData"].is_undefined_length = True
    found.append(("JPEG", saved(dataset, root).read_bytes()))
    return [Specimen(f"DICOM frames {name}", "clip", Good(data, ".dcm", sides)) for name, data in found]


def _slides(root: Path) -> list[Specimen]:
    from clinvit.tests.datasets.slides.conftest import islands, write_tiff

    pixels = islands(192, 160)
    sides = (192, 160, 64, 96, 80)
    aperio = "Aperio Image Library v11\n192x160 (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    svs = _jpeg_tiled(root / "a.svs", pixels, aperio)
    plain = write_tiff(root / "b.tif", pixels, levels=2)
    jpeg = _jpeg_tiled(root / "c.tif", pixels)
    found = [("SVS", svs, False), ("tiled TIFF deflate", plain, False), ("tiled TIFF JPEG", jpeg, False)]
    for name, kind, checked in (("slide PNG", "png", True), ("slide JPEG", "jpg", False)):
        path = root / f"d.{kind}"
        Image.fromarray(pixels).save(path)
        found.append((name, path, checked))
    return [
        Specimen(name, "slide", Good(path.read_bytes(), path.suffix, sides), checked) for name, path, checked in found
    ]


def _jpeg_tiled(path: Path, pixels: np.ndarray, description: str | None = None) -> Path:
    """A pyramid of two levels in tiles of 64 px, as scanners write it."""
    import tifffile

    def tiles(level: np.ndarray):
        for top in range(0, level.shape[0], 64):
            for left in range(0, level.shape[1], 64):
                tile = np.full((64, 64, 3), 255, np.uint8)
                part = level[top : top + 64, left : left + 64]
                tile[: part.shape[0], : part.shape[1]] = part
                file = io.BytesIO()
                Image.fromarray(tile).save(file, "JPEG", subsampling="4:4:4")
                yield file.getvalue()

    with tifffile.TiffWriter(path) as writer:
        for level in (pixels, pixels[::2, ::2]):
            writer.write(
                tiles(level), shape=level.shape, dtype=np.uint8, tile=(64, 64), compression="deflate", predictor=False,
                photometric="ycbcr", metadata=None, description=description,
                resolution=(20_000, 20_000), resolutionunit="CENTIMETER",
            )  # fmt: skip
    # tifffile takes ready tiles, but not under the name of JPEG.
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            page.tags["Compression"].overwrite(int(tifffile.COMPRESSION.JPEG))
            page.tags["YCbCrSubSampling"].overwrite((1, 1))
    return path


def _hdf5(root: Path) -> list[Specimen]:
    from clinvit.datasets.slides.hdf5 import write_features
    from clinvit.datasets.slides.tiles import TileGrid
    from clinvit.tests.datasets.slides.test_hdf5 import save

    rng = np.random.default_rng(0)
    coords = rng.integers(0, 9_000, (90, 2))
    grid = TileGrid(coords, rng.random(90, np.float32), 224, 112.0, 0.0, 224, 0.5, 10_000, 12_000)
    features = rng.standard_normal((90, 12)).astype(np.float16)
    write_features(root / "own.h5", features, grid, {"encoder": "vit"})
    size = {"patch_size": 224, "patch_level": 0, "level_dim": np.array([10_000, 12_000])}
    save(root / "clam.h5", {"features": features.astype(np.float32), "coords": coords}, {"coords": size})
    return [
        Specimen(name, "features", Good((root / f"{file}.h5").read_bytes(), ".h5", (90, 12, 2)))
        for name, file in (("HDF5 ours", "own"), ("HDF5 CLAM", "clam"))
    ]


def _tables() -> list[Specimen]:
    from clinvit.engine.recipe import to_yaml
    from clinvit.finetune.recipe import Finetune

    splits = ("train", "train", "val", "test")
    manifest = "id,path,patient,split,age,mpp,Effusion,Nodule\n" + "".join(
        f"c{n},images/c{n}.png,p{n},{splits[n % 4]},{30 + n},0.5,{n % 2},{'' if n % 3 else 1}\n" for n in range(24)
    )
    predictions = "id,patient,split,status,reason,y_A,p_A,y_B,p_B\n" + "".join(
        f'c{n},p{n},test,failed,"no, such file",1,,0,\n' if n % 7 == 3 else f"c{n},p{n},test,ok,,1,0.{n}5,,0.1\n"
        for n in range(24)
    )
    outlines = "<?xml version='1.0'?>\n<ASAP_Annotations>\n<Annotations>\n" + "".join(
        f'<Annotation Name="a{n}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
        + "".join(f'<Coordinate Order="{i}" X="{10 * i * i}.5" Y="{7 * i + n}" />' for i in range(5))
        + "</Coordinates></Annotation>\n"
        for n, group in enumerate(("_0", "_1", "_2", "Tumor"))
    )
    outlines += "</Annotations>\n<AnnotationGroups />\n</ASAP_Annotations>\n"
    journal = '{"model": "abc"}\n' + "".join(
        json.dumps({"path": f"{n}.png", "reason": "", "scores": [0.1 * n, 0.5]}) + "\n" for n in range(9)
    )
    return [
        Specimen("CSV manifest", "manifest", Good(manifest.encode(), ".csv")),
        Specimen("CSV predictions", "predictions", Good(predictions.encode(), ".csv")),
        Specimen("YAML recipe", "recipe", Good(to_yaml(Finetune()).encode(), ".yaml")),
        Specimen("XML outlines", "outlines", Good(outlines.encode(), ".xml")),
        Specimen("JSON lines journal", "journal", Good(journal.encode(), ".jsonl"), called="p.csv.partial.jsonl"),
    ]


def _models(root: Path) -> list[Specimen]:
    import safetensors.torch
    import torch
    from clinvit.backbone.encoder import EncoderCard, save_encoder
    from clinvit.backbone.sizes import Architecture
    from clinvit.backbone.vit import ViT
    from clinvit.datasets.settings import Clip
    from clinvit.finetune.model import ModelCard, build_model, save_model
    from clinvit.finetune.recipe import View
    from clinvit.mil.model import MilCard, save_mil

    torch.manual_seed(0)
    arch = Architecture(8, 2, 2, image_size=(16, 16), patch_size=8, channels=1)
    numbers = (8, 2, 16, 24, 32)
    save_encoder(root / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    card = ModelCard(
        ("A", "B"), {"A": "there"}, False, "finetune", "vit", "mean", arch, (0.5,), (0.25,), View("squash", None), 24,
        clip=Clip(),
    )  # fmt: skip
    save_model(root / "model", build_model(card), card)
    mil = MilCard(("tumour",), {}, False, "gated_attention", 8, 4, "bag", 12)
    save_mil(root / "mil", mil.network(), mil)
    state = ViT(arch).state_dict()
    safetensors.torch.save_file(state, root / "w.safetensors")
    torch.save({"model": state}, root / "w.pth")
    torch.save(state, root / "old.pth", _use_new_zipfile_serialization=False)
    progress = {"current": {"processed": 1, "completed": 3}, "is_last_batch": False}
    loops = {"fit_loop": {"epoch_loop.batch_progress": progress, "epoch_progress": progress}}
    weights = {"model.weight": torch.randn(8, 4), "model.bias": torch.randn(8)}
    torch.save({"state_dict": weights, "loops": loops, "epoch": 1}, root / "last.ckpt")
    found = []
    for entry in ("encoder", "model", "mil"):
        name = "encoder" if entry == "encoder" else "model"
        parts = {part: (root / entry / part).read_bytes() for part in (f"{name}.json", f"{name}.safetensors")}
        for part, data in parts.items():
            suffix = Path(part).suffix
            beside = {other: parts[other] for other in parts if other != part}
            label = f"{entry} card" if suffix == ".json" else f"{entry} weights"
            good = Good(data, suffix, numbers)
            found.append(Specimen(label, entry, good, suffix != ".json", beside, part))
    return [
        *found,
        Specimen("safetensors", "weights", Good((root / "w.safetensors").read_bytes(), ".safetensors", numbers)),
        Specimen(".pth", "weights", Good((root / "w.pth").read_bytes(), ".pth", numbers), True),
        Specimen(".pth before 1.6", "weights", Good((root / "old.pth").read_bytes(), ".pth", numbers)),
        Specimen(".ckpt", "checkpoint", Good((root / "last.ckpt").read_bytes(), ".ckpt", numbers), True),
    ]
