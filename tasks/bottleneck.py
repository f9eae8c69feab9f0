"""Which will hold a training up on this machine, loading or computing: a few seconds of both, on the data set's own
files and with the recipe's own model.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from timm.layers import Attention
from torch import Tensor

from ..datasets.loading import reading_workers
from ..datasets.readers import Reader, make_reader
from ..datasets.recipe import for_channels
from ..datasets.tables import Manifest
from ..datasets.views import TrainView
from ..engine.trainer import precision
from ..errors import DataError, UserError
from ..finetune.losses import masked_bce
from ..finetune.model import build_model
from ..finetune.recipe import Finetune
from ..finetune.run import make_card
from ..pretrain.masked import build_mae, recipe_masks
from ..pretrain.recipe import Pretrain

SECONDS = 1.5  # of each measurement


@dataclass(frozen=True)
class Rates:
    """Cases per second.

    Attributes:
        decoded: That one core reads from the files.
        loaded: That one core cuts and augments from the cache (which the disk has in memory).
        consumed: That training steps take.
    """

    decoded: float
    loaded: float
    consumed: float


def bottleneck(task, manifest: Manifest, name: str) -> list[str]:
    """What `clinvit check` says of it: two sentences with figures. Slides have none: their tiles are read otherwise.

    Args:
        task: The task's module.
        manifest: The cases.
        name: Of the recipe: of pre-training, or of fine-tuning alone.

    Raises:
        UserError: There is no such recipe.
    """
    if not hasattr(task, "CachedAs"):
        return []
    stage, recipes = ("pretrain", task.PRETRAIN) if name in task.PRETRAIN else ("finetune", task.FINETUNE)
    if name not in recipes:
        raise UserError(f"--recipe {name!r}: known are {', '.join(task.PRETRAIN | task.FINETUNE)}.")
    recipe = recipes[name]()
    if isinstance(recipe, Finetune) and not manifest.labels:
        return []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = measure(recipe, manifest, device)
    return verdict(
        rates, f"{stage} --recipe {name}", device, len(manifest.rows(*recipe.data.splits)), recipe.data.cache
    )


def verdict(rates: Rates, what: str, device: str, cases: int, cached: bool = True) -> list[str]:
    """The rates in words.

    Args:
        rates: As measured.
        what: Was measured.
        device: That computes; a CPU loads beside it with the same cores.
        cases: Of the training.
        cached: Whether the recipe keeps decoded files.
    """
    cores, workers = len(os.sched_getaffinity(0)), max(1, reading_workers(-1))
    one_core = rates.loaded if cached else 1 / (1 / rates.loaded + 1 / rates.decoded)
    loading = workers * one_core
    facts = (
        f"{what}: one core decodes {rate(rates.decoded)} files/s and then loads {rate(rates.loaded)} cases/s from the "
        f"cache; the steps take {rate(rates.consumed)} cases/s on this machine's {device}"
    )
    if device == "cpu":
        share = rates.consumed / (rates.consumed + loading)
        which = "loading" if share > 0.5 else "computing"
        words = f"{which} is the bottleneck: loading takes {share:.0%} of a step's time"
    elif loading < rates.consumed:
        needed = math.ceil(rates.consumed / one_core)
        words = (
            f"loading is the bottleneck: {workers} loading processes give {rate(loading)} cases/s, {needed} would keep "
            f"up (run.workers; {cores} cores are here)"
        )
    else:
        words = f"computing is the bottleneck: {workers} loading processes give {rate(loading)} cases/s"
    if cached:
        minutes = cases / rates.decoded / cores / 60
        about = f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
        words += (
            f"; before the first epoch {cases} files are decoded, {about} on {cores} cores (`prepare --cache-px` does "
            "it beforehand)"
        )
    return [facts, words]


def rate(value: float) -> str:
    """Cases per second, readable."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def measure(recipe: Pretrain | Finetune, manifest: Manifest, device: str) -> Rates:
    """Measure a recipe on a manifest's own files.

    Raises:
        DataError: None of the files that were tried can be read.
    """
    model, data = recipe.model, recipe.data
    reader = make_reader(data.clip, frames=model.frames, size_px=model.image_size, cache_px=data.cache_px)
    decoded, pixels = _decoded(reader, manifest)
    view = TrainView(recipe.augment, data.clip, model.frames)
    loaded = per_second(lambda i: view(pixels[i % len(pixels)], i))
    inputs = np.concatenate([view(each, number) for number, each in enumerate(pixels[:16])])
    consumed = step_rate(recipe, manifest, torch.from_numpy(inputs), device) / view.repeats
    return Rates(decoded, loaded, consumed)


def _decoded(reader: Reader, manifest: Manifest) -> tuple[float, list[np.ndarray]]:
    """Files per second of one core, and the pixels of those that were read, spread over the manifest."""
    files, pixels = manifest.files(), []
    places = np.random.default_rng(0).permutation(len(files))[:64]
    start, error = time.perf_counter(), None
    for number, place in enumerate(places):
        if number == 1:  # the first one also loads what reads it
            start = time.perf_counter()
        try:
            pixels.append(reader.read(files[place]))
        except DataError as unreadable:
            error = unreadable
        if time.perf_counter() - start > SECONDS and number >= 2:
            break
    if not pixels:
        raise error
    return max(1, number) / (time.perf_counter() - start), pixels


def per_second(work: Callable[[int], object]) -> float:
    """How often `work(i)` is done in a second, on one core, after three times that do not count."""
    for i in range(3):
        work(i)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        work(done)
        done += 1
    return done / (time.perf_counter() - start)


def step_rate(recipe: Pretrain | Finetune, manifest: Manifest, inputs: Tensor, device: str) -> float:
    """Inputs per second that training steps take: forward, backward and optimiser, in the precision of a run.

    The batch grows while a step is short, up to the recipe's; larger ones give no other rate.

    Args:
        recipe: Whose model it is.
        manifest: Gives a classifier its labels.
        inputs: (N, C, [T,] S, S) uint8, repeated to a batch.
        device: cpu or cuda.
    """
    step = _stepper(recipe, manifest, device)
    batch, most = 2, recipe.optim.batch_size // recipe.optim.accumulate
    while True:
        pixels = inputs[torch.arange(batch) % len(inputs)]
        step(pixels)
        start = time.perf_counter()
        step(pixels)
        seconds = time.perf_counter() - start
        if seconds > 0.2 or batch * 2 > min(most, 512):
            break
        batch *= 2
    return batch * (1 / seconds if seconds > SECONDS else per_second(lambda _: step(pixels)))


def _stepper(recipe: Pretrain | Finetune, manifest: Manifest, device: str) -> Callable[[Tensor], None]:
    """A training step on uint8 inputs, as the engine makes it."""
    mean, std = (for_channels(values, recipe.model.channels) for values in (recipe.data.mean, recipe.data.std))
    model, loss = _masked(recipe) if isinstance(recipe, Pretrain) else _classifier(recipe, manifest)
    model.to(device)
    name = precision(recipe.run, model)
    cast = torch.autocast(
        device, torch.bfloat16 if name.startswith("bf16") else torch.float16, enabled="32" not in name
    )
    if device == "cpu" and name == "bf16-mixed":
        for part in model.modules():
            if isinstance(part, Attention):
                part.fused_attn = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step(pixels: Tensor) -> None:
        pixels = pixels.to(device).float() / 255
        shape = (1, -1, *[1] * (pixels.ndim - 2))
        centred = pixels - torch.tensor(mean, device=device).view(shape)
        with cast:
            value = loss(centred / torch.tensor(std, device=device).view(shape), pixels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _masked(recipe: Pretrain):
    mae = build_mae(recipe)

    def loss(x: Tensor, pixels: Tensor) -> Tensor:
        masks = recipe_masks(recipe, len(x), torch.Generator(x.device).manual_seed(0))
        return mae(x, masks, pixels if recipe.target == "channel" else None).loss

    return mae, loss


def _classifier(recipe: Finetune, manifest: Manifest):
    model = build_model(make_card(recipe, manifest, None), recipe.model.drop_path, recipe.model.checkpoint_blocks)

    def loss(x: Tensor, pixels: Tensor) -> Tensor:
        kept = ()
        if recipe.patch_drop:
            tokens = math.prod(recipe.model.architecture().grid)
            keep = max(1, round(tokens * (1 - recipe.patch_drop)))
            kept = (torch.rand(len(x), tokens, device=x.device).argsort(dim=1)[:, :keep],)
        return masked_bce(model(x, *kept), torch.zeros(len(x), len(manifest.labels), device=x.device))

    return model, loss
