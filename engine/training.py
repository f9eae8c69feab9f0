"""What every training shares beside its loss: optimiser, schedule, seeds per step, EMA, and the stop on a bad loss."""

import copy
import sys
from collections.abc import Collection, Sequence

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from timm.layers import Attention
from timm.models.vision_transformer import Block
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ..core.errors import DataError, RunError, UserError, too_many_bad
from ..core.pixels import normalised
from .allocation import keep_freed_memory
from .cores import SharedCores
from .launcher import connected
from .optim import make_optimizer, parameter_groups
from .recipe import Optim, Run
from .schedule import half_cosine, optim_rate, scaled_rate


class Training(pl.LightningModule):
    """Base of every training; a subclass gives `loss(batch)` and the loaders.

    Randomness of a step comes from (seed, epoch, batch, rank) alone, so an interrupted run goes on exactly.

    Args:
        model: What is trained.
        optim, run: The shared parts of the recipe.
        ids: Ids of the cases, indexed by a batch's `row`; named when a loss is not finite.
        mean, std: Input statistics, one value per channel, for pixels in 0..1.
        depth: Blocks of the encoder, for layer-wise decay.
        no_decay: Parameter names without weight decay.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        optim: Optim,
        run: Run,
        *,
        ids: Sequence[str],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        depth: int,
        no_decay: Collection[str] = (),
    ):
        super().__init__()
        self.model, self.optim, self.run, self.ids = model, optim, run, ids
        self.depth, self.no_decay = depth, no_decay
        # The validation metric that the progress bar shows.
        self.watched = ""
        # (epoch, batches of it that are done already) where a run goes on within an epoch.
        self.done = (0, 0)
        self.whole: list[nn.Module] = []
        self.tallied: dict[str, tuple[Tensor, int]] = {}
        # Row to why its file could not be read while training.
        self.unread: dict[int, str] = {}
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self.ema: ModelEmaV3 | None = None
        if optim.ema_decay is not None:
            self.ema = ModelEmaV3(model, decay=optim.ema_decay, use_warmup=True)
        if run.compile:
            model.compile()

    def configure_model(self) -> None:
        """Share the weights among the processes, where the recipe asks for it."""
        if self.run.precision == "64-true":
            self.double()  # now, as Lightning does so after it has loaded a checkpoint, which is rounded by that
        # Lightning calls this again for a validation of its own; sharded once is enough.
        if self.run.strategy != "fsdp" or self.whole:
            return
        if not self.shardable:
            raise UserError("run.strategy fsdp is for masked pre-training without optim.ema_decay; leave it at ddp.")
        from torch.distributed.fsdp import fully_shard

        # In a list: not a part of the module, neither trained nor saved.
        self.whole = [copy.deepcopy(self.model).cpu()]
        assert self.device_mesh is not None, "Lightning makes one for fsdp"
        mesh = self.device_mesh["data_parallel"]
        for part in self.model.modules():
            if isinstance(part, Block):
                fully_shard(part, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    @property
    def shardable(self) -> bool:
        """Whether `run.strategy` fsdp can train it."""
        return False

    def gather(self) -> None:
        """Put the whole model in place of this process's share, after a sharded training. All processes call this."""
        if self.whole:
            from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

            state = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True))
            self.model = self.whole.pop()
            self.model.load_state_dict(state)

    def begin(self, batch: dict[str, Tensor], index: int) -> None:
        """Draw what the loss of this batch needs beside it: masks, say."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch."""
        raise NotImplementedError

    @property
    def share(self) -> tuple[int, int, int, int, int, bool]:
        """Return what `TrainBatches` asks: cases of a part of a batch, seed, rank, processes, parts, drop_last."""
        optim = self.optim
        part = optim.batch_size // optim.accumulate
        return part, self.run.seed, self.global_rank, self.trainer.world_size, optim.accumulate, optim.drop_last

    @property
    def final_model(self) -> nn.Module:
        """The weights to keep: the moving average where there is one."""
        return self.model if self.ema is None else self.ema.module

    def pixels(self, batch: dict[str, Tensor]) -> Tensor:
        """Return a batch's `image` (B, C, [T,] H, W) uint8, normalised on the device: fewer bytes travel."""
        return self.normalised(batch["image"])

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pixels (B, C, [T,] H, W), uint8 or in 0..1, normalised."""
        return normalised(pixels, self.mean, self.std)

    def on_fit_start(self) -> None:
        """Set what is quicker on a CPU."""
        self.cores = SharedCores(self.run.threads)
        if self.device.type == "cpu":
            keep_freed_memory()
        # In bf16 on a CPU the backward of PyTorch's fused attention is slow: a whole MAE step (width 192, 64 tokens,
        # batch 64, one Zen 4 core) took 297 ms with it and 195 ms as plain matmuls. In fp32 fused is the faster one.
        if self.device.type == "cpu" and self.trainer.precision == "bf16-mixed":
            for part in self.model.modules():
                if isinstance(part, Attention):
                    part.fused_attn = False  # type: ignore[misc]  # final for TorchScript alone

    def on_train_start(self) -> None:
        """Set the rate of the first step."""
        self._judge_last_epoch()  # a run that goes on within its last epoch does not begin that
        # The checkpoint of a run that is extended has the rate of the shorter schedule; of any other, this very rate.
        schedule = self.lr_schedulers()
        if isinstance(schedule, LambdaLR):
            rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, peak, factor in rates:
                group["lr"] = peak * factor(schedule.last_epoch)

    def on_train_batch_start(self, batch, batch_idx: int) -> None:
        """Compute with as many threads as other processes leave cores for."""
        self.cores.look()

    def on_validation_batch_start(self, batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compute with as many threads as other processes leave cores for."""
        self.cores.look()

    def on_train_epoch_start(self) -> None:
        """Judge the last epoch, too."""
        self._judge_last_epoch()

    def _judge_last_epoch(self) -> None:
        """Validate after this epoch if it is the last, whatever number of epochs lies between two validations."""
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Return the loss of a batch, or stop the run where it is not finite."""
        # Drop path and dropout draw from the global generator; masks and mixing from `generator`.
        seed_all(self.step_seed(index, self.global_rank), self.device)
        self.leave_out(batch.pop("unread", ()))
        self.begin(batch, index)
        loss = self.loss(batch)
        value = loss.detach()
        if not torch.isfinite(value):
            cases = ", ".join(self.ids[row] for row in batch["row"].tolist())
            raise RunError(
                f"the loss is {value.item()} at epoch {self.current_epoch}, batch {index}; its cases: {cases}. Look at "
                "these files, lower optim.base_lr, set optim.clip_norm 1 or run.precision 32-true, and repeat in a new "
                "folder; the last good checkpoint is kept."
            )
        self.tally({"loss": value})
        if self.trainer.is_last_batch:
            self.log_dict(self.epoch_means(), on_step=False, on_epoch=True, sync_dist=True)
            self.tallied.clear()
        return loss

    def leave_out(self, unread: Collection[tuple[int, str]]) -> None:
        """Warn of each file once that could not be read, and stop the run where they are too many.

        Args:
            unread: Rows and reasons of a batch, which goes on without them.
        """
        for row, reason in unread:
            if row not in self.unread:
                self.unread[row] = reason
                print(f"\nwarning: left out of training, for it cannot be read: {reason}", file=sys.stderr, flush=True)
        if not unread:
            return
        loader = self.trainer.train_dataloader
        assert loader is not None, "a batch came from it"
        cases = len(loader.dataset)
        if len(self.unread) > self.run.max_bad * cases:
            words = too_many_bad(len(self.unread), cases, self.run.max_bad)
            raise DataError(f"{words} The first: {next(iter(self.unread.values()))}")

    def meet_unread(self) -> None:
        """Bring together what the processes of a run could not read; all of them call this."""
        if connected():
            found: list = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(found, self.unread)
            self.unread = {row: reason for each in found for row, reason in each.items()}

    def tally(self, metrics: dict[str, Tensor]) -> None:
        """Add a batch's metrics to the epoch's; their means are logged at its end, of a resumed epoch too."""
        for name, value in metrics.items():
            total, count = self.tallied.get(name, (0.0, 0))
            self.tallied[name] = total + value, count + 1

    def epoch_means(self) -> dict[str, Tensor]:
        """Return the means of the epoch so far."""
        return {name: total / count for name, (total, count) in self.tallied.items()}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Store the sums of the epoch so far."""
        # All processes load the file of the first one: each gets the mean of all.
        reduce = self.trainer.strategy.reduce
        tallied = {name: (reduce(total, reduce_op="mean"), count) for name, (total, count) in self.tallied.items()}
        checkpoint["unread"] = dict(self.unread)
        checkpoint["tallied"] = {name: [float(total), count] for name, (total, count) in tallied.items()}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the sums of the epoch so far."""
        self.tallied = {name: (total, count) for name, (total, count) in checkpoint.get("tallied", {}).items()}
        self.unread = dict(checkpoint.get("unread", {}))

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        """Move the average of the weights."""
        if self.ema is not None and (batch_idx + 1) % self.optim.accumulate == 0:
            self.ema.update(self.model, step=self.global_step)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        """Clip the gradients as the recipe says."""
        # Lightning refuses to clip for any fused optimiser, for fear of loss scaling, which `fused` excludes below.
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)
        if self.optim.clip_tensor_norm is not None:
            for parameter in self.model.parameters():
                torch.nn.utils.clip_grad_norm_(parameter, self.optim.clip_tensor_norm)

    def on_before_optimizer_step(self, optimizer) -> None:
        """Set the weight decay of this step."""
        if self.optim.weight_decay_end is not None:
            decay = half_cosine(self.progress, self.optim.weight_decay, self.optim.weight_decay_end)
            for group in optimizer.param_groups:
                if group["weight_decay"]:
                    group["weight_decay"] = decay

    @property
    def progress(self) -> float:
        """Share of the optimiser's steps that are done."""
        return self.global_step / self.trainer.estimated_stepping_batches

    def step_seed(self, index: int, *more: int) -> int:
        """Return a seed of this batch of this epoch."""
        entropy = np.random.SeedSequence([self.run.seed, self.current_epoch, index, *more])
        return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def generator(self, index: int) -> torch.Generator:
        """Return a generator on the device, the same on every rank."""
        return torch.Generator(self.device).manual_seed(self.step_seed(index))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule."""
        optim = self.optim
        groups = parameter_groups(
            self.model.named_parameters(), weight_decay=optim.weight_decay, layer_decay=optim.layer_decay,
            depth=self.depth, no_decay={*self.no_decay, *optim.no_decay}, decay_biases=optim.decay_biases,
        )  # fmt: skip
        peak = scaled_rate(optim.base_lr, optim.batch_size)
        optimizer = make_optimizer(groups, optim, peak, fused=self.trainer.precision != "16-mixed")
        if optim.schedule == "plateau":
            plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=10)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "interval": "epoch", "monitor": "val_loss"},
            }
        # Only this property is known here already: Lightning counts the batches of an epoch later.
        steps = self.trainer.estimated_stepping_batches / optim.epochs

        def factor(step: int) -> float:
            return optim_rate(optim, step / steps) / peak

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }


def seed_all(seed: int, device: torch.device) -> None:
    """Seed the global generators of a step on this device."""
    if device.type == "cpu":
        # `torch.manual_seed` leaves word for each kind of GPU that is not there, with a traceback: 0.2 ms or more.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
