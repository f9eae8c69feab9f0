"""A whole epoch of masked pre-training, loading included, beside MONAI's loop and Hugging Face's Trainer.

    uv run --group bench python benchmarks/epoch.py [--size tiny] [--cases 64] [--epochs 3] [--threads 1] [--rounds 2]
        [--loops ours "Trainer, in memory"] [--lightly_python PYTHON]

X-ray phantoms (1024 px PNG files), one channel, the same ViT and decoder (width 192, 4 blocks, 3 heads), 75 % masked,
crops of 224 px, batch, threads and one reading process each, fp32. Each training is a process of its own and all take
turns. The first epoch has the decoding of all files in it, the median of the later ones is what a long training costs.
Seconds are the clock's and, for other work takes these, the processor's of the process and of what it started. MONAI
runs on files and with its `CacheDataset` (256 px, as our cache has); the Trainer's dataset is Pillow and torchvision on
files, or on the same 256 px in memory. The Trainer needs accelerate.

lightly-train has no masked reconstruction; its DINO (`lightly_train_epochs.py`) is held against our DINO: the same
ViT, head of 1,024 prototypes and crops (2 of 224 px, 6 of 96 px), three channels. It runs by the Python that
`--lightly_python` names, of an environment with lightly-train and timm.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from clock import Clock
from side_by_side import encoder_of, machine

CROP, PATCH, CACHE_PX, RATIO = 224, 16, 256, 0.75
DECODER = {"width": 192, "depth": 4, "heads": 3}
DINO_HEAD, LOCAL_CROPS, DROP_PATH = 1024, 6, 0.1  # lightly-train's choice for a small data set
MEAN, STD = 0.5, 0.25


def ours(files: list[Path], asked: argparse.Namespace) -> Clock:
    """Train by our masked pre-training."""
    from clinvit.backbone.sizes import Model
    from clinvit.datasets.settings import Data
    from clinvit.datasets.transforms.augment import Augment
    from clinvit.engine.recipe import Optim, Run
    from clinvit.pretrain.recipe import Decoder, Pretrain

    recipe = Pretrain(
        mask_ratio=RATIO, target="patch", model=Model(asked.size, CROP, PATCH), decoder=Decoder(**DECODER),
        data=Data(cache_px=CACHE_PX, mean=(MEAN,), std=(STD,)),
        augment=Augment(CROP, crop_scale=(0.5, 1.0), flip=0.5),
        optim=Optim(epochs=asked.epochs, warmup_epochs=1, batch_size=asked.batch),
        run=Run(precision="32-true", workers=1, threads=asked.threads),
    )  # fmt: skip
    return pretrained(recipe, files)


def our_dino(files: list[Path], asked: argparse.Namespace) -> Clock:
    """Train by our DINO."""
    from clinvit.backbone.sizes import Model
    from clinvit.datasets.settings import Data
    from clinvit.datasets.transforms.multi_crop import MultiCrop
    from clinvit.engine.recipe import Optim, Run
    from clinvit.pretrain.recipe import Dino, Head

    model = Model(asked.size, CROP, PATCH, channels=3, positions="learned", drop_path=DROP_PATH)
    recipe = Dino(
        model=model, head=Head(DINO_HEAD), crops=MultiCrop(LOCAL_CROPS),
        data=Data(cache_px=CACHE_PX, mean=(MEAN,) * 3, std=(STD,) * 3),
        optim=Optim(epochs=asked.epochs, warmup_epochs=1, batch_size=asked.batch, clip_tensor_norm=3.0),
        run=Run(precision="32-true", workers=1, threads=asked.threads),
    )  # fmt: skip
    return pretrained(recipe, files)


def pretrained(recipe, files: list[Path]) -> Clock:
    """Train by `clinvit.pretrain`."""
    from clinvit.datasets.manifest.tables import read_manifest
    from clinvit.engine.hooks import Hooks
    from clinvit.pretrain.run import pretrain
    from lightning.pytorch.callbacks import Callback

    class Laps(Callback):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            clock.lap()

    manifest = read_manifest(files[0].with_name("manifest.csv"), labels=())
    with tempfile.TemporaryDirectory() as made:
        folder, clock = Path(made), Clock()
        pretrain(recipe, manifest, folder / "run", folder / "cache", hooks=Hooks(callbacks=[Laps()]))
    return clock


def monai(files: list[Path], asked: argparse.Namespace, cached: bool) -> Clock:
    """Train MONAI's MaskedAutoEncoderViT in a loop as in its tutorials."""
    from monai import transforms as t
    from monai.data import CacheDataset, DataLoader, Dataset
    from monai.networks.nets.masked_autoencoder_vit import MaskedAutoEncoderViT

    vit = encoder_of(asked.size)
    net = MaskedAutoEncoderViT(
        1, CROP, PATCH, vit["hidden_size"], vit["intermediate_size"], vit["num_hidden_layers"],
        vit["num_attention_heads"], RATIO, DECODER["width"], 4 * DECODER["width"], DECODER["depth"], DECODER["heads"],
        spatial_dims=2, qkv_bias=True,
    )  # fmt: skip
    small = [t.Resize(CACHE_PX, size_mode="longest")] if cached else []
    least = 0.7 * (CACHE_PX if cached else 1024)
    steps = t.Compose([
        t.LoadImage(reader="PILReader", image_only=True), t.EnsureChannelFirst(), *small,
        t.ScaleIntensityRange(0, 255, -MEAN / STD, (1 - MEAN) / STD),
        t.RandSpatialCrop((int(least),) * 2, random_size=True), t.Resize((CROP, CROP)), t.RandFlip(0.5, 1),
    ])  # fmt: skip
    clock = Clock()
    names = list(map(str, files))
    data = CacheDataset(names, steps, num_workers=1, progress=False) if cached else Dataset(names, steps)
    loader = DataLoader(
        data, batch_size=asked.batch, shuffle=True, num_workers=1, persistent_workers=True, drop_last=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, betas=(0.9, 0.95), weight_decay=0.05)
    for _ in range(asked.epochs):
        for images in loader:
            x = images.as_tensor() if hasattr(images, "as_tensor") else images
            predicted, masked = net(x)
            target = torch.nn.functional.unfold(x, PATCH, stride=PATCH).transpose(1, 2)
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
            loss = (((predicted - target) ** 2).mean(-1) * masked).sum() / masked.sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        clock.lap()
    return clock


class Images(torch.utils.data.Dataset):
    """Pillow and torchvision, as most datasets for the Trainer."""

    def __init__(self, files: list[Path], small: bool):
        from PIL import Image
        from torchvision.transforms import v2

        self.files, self.held = files, None
        self.open = lambda file: Image.open(file).convert("L")
        self.crop = v2.Compose([
            v2.RandomResizedCrop(CROP, (0.5, 1.0), interpolation=Image.Resampling.BICUBIC), v2.RandomHorizontalFlip(),
            v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((MEAN,), (STD,)),
        ])  # fmt: skip
        if small:
            self.held = [self.open(file).resize((CACHE_PX, CACHE_PX), Image.Resampling.BICUBIC) for file in files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> dict:
        return {"pixel_values": self.crop(self.open(self.files[row]) if self.held is None else self.held[row])}


def hugging_face(files: list[Path], asked: argparse.Namespace, small: bool) -> Clock:
    """Train ViTMAEForPreTraining by the Trainer."""
    from transformers import Trainer, TrainerCallback, TrainingArguments, ViTMAEConfig, ViTMAEForPreTraining

    class Laps(TrainerCallback):
        def on_epoch_end(self, *arguments, **more) -> None:
            clock.lap()

    config = ViTMAEConfig(
        mask_ratio=RATIO, norm_pix_loss=True, num_channels=1, image_size=CROP, patch_size=PATCH,
        decoder_hidden_size=DECODER["width"], decoder_num_hidden_layers=DECODER["depth"],
        decoder_num_attention_heads=DECODER["heads"], decoder_intermediate_size=4 * DECODER["width"],
        **encoder_of(asked.size),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=asked.epochs, per_device_train_batch_size=asked.batch, learning_rate=1e-4,
            weight_decay=0.05, dataloader_num_workers=1, dataloader_persistent_workers=True,
            dataloader_drop_last=True, remove_unused_columns=False, report_to=[], save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_strategy="no", label_names=[],
        )  # fmt: skip
        model = ViTMAEForPreTraining(config)
        clock = Clock()
        Trainer(model, arguments, train_dataset=Images(files, small), callbacks=[Laps()]).train()
    return clock


def lightly_train(files: list[Path], asked: argparse.Namespace) -> Clock:
    """Train lightly-train's DINO by the Python of its environment; return its times."""
    wanted = {
        "model": f"vit_{asked.size}_patch{PATCH}_{CROP}", "epochs": asked.epochs, "batch": asked.batch,
        "threads": asked.threads, "out_dim": DINO_HEAD, "local_crops": LOCAL_CROPS, "crop": CROP,
        "drop_path": DROP_PATH,
    }  # fmt: skip
    script = Path(__file__).with_name("lightly_train_epochs.py")
    done = subprocess.run(
        [asked.lightly_python, script, files[0].parent, json.dumps(wanted)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    clock = Clock()
    clock.times = json.loads(done.stdout.splitlines()[-1])["times"]
    return clock


LOOPS: dict[str, Callable[[list[Path], argparse.Namespace], Clock]] = {
    "ours": ours,
    "MONAI, files": lambda files, asked: monai(files, asked, cached=False),
    "MONAI, CacheDataset": lambda files, asked: monai(files, asked, cached=True),
    "Trainer, files": lambda files, asked: hugging_face(files, asked, small=False),
    "Trainer, in memory": lambda files, asked: hugging_face(files, asked, small=True),
    "our DINO": our_dino,
    "lightly-train's DINO": lightly_train,
}


def write_files(folder: Path, cases: int) -> None:
    """Write X-ray phantoms and a manifest of them."""
    from clinvit.phantoms.radiographs import chest_phantom
    from PIL import Image

    for case in range(cases):
        image, _ = chest_phantom((), size=1024, rng=np.random.default_rng(case))
        Image.fromarray(image).save(folder / f"{case:04d}.png")
    names = [f"{case:04d}" for case in range(cases)]
    table = pd.DataFrame({"id": names, "path": [f"{name}.png" for name in names], "patient": names, "split": "train"})
    table.to_csv(folder / "manifest.csv", index=False)


def main() -> None:
    """Run all loops in turn and print their epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("cases", 64), ("epochs", 3), ("batch", 16), ("threads", 1), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--loops", choices=LOOPS, nargs="+", default=list(LOOPS))
    parser.add_argument("--lightly_python", help="Python of an environment with lightly-train and timm")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.loop:
        torch.set_num_threads(asked.threads)
        print("\n" + json.dumps(LOOPS[asked.loop](sorted(asked.folder.glob("*.png")), asked).times))
        return
    print(machine("transformers", "monai", "accelerate"), flush=True)
    names = [name for name in LOOPS if name in {*asked.loops, *map(own, asked.loops)}]
    if not asked.lightly_python:
        print("skipped: both DINOs, for --lightly_python names no environment of lightly-train (not a dependency)")
        names = [name for name in names if "DINO" not in name]
    found: dict[str, list] = {name: [] for name in names}
    environment = os.environ | {"OMP_NUM_THREADS": str(asked.threads), "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), asked.cases)
        for _ in range(asked.rounds):
            for name in found:
                done = subprocess.run(
                    [sys.executable, __file__, *sys.argv[1:], "--loop", name, "--folder", folder],
                    capture_output=True, text=True, check=False, env=environment,
                )  # fmt: skip
                if done.returncode:
                    raise SystemExit(f"{name}: {done.stderr[-2000:]}")
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
                laps = ", ".join(f"{cpu:.2f} ({clock:.2f})" for clock, cpu in found[name][-1])
                print(f"  {name}: epochs of {laps} s of the processor (the clock)", flush=True)
    report(found, asked)


def own(name: str) -> str:
    """Which of our loops a loop is held against."""
    return "our DINO" if "DINO" in name else "ours"


def report(found: dict[str, list], asked: argparse.Namespace) -> None:
    """Print a line per loop: medians over the rounds of the first epoch, and of all later ones."""
    print(f"ViT-{asked.size}/{PATCH}, {asked.cases} images, batch {asked.batch}, {asked.threads} thread(s)")
    print(f"{'':22}{'first epoch, processor':>26}{'later':>12}{'clock: first':>16}{'later':>10}")
    rows = {}
    for name, rounds in found.items():
        first = [statistics.median(each[0][kind] for each in rounds) for kind in (0, 1)]
        later = [statistics.median(lap[kind] for each in rounds for lap in each[1:]) for kind in (0, 1)]
        rows[name] = [first[1], later[1], first[0], later[0]]
    for name, values in rows.items():
        cells = [f"{value:8.2f} s {value / base:5.2f}x" for value, base in zip(values, rows[own(name)], strict=True)]
        print(f"{name:22}" + "".join(f"{cell:>18}" for cell in cells))
    for name, values in rows.items():
        print(f"{name:22}{asked.cases / values[1]:8.2f} images a second of the processor, later epochs")


if __name__ == "__main__":
    main()
