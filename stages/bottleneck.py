"""Whether loading or computing limits a training on this machine.

Both are measured for a few seconds, on the data set's own files and with the recipe's own model.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..core.errors import DataError, UserError
from ..core.platform import usable_cores
from ..datasets.loading.isolation import isolated
from ..datasets.loading.loaders import reading_workers
from ..datasets.loading.readers import Reader, make_reader
from ..datasets.loading.regions import for_manifest
from ..datasets.manifest.tables import Manifest
from ..datasets.transforms.views import TrainView
from ..engine.workload import Steps, Workload
from ..finetune.recipe import Finetune
from ..finetune.workload import workload as finetune_workload
from ..pretrain.method import method_of
from ..pretrain.recipe import PretrainRecipe
from ..pretrain.workload import workload as pretrain_workload
from .task import Task

SECONDS = 1.5  # of each measurement


@dataclass(frozen=True)
class Rates:
    """Cases per second.

    Attributes:
        decoded: Cases that one core reads from the files.
        loaded: Cases that one core crops and augments from the cache (which the system keeps in memory).
        consumed: Cases that training steps take.
    """

    decoded: float
    loaded: float
    consumed: float


def bottleneck(task: Task, manifest: Manifest, name: str) -> list[str]:
    """Return what `clinvit check --recipe` reports: two sentences with the rates.

    Args:
        task: Whose recipe it is.
        manifest: The cases.
        name: The recipe: of pre-training, or of fine-tuning where pre-training has none of this name.

    Raises:
        UserError: There is no such recipe, or nothing of it can be measured here.
    """
    if not task.cached:
        raise UserError("--recipe is for images and clips: tiles of slides come from no cache. Leave it out.")
    stage = "pretrain" if name in task.recipes["pretrain"] else "finetune"
    recipes = task.recipes[stage]
    if name not in recipes:
        known = ", ".join([*task.recipes["pretrain"], *task.recipes["finetune"]])
        raise UserError(f"--recipe {name!r}: known are {known}.")
    recipe = recipes[name]()
    if isinstance(recipe, Finetune) and not manifest.labels:
        raise UserError(f"--recipe {name}: fine-tuning needs labels, and {manifest.path} has none.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = measure(recipe, manifest, device)
    return verdict(
        rates, f"{stage} --recipe {name}", device, len(manifest.rows(*recipe.data.splits)), recipe.data.cache
    )


def verdict(rates: Rates, what: str, device: str, cases: int, cached: bool = True) -> list[str]:
    """Return the rates in words.

    Args:
        rates: As measured.
        what: What was measured, in words.
        device: The device that computes; a CPU also loads, with the same cores.
        cases: Training cases.
        cached: Whether the recipe keeps decoded files.
    """
    cores, workers = usable_cores(), max(1, reading_workers(-1))
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
    """Return cases per second as text."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def measure(recipe: PretrainRecipe | Finetune, manifest: Manifest, device: str) -> Rates:
    """Measure a recipe on a manifest's own files.

    Raises:
        DataError: None of the files that were tried can be read.
    """
    model, data = recipe.model, recipe.data
    reader = make_reader(
        data.clip, frames=model.frames, size_px=model.image_size, cache_px=data.cache_px, channels=model.channels
    )
    decoded, pixels = _decoded(for_manifest(reader, manifest), manifest)
    pretraining = isinstance(recipe, PretrainRecipe)
    view = method_of(recipe).view(recipe) if pretraining else TrainView(recipe.augment, data.clip, model.frames)
    loaded = per_second(lambda i: view(pixels[i % len(pixels)], i))
    return Rates(decoded, loaded, step_rate(workload(recipe, manifest), device))


def workload(recipe: PretrainRecipe | Finetune, manifest: Manifest) -> Workload:
    """Return the training of a recipe on a manifest's cases, without their files."""
    cases = len(manifest.rows(*recipe.data.splits))
    if isinstance(recipe, PretrainRecipe):
        return pretrain_workload(recipe, cases)
    return finetune_workload(recipe, cases, manifest)


def _decoded(reader: Reader, manifest: Manifest) -> tuple[float, list[np.ndarray]]:
    """Return files per second of one core, read from all over the manifest, and the pixels of those that were read."""
    files, pixels, error = manifest.files(), [], None
    rows = np.random.default_rng(0).permutation(len(files))[:64]
    with contextlib.closing(isolated(reader.read, [files[row] for row in rows])) as results:
        for number, result in enumerate(results):
            if number == 0:  # before the first one, a process starts
                start = time.perf_counter()
            if isinstance(result, DataError):
                error = result
            else:
                pixels.append(result)
            if time.perf_counter() - start > SECONDS and number >= 2:
                break
    if not pixels:
        raise error
    return max(1, number) / (time.perf_counter() - start), pixels


def per_second(work: Callable[[int], object]) -> float:
    """Return how often one core does `work(i)` in a second, after three warm-up calls that do not count."""
    for i in range(3):
        work(i)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        work(done)
        done += 1
    return done / (time.perf_counter() - start)


def step_rate(workload: Workload, device: str) -> float:
    """Return the cases per second of training steps: forward, backward and optimiser, in the precision of a run.

    The batch grows while a step is short, up to the recipe's; larger ones give no other rate.

    Args:
        workload: The training.
        device: cpu or cuda.
    """
    steps = Steps(workload.resolved(), torch.device(device))
    cases, most = 1, min(512, workload.optim.batch_size // workload.optim.accumulate)
    while True:
        batch = steps.batch(cases)
        steps.run(batch)
        seconds = min(sum(steps.run(batch)) for _ in range(2))
        if seconds > 0.2 or cases * 2 > most:
            break
        cases *= 2
    return cases * (1 / seconds if seconds > SECONDS else per_second(lambda _: steps.run(batch)))
