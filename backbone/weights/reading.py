"""Read a checkpoint's tensors without running its code, down to the names that its makers gave to the model."""

import argparse
import pickle
import re
import warnings
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ...core.errors import UserError
from ...core.files import refuse_irregular, wrong_checksum
from ...core.tensors import refuse_expanded, refuse_many

State = dict[str, Tensor]
WRAPPERS = ("state_dict", "model", "module", "model_state_dict", "teacher", "student")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "vit.")
# In checkpoints of our own runs: DINO's teacher or the moving average is the model to keep, where there is one.
KEPT = ("teacher.", "ema.module.", "model.")


def read_checkpoint(path: str | Path) -> State:
    """Read the tensors of a safetensors or PyTorch file, wrappers and common prefixes taken off.

    No code of the file is run: pickles are read by PyTorch's restricted reader, which knows tensors, plain values
    and (as MAE's files hold one) `argparse.Namespace`, and refuses everything else.

    Raises:
        UserError: No such file, not a checkpoint, truncated, or a pickle that asks for code.
    """
    path = Path(path)
    refuse_irregular(path)
    content: object
    if path.suffix == ".safetensors":
        try:
            refuse_many(path)
            content = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or download it again.") from None
    else:
        content = read_pickle(path)
    state = _unwrap(content)
    if not state:
        raise UserError(f"{path}: holds no weights (a dict of tensors, alone or under {', '.join(WRAPPERS[:3])}).")
    return state


def read_pickle(path: Path) -> object:
    """Read the content of a PyTorch file: tensors and plain values.

    Raises:
        UserError: As of `read_checkpoint`.
    """
    if wrong := wrong_checksum(path):
        raise UserError(
            f"{path}: not a readable PyTorch checkpoint: {wrong}. Copy or download it again; if it was saved without "
            "checksums (torch.serialization.set_crc32_options), save it with them."
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
        refuse_expanded(path, content)
        return content
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            raise UserError(
                f"{path}: refused: the file asks to run `{asked[1]}` when it is opened, and weights need no code. "
                "Ask its makers for safetensors."
            ) from None
        raise UserError(f"{path}: not a readable PyTorch checkpoint. Copy or download it again.") from None
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged file lets anything fail
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable PyTorch checkpoint ({reason}). Copy or download it again.") from None


def _unwrap(content: object) -> State:
    """Unwrap down to the dict of tensors, then take off the prefixes that wrappers of models leave."""
    by_lightning = isinstance(content, dict) and "pytorch-lightning_version" in content
    while isinstance(content, dict) and (key := next((k for k in WRAPPERS if isinstance(content.get(k), dict)), None)):
        content = content[key]
    if not isinstance(content, dict):
        return {}
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if by_lightning:
        state = _kept(state)
    # The patch projection, by which a ViT is known, tells which prefixes stand before the names.
    projection = next((name for name in state if name.endswith("patch_embed.proj.weight")), "")
    while prefix := next((prefix for prefix in PREFIXES if projection.startswith(prefix)), None):
        projection = projection.removeprefix(prefix)
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _kept(state: State) -> State:
    """Return the model to keep of a Lightning checkpoint of ours; of another's, everything."""
    for prefix in KEPT:
        if found := {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}:
            return found
    return state
