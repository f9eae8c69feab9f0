"""Does the loader keep up? Cases per second of one loading core, beside what the training steps take on this machine.

    uv run python benchmarks/loader.py [--device cuda] [--recipes vit_s ...] [--clips]

X-rays (1024 px phantoms as PNG, cached at 256 px) with the thorax recipes' own views, and with --clips ultrasound clips
(mp4, cached at 256 px) with those of ocular ultrasound. The peer is a plain loader: PIL and torchvision on the PNG
files, the same crop and flip, 3 channels, RandAugment where the recipe has it. Steps run in the precision that a run
chooses by itself (bf16 on a GPU). With --device cuda all of the recipe's batch fits or the batch stays smaller.
"""

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.isolation import one_thread
from clinvit.datasets.loading.readers import ClipReader, ImageReader
from clinvit.datasets.manifest.tables import Manifest
from clinvit.datasets.transforms.views import TrainView
from clinvit.phantoms.ocular import write_erdes
from clinvit.phantoms.radiographs import chest_phantom
from clinvit.stages.bottleneck import per_second, step_rate, workload
from clinvit.tasks.erdes import recipes as erdes
from clinvit.tasks.thorax import recipes as thorax
from PIL import Image
from torchvision import transforms

IMAGES, CLIPS, CACHE_PX = 24, 12, 256


def plain_loader(augment):
    """What most training scripts do with a file."""
    steps = [transforms.RandomResizedCrop(augment.size, augment.crop_scale, interpolation=Image.Resampling.BICUBIC)]
    steps.append(transforms.RandomHorizontalFlip())
    if augment.randaug:
        steps.append(transforms.RandAugment(2, 6))
    steps += [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3)]
    composed = transforms.Compose(steps)
    return lambda file: composed(Image.open(file).convert("RGB"))


def row(name: str, recipe, cache, device: str, peer=None) -> None:
    """Measure one recipe and print its line."""
    view = TrainView(recipe.augment, recipe.data.clip, recipe.model.frames)
    loaded = per_second(lambda i: view(cache[i % len(cache)], i))
    need = step_rate(workload(recipe, Manifest(Path("-"), _cases(), ("Finding",))), device)
    against = ""
    if peer is not None:
        plain = per_second(peer)
        against = f"{plain:12,.0f}{loaded / plain:9.1f}x"
    cores = need / loaded
    print(f"{name:18}{loaded:12,.0f}{against:22}{need:12,.1f}{cores:12.3f}{math.ceil(cores):8d}", flush=True)


def _cases():
    import pandas as pd

    return pd.DataFrame({"id": ["a"], "path": ["a"], "patient": ["a"], "split": ["train"], "Finding": [1.0]})


def images(folder: Path, names: list[str], device: str) -> None:
    """X-rays."""
    files = [folder / f"{i}.png" for i in range(IMAGES)]
    for i, file in enumerate(files):
        Image.fromarray(chest_phantom((), size=1024, rng=np.random.default_rng(i))[0]).save(file)
    cache = build_cache(files, folder / "cache", ImageReader(CACHE_PX), progress=False)
    for stage, recipes in (("pre-training", thorax.PRETRAIN), ("fine-tuning", thorax.FINETUNE)):
        for name in names:
            recipe = recipes[name]()
            recipe = replace(recipe, data=replace(recipe.data, labels=None))
            load = plain_loader(recipe.augment)
            row(f"{stage} {name}", recipe, cache, device, lambda i, load=load: load(files[i % IMAGES]))


def clips(folder: Path, device: str) -> None:
    """Ultrasound clips; what a plain loader takes is in `clip_loading.py`."""
    write_erdes(folder, clips=CLIPS, size_px=320, seconds=(2.0, 3.0))
    cache = build_cache(sorted(folder.rglob("*.mp4")), folder / "cache", ClipReader(CACHE_PX), progress=False)
    row("clips vit_s", erdes.PRETRAIN["vit_s"](), cache, device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipes", nargs="+", default=["tiny", "vit_s"])
    parser.add_argument("--clips", action="store_true")
    options = parser.parse_args()
    one_thread()
    torch.manual_seed(0)
    print(
        f"{options.device}, torch {torch.__version__}, {torch.get_num_threads()} threads; cases/s, loading on one core"
    )
    print(f"{'':18}{'ours':>12}{'plain':>12}{'':>10}{'step takes':>12}{'cores':>12}{'needed':>8}")
    with tempfile.TemporaryDirectory() as folder:
        images(Path(folder), options.recipes, options.device)
    if options.clips:
        with tempfile.TemporaryDirectory() as folder:
            clips(Path(folder), options.device)


if __name__ == "__main__":
    main()
