"""Loading chest X-rays for pre-training, 1024 x 1024 PNG, second epoch: a cached crop against PIL + torchvision.

uv run --group bench python benchmarks/image_loading.py
"""

import tempfile
from pathlib import Path

import numpy as np
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.readers import ImageReader
from clinvit.datasets.transforms.augment import Augment, build_train
from clinvit.phantoms.radiographs import chest_phantom
from PIL import Image
from side_by_side import machine, per_item
from torchvision import transforms

IMAGES = 24


def main() -> None:
    """Time both and print the ratios."""
    print(machine("pillow", "torchvision"))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.png" for i in range(IMAGES)]
        for i, file in enumerate(files):
            pixels, _ = chest_phantom((), size=1024, rng=np.random.default_rng(i))
            Image.fromarray(pixels).save(file)
        crop = transforms.RandomResizedCrop(224, (0.5, 1.0), interpolation=transforms.InterpolationMode.BICUBIC)
        flip, tensor = transforms.RandomHorizontalFlip(), transforms.ToTensor()
        peer = per_item(lambda i: tensor(flip(crop(Image.open(files[i]).convert("RGB")))), IMAGES)
        print(f"PIL and torchvision, from the file  {peer * 1000:8.3f} ms")
        for px in (256, 1024):
            cache = build_cache(files, Path(folder) / "cache", ImageReader(px), progress=False)
            train = build_train(Augment(size=224, crop_scale=(0.5, 1.0)))
            ours = per_item(lambda i, cache=cache, train=train: train(cache[i], i), IMAGES, rounds=9)
            print(f"ours, crop of a cached {px:4} px array {ours * 1000:8.3f} ms{peer / ours:8.0f}x")


if __name__ == "__main__":
    main()
