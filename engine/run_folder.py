"""The folder of a run: what was asked (`recipe.yaml`), where it ran (`environment.json`), logs and checkpoints.

Repeating the same command in a run folder continues it, with more epochs too; another recipe or other data in it is
refused. A run that ends before it has done anything, as a refused one does, leaves the folder free.
"""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ..core.addresses import without_secrets
from ..core.documents import read_json, read_yaml
from ..core.errors import UserError
from ..core.files import LOCK, remove_leftovers, write_json, write_text
from ..core.locks import Lock
from .launcher import launched
from .recipe import plain, to_yaml

PACKAGES = ("clinvit", "torch", "timm", "lightning", "numpy", "albumentations", "pydicom")
RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"
# What there is once something has been done that a repeated command goes on from.
WORK = ("checkpoints/*", "status/*.json")
EPOCHS = "optim.epochs"
# Options that may change between two starts of one run, because they change no result.
FREE = {f"run.{name}" for name in "devices nodes workers checkpoint_minutes profile strategy threads track".split()}


@contextmanager
def run_folder(path: str | Path, recipe: Any, inputs: dict[str, Any], *, shared: bool = False) -> Iterator[Path]:
    """Open a run folder for one process at a time; the lock is released by the end of the process, however it ends.

    A folder that was free is free again if what is done within fails before anything is done (`WORK`).

    Args:
        path: The folder, made if missing.
        recipe: The resolved recipe.
        inputs: What else decides the result: data fingerprint, weights that it starts from.
        shared: Any number of processes that ask for the same may work in it at once.

    Raises:
        UserError: Another process is at work in it, or it holds another recipe or other inputs.
    """
    path = Path(path)
    if rank() > 0 and not shared:
        yield path
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = Lock(path / LOCK, path, shared=shared)
    except OSError as error:
        raise UserError(f"{path}: the run folder cannot be written ({error.strerror}). Choose another --out.") from None
    free = False
    try:
        with lock:
            if lock.alone:
                remove_leftovers(path)
            if shared:
                lock.share()
            free = not _holds_this(path, recipe, inputs)
            write_text(path / RECIPE, to_yaml(recipe))
            write_json(path / ENVIRONMENT, environment() | {"inputs": inputs})
            yield path
    except BaseException:
        if free:
            _free(path)
        raise


def environment() -> dict:
    """Return versions, machine, device and the state of the source, as plain values."""
    import torch  # only here: the command's first line comes before it is loaded

    return {
        "command": " ".join([Path(sys.argv[0]).name, *map(_without_secrets, sys.argv[1:])]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {os.cpu_count()} cores",
        "git": _git_state(),
    }


def _without_secrets(word: str) -> str:
    """Return a word of the command, a URL without the passwords and signatures in it."""
    return without_secrets(word) if "://" in word else word


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on, where installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def rank() -> int:
    """Return the rank of this process among those that were started (torchrun, SLURM, Lightning); 0 when alone."""
    launch = launched()
    return int(os.environ.get("LOCAL_RANK", 0)) if launch is None else launch.rank


def world_size() -> int:
    """Return how many processes a launcher started for one work (torchrun, srun); 1 when alone."""
    launch = launched()
    if launch is None or launch.name == "torchrun":
        return 1 if launch is None else launch.world
    # A batch script of SLURM has SLURM_NTASKS too, but is one process: the steps of srun alone have their own number.
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))


def _holds_this(path: Path, recipe: Any, inputs: dict[str, Any]) -> bool:
    """Return whether the folder holds this run already, or a shorter one that it goes on from; refuse another."""
    try:
        before = read_yaml(path / RECIPE, remedy="Choose another --out.")
        known = read_json(path / ENVIRONMENT, remedy="Choose another --out.")["inputs"]
        old = _flatten(_completed(before, recipe)) | known
    except FileNotFoundError:
        return False
    except (KeyError, TypeError) as error:
        raise UserError(f"{path / ENVIRONMENT}: damaged ({error}). Choose another --out.") from None
    new = _flatten(plain(recipe)) | inputs
    changed = [key for key in sorted(old | new) if key not in FREE and old.get(key) != new.get(key)]
    if changed == [EPOCHS]:
        _extend(path, old[EPOCHS], new[EPOCHS])
    elif changed:
        first = changed[0]
        raise UserError(
            f"{path}: this folder holds another run: {first} was {old.get(first)!r}, now {new.get(first)!r}"
            f"{f' (and {len(changed) - 1} more)' if len(changed) > 1 else ''}. Choose another --out, or repeat the "
            "old command to continue it."
        )
    return True


def _completed(before: dict, recipe: Any) -> dict:
    """Return a stored recipe with the options that its version did not know yet: they were as they are by default."""
    if any(field.default is MISSING and field.default_factory is MISSING for field in fields(recipe)):
        return before
    return _filled(before, plain(type(recipe)()))


def _filled(values: dict, defaults: dict) -> dict:
    found = defaults | values
    for key in values.keys() & defaults.keys():
        if isinstance(values[key], dict) and isinstance(defaults[key], dict):
            found[key] = _filled(values[key], defaults[key])
    return found


def _extend(path: Path, before: int, now: int) -> None:
    """Say that a run goes on for more epochs than it was begun with, or refuse fewer."""
    if now < before:
        raise UserError(
            f"{path}: this folder holds a run of {before} epochs, whose learning rate follows their number; {EPOCHS} "
            f"{now} would not be its beginning. Choose another --out, or a number from {before} on."
        )
    print(f"{path}: goes on, for {now} epochs instead of {before}; from here on the learning rate is that of {now}.")


def _free(path: Path) -> None:
    """Free the folder of a run that has done nothing, unless another process is at work there."""
    if any(any(path.glob(pattern)) for pattern in WORK):
        return
    with suppress(UserError, OSError), Lock(path / LOCK, path):
        for name in (RECIPE, ENVIRONMENT):
            (path / name).unlink(missing_ok=True)


def _flatten(value: dict, prefix: str = "") -> dict:
    out: dict[str, Any] = {}
    for key, item in value.items():
        out |= _flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return out


def _git_state() -> str:
    """Return the commit of the source and whether it was changed; empty for an installed package."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        return subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
