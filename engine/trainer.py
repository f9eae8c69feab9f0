"""Lightning's Trainer, set up from a recipe: devices, precision, accumulation, clipping, logs, checkpoints, resume."""

import logging
import pickle
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn

from ..core.errors import RunError, UserError
from ..core.files import own_folder, wrong_checksum
from ..core.platform import REQUEUE_SIGNAL
from ..core.tensors import refuse_expanded
from .checkpoint import KeepLast, find
from .interruption import Interruption
from .launcher import launched
from .profiling import Profile
from .progress import EpochLog, Progress
from .recipe import Optim, Run
from .run_folder import rank
from .tracking import loggers, reported_once
from .training import Training
from .workers import reporting_killed_readers


def fit(
    training: Training,
    optim: Optim,
    run: Run,
    folder: Path,
    title: str,
    eval_every: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train to the end, from the folder's checkpoint if there is one.

    Args:
        training: With its loaders.
        optim: The recipe's optimiser.
        run: The recipe's machine.
        folder: The run folder.
        title: For the progress bar.
        eval_every: Epochs between validations; None for no validation.
        callbacks: More callbacks.

    Raises:
        UserError: The checkpoint is damaged or of another model.
        RunError: The loss is not finite, the disk is full, or a reading process was killed.
    """
    checkpoint = find(folder)
    interruption = Interruption()
    run = replace(run, precision=precision(run, training))
    if note := batch_norm_note(training, optim, run):
        print(f"note: {note}")
    trainer = make_trainer(optim, run, folder, title, eval_every, interruption, callbacks)
    if checkpoint is not None:
        training.done = _check(checkpoint, training)
    try:
        advice = "Lower run.workers and repeat the command: it goes on from its last checkpoint."
        with interruption, reporting_killed_readers(advice), reported_once():
            trainer.fit(training, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into an exit after its teardown.
        raise KeyboardInterrupt from None
    if trainer.interrupted:
        raise KeyboardInterrupt
    training.gather()
    training.meet_unread()


def make_trainer(
    optim: Optim,
    run: Run,
    folder: Path,
    title: str,
    eval_every: int | None,
    interruption: Interruption,
    callbacks: Sequence[Callback] = (),
) -> pl.Trainer:
    """Return the Trainer of a recipe."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # What Lightning says about workers (the progress bar shows what waiting costs), intervals of its own logs, the
    # moving average (in eval mode on purpose), data that do not resume (`TrainBatches.done` does) and its own use of
    # PyTorch is of no use to the reader. Every process sees the whole validation, so nothing is left to synchronise.
    for words in (
        "does not have many workers",
        "smaller than the logging interval",
        "in eval mode at the start",
        "LeafSpec",
        "your dataloader is not resumable",
        "when logging on epoch level in distributed setting",
        "is available on your system but is not used",
    ):
        warnings.filterwarnings("ignore", message=f".*{words}.*")
    here, nodes = placement(run)
    if nodes > 1 and launched() is None:
        raise UserError(f"run.nodes {nodes}: start the command on every machine by torchrun or srun.")
    own_folder(folder / "checkpoints")
    trainer = pl.Trainer(
        accelerator="auto",
        devices=here,
        num_nodes=nodes,
        plugins=[_environment()],
        precision=run.precision,  # type: ignore[arg-type]  # a name of Lightning's: `Run` has checked it
        max_epochs=optim.epochs,
        accumulate_grad_batches=optim.accumulate,
        gradient_clip_val=optim.clip_norm,
        check_val_every_n_epoch=eval_every or 1,
        limit_val_batches=1.0 if eval_every else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=True,
        enable_model_summary=False,
        logger=loggers(folder, run),
        # The log comes after the callbacks that add to it.
        callbacks=[
            Progress(title),
            interruption,
            *callbacks,
            *[Profile(folder)] * run.profile,
            EpochLog(folder),
            KeepLast(folder, run.checkpoint_minutes, interruption),
        ],
        strategy=_sharded(run) if run.strategy == "fsdp" else "auto",
        # PyTorch has it for GPUs alone.
        sync_batchnorm=run.sync_batchnorm and torch.cuda.is_available(),
        log_every_n_steps=50,
        default_root_dir=folder,
    )
    if REQUEUE_SIGNAL is None:  # Lightning looks for SIGUSR1; its handlers give way to `Interruption` anyway
        signals: Any = trainer._signal_connector
        signals.register_signal_handlers = lambda: None
    return trainer


def precision(run: Run, model: nn.Module) -> str:
    """Return Lightning's name; `auto` is bf16 where the hardware multiplies it, fp16 on older GPUs, else fp32.

    On a CPU `auto` leaves networks with 3-D convolutions in fp32: oneDNN's gradients of their bf16 weights are at times
    not finite (seen in PyTorch 2.15 with kernels of 3 on maps of 2 x 2 x 2).
    """
    if run.precision != "auto":
        return run.precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    overlapping = any(isinstance(part, nn.Conv3d) and part.kernel_size != part.stride for part in model.modules())
    return "bf16-mixed" if cpu_multiplies_bf16() and not overlapping else "32-true"


def batch_norm_note(model: nn.Module, optim: Optim, run: Run) -> str:
    """Return what the reader should know of batch norms that see less than a whole batch; empty where none does."""
    if rank() or not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        return ""
    apart = 1 if run.sync_batchnorm and torch.cuda.is_available() else processes(run)
    parts = apart * optim.accumulate
    if parts == 1:
        return ""
    return f"its batch norms see {optim.batch_size // parts} cases at once, not the whole batch of {optim.batch_size}"


def cpu_multiplies_bf16() -> bool:
    """Return whether the processor has bf16 matmuls (AVX512-BF16 or AMX), as far as Linux tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def placement(run: Run) -> tuple[int | str, int]:
    """Return devices of each machine for Lightning (`auto` is all GPUs), and machines: as processes were started.

    Raises:
        UserError: The recipe asks for another number, or the launcher started them unevenly or more than the GPUs.
    """
    if run.devices != "auto" and (not str(run.devices).isdigit() or int(run.devices) < 1):
        raise UserError(f"run.devices is `auto` or a number, not {run.devices!r}.")
    launch = launched()
    if launch is None:
        alone = "auto" if torch.cuda.is_available() else 1
        return alone if run.devices == "auto" else int(run.devices), run.nodes
    name, _, world, here, option = launch
    if not here or world % here:
        raise UserError(f"{name} started {world} processes, not so many on each machine: set {option}.")
    if run.devices not in ("auto", str(here)):
        raise UserError(
            f"run.devices {run.devices}, but {name} started {here} on each machine: leave it at auto, or start "
            f"{name} with {option}={run.devices}."
        )
    if run.nodes not in (1, world // here):
        raise UserError(f"run.nodes {run.nodes}, but {name} started {world // here}: leave run.nodes out.")
    if torch.cuda.is_available() and here > torch.cuda.device_count():
        raise UserError(
            f"{name} started {here} processes on each machine, and each of them sees {torch.cuda.device_count()} GPU: "
            "start one for each GPU, and let each see all (SLURM: --gpus-per-node instead of --gpus-per-task)."
        )
    return here, world // here


def _environment() -> ClusterEnvironment:
    """Return by what the processes find each other; without a launcher Lightning starts them itself."""
    launch = launched()
    if launch is None:
        return LightningEnvironment()
    # `Interruption` asks SLURM to requeue.
    return TorchElasticEnvironment() if launch.name == "torchrun" else SLURMEnvironment(auto_requeue=False)


def _sharded(run: Run) -> ModelParallelStrategy:
    """Return PyTorch's fully sharded data parallel over all processes; checkpoints stay whole files."""
    return ModelParallelStrategy(processes(run), tensor_parallel_size=1, save_distributed_checkpoint=False)


def processes(run: Run) -> int:
    """Return the number of all processes of a run, one for each device."""
    here, nodes = placement(run)
    return nodes * (max(1, torch.cuda.device_count()) if here == "auto" else int(here))


def _check(checkpoint: Path, training: Training) -> tuple[int, int]:
    """Read the checkpoint once, safely, so that a damaged one is an error that names it.

    Returns:
        The epoch that it was written within, and the batches done of it.
    """
    if wrong := wrong_checksum(checkpoint):
        raise _damaged(checkpoint, wrong)
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        refuse_expanded(checkpoint, content)
        state, loops = content["state_dict"], content["loops"]["fit_loop"]
        batches = loops["epoch_loop.batch_progress"]
        epoch = loops["epoch_progress"]["current"]["processed"]
    except pickle.UnpicklingError as error:
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{checkpoint}: refused: the file asks to run `{asked[1]}` when it is opened, which no checkpoint of "
                "ours does. Remove it to start this run anew."
            ) from None
        raise _damaged(checkpoint, error) from None
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged file lets anything fail
        raise _damaged(checkpoint, error) from None
    own = training.state_dict()
    if state.keys() != own.keys() or any(state[name].shape != own[name].shape for name in own):
        raise RunError(f"{checkpoint}: made for another model. Choose another --out.")
    return (0, 0) if batches["is_last_batch"] else (epoch, batches["current"]["completed"])


def _damaged(checkpoint: Path, error: Exception | str) -> UserError:
    return UserError(
        f"{checkpoint}: the checkpoint is damaged ({' '.join(str(error).split())[:120]}). Remove it to start this run "
        "anew."
    )
