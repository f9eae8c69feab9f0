"""Read a checkpoint's tensors without running its code, down to the names that its makers gave to the model."""

import argparse
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ...core.documents import read_json
from ...core.errors import UserError
from ...core.files import refuse_irregular
from ...core.tensors import refuse_expanded
from ...core.weight_files import is_safetensors, refuse_archive, refuse_code, refuse_hostile, refuse_many
from .prefixes import without_prefix

State = dict[str, Tensor]
# JEPA's target encoder is the one that it evaluates.
WRAPPERS = (
    "state_dict", "model", "module", "model_state_dict", "teacher", "student", "target_encoder", "encoder",
    "state_dict_ema", "model_ema", "ema", "net", "network", "weights", "params",
)  # fmt: skip
# In checkpoints of our own runs: DINO's teacher or the moving average is the model to keep, where there is one.
KEPT = ("teacher.", "ema.module.", "model.")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# Files of shards, and what says which tensor lies in which.
INDEX = {"model.safetensors": "model.safetensors.index.json", "pytorch_model.bin": "pytorch_model.bin.index.json"}


def _empty_array(kind: type, shape: tuple, code: bytes) -> np.ndarray:
    """Return the empty array that NumPy's pickles start from, of no other kind or size than theirs."""
    return np.empty(0, dtype="b")


# What a NumPy number is unpickled by, of which NumPy has no public name.
_SCALAR = np.float64(0).__reduce__()[0]
# Numbers and arrays of NumPy, as metadata hold them (a best metric, a learning rate): values, no code.
PLAIN = [
    argparse.Namespace, np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
    *((_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in ("_core", "core")),
]  # fmt: skip


def read_checkpoint(path: str | Path, prefix: str | None = None) -> State:
    """Read the tensors of a safetensors or PyTorch file, wrappers and the prefix of the ViT's names taken off.

    No code of the file is run: pickles are read by PyTorch's restricted reader, which knows tensors, plain values,
    numbers of NumPy and (as MAE's files hold one) `argparse.Namespace`, and refuses everything else.

    Args:
        path: The file.
        prefix: What the names of the ViT begin with, where the file holds several; found where it holds one.

    Raises:
        UserError: No such file, not a checkpoint, truncated, a pickle that asks for code, or weights that are no
            finite numbers.
    """
    path = Path(path)
    state = without_prefix(_unwrap(_content(path)), prefix)
    if not state:
        raise UserError(f"{path}: holds no weights (a dict of tensors, alone or under {', '.join(WRAPPERS[:3])}).")
    _refuse_values(path, state)
    return state


def read_folder(folder: Path, prefix: str | None = None) -> State:
    """Read the tensors of a folder of transformers or timm: one file or shards, safetensors or PyTorch's.

    Raises:
        UserError: As of `read_checkpoint`, or a shard is missing.
    """
    for name, index in INDEX.items():
        if (folder / name).is_file():
            return read_checkpoint(folder / name, prefix)
        if (folder / index).is_file():
            return _shards(folder, index, prefix)
    return read_checkpoint(folder / next(iter(INDEX)), prefix)


def weight_files(folder: Path) -> list[Path]:
    """Return the files that `read_folder` reads, the first of which may be missing."""
    for name, index in INDEX.items():
        if (folder / name).is_file():
            return [folder / name]
        if (folder / index).is_file():
            return [folder / name for name in _shard_names(folder, index)]
    return [folder / next(iter(INDEX))]


def _shards(folder: Path, index: str, prefix: str | None) -> State:
    state: dict = {}
    for name in _shard_names(folder, index):
        if not (folder / name).exists():
            raise UserError(f"{folder / index}: its shard {name} is missing. Copy or download the folder again.")
        found = _unwrap(_content(folder / name))
        if twice := found.keys() & state.keys():
            raise UserError(f"{folder / name}: {min(twice)} is in another shard too. Copy the folder again.")
        state |= found
    _refuse_values(folder / index, state)
    return without_prefix(state, prefix)


def _refuse_values(path: Path, state: State) -> None:
    """Refuse weights in whole numbers, whose scales are in no place that is known, and weights that are not finite."""
    for name, value in state.items():
        if not name.endswith((".weight", ".bias")):
            continue
        if not value.is_floating_point():
            raise UserError(
                f"{path}: {name} is in {str(value.dtype).removeprefix('torch.')}: quantised weights, without what they "
                "are scaled by. Take the file in float32, float16 or bfloat16."
            )
        if value.itemsize > 1 and not value.isfinite().all():
            raise UserError(f"{path}: {name} has values that are NaN or infinite. Copy or download it again.")


def _shard_names(folder: Path, index: str) -> list[str]:
    found = read_json(folder / index, remedy="Copy or download it again.").get("weight_map")
    names = sorted(set(found.values())) if isinstance(found, dict) and all(map(_is_text, found.values())) else []
    if not names or any(Path(name).name != name for name in names):
        raise UserError(f"{folder / index}: names no shards beside it. Copy or download it again.")
    return names


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _content(path: Path) -> object:
    """Return what a file holds.

    Raises:
        UserError: As of `read_checkpoint`.
    """
    refuse_irregular(path)
    _refuse_pointer(path)
    if is_safetensors(path):
        try:
            refuse_many(path)
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or download it again.") from None
    return read_pickle(path)


def _refuse_pointer(path: Path) -> None:
    """Refuse the few lines that Git leaves in place of a large file that was not fetched."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Copy or download it again.") from None
    if start == LFS_POINTER:
        raise UserError(
            f"{path}: a Git LFS pointer, not the weights: the repository was copied without its large files. "
            "Fetch them with `git lfs pull`, or download the file itself."
        )


def read_pickle(path: Path) -> object:
    """Read the content of a PyTorch file: tensors and plain values.

    Raises:
        UserError: As of `read_checkpoint`.
    """
    refuse_hostile(path)
    refuse_archive(path)
    try:
        with torch.serialization.safe_globals(PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
        refuse_expanded(path, content)
        return content
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            refuse_code(path, asked[1])
        raise UserError(f"{path}: not a readable PyTorch checkpoint. Copy or download it again.") from None
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged file lets anything fail
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable PyTorch checkpoint ({reason}). Copy or download it again.") from None


def _unwrap(content: object) -> State:
    """Unwrap down to the dict of tensors."""
    by_lightning = isinstance(content, dict) and "pytorch-lightning_version" in content
    while isinstance(content, dict) and (key := next((k for k in WRAPPERS if isinstance(content.get(k), dict)), None)):
        content = content[key]
    if not isinstance(content, dict):
        return {}
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return _kept(state) if by_lightning else state


def _kept(state: State) -> State:
    """Return the model to keep of a Lightning checkpoint of ours; of another's, everything."""
    for prefix in KEPT:
        if found := {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}:
            return found
    return state
