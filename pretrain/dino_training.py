"""Training of DINO from its recipe, and DINOv2's additions: schedules, teacher, centre, and the signs of collapse."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..datasets.loading.loaders import View
from ..datasets.loading.source import Source
from ..datasets.transforms.multi_crop import MultiCropView
from ..engine.schedule import half_cosine
from .collapse import feature_std, warn_of_collapse
from .dino import DinoLoss, DinoNetwork, Views, follow, load_head, teacher_temperature
from .dinov2 import draw_patch_masks, koleo_loss, masked_token_loss, sinkhorn_knopp
from .method import Method
from .neighbours import NeighbourCheck
from .parts import whole_state
from .recipe import Dino
from .sheets import attention_sheet

# DINO's positions are resampled with this offset (`resize_positions`).
RESIZE_OFFSET = 0.1


class DinoPretraining(Method[Dino]):
    """Training of a student; the teacher and the centre follow after each step of the optimiser.

    Logged beside the loss: `teacher_entropy` (nats; near 0 or near log(out_dim) it has collapsed one way or the other),
    `centre_norm`, and `feature_std` (of the teacher's unit class tokens in a batch; near 0 all images look alike).
    """

    name, image = "dino", "attention.png"
    model: DinoNetwork

    def __init__(self, student: DinoNetwork, recipe: Dino, source: Source):
        super().__init__(student, recipe, source)
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()
        if recipe.run.compile:
            self.teacher.compile()
        self.dino_loss = DinoLoss(recipe.head.out_dim, recipe.student_temp, recipe.centre_momentum)
        self.means: list[Tensor] = []
        self.masked: Tensor | None = None
        if recipe.ibot.weight:
            self.ibot_loss = DinoLoss(recipe.head.out_dim, recipe.student_temp, recipe.centre_momentum)
            self.patch_means: list[Tensor] = []

    @classmethod
    def build(cls, recipe: Dino, arch: Architecture | None = None) -> DinoNetwork:
        """Return the student of a recipe, with its random start decided by the seed."""
        torch.manual_seed(recipe.run.seed)
        try:
            if arch is None:
                arch = replace(recipe.model.architecture(), resize_offset=RESIZE_OFFSET, registers=recipe.registers)
            elif recipe.registers not in (0, arch.registers):
                raise UserError(f"registers {recipe.registers}: the encoder has {arch.registers}; set registers 0.")
            encoder = ViT(arch, drop_path=recipe.model.drop_path, checkpoint_blocks=recipe.model.checkpoint_blocks)
            return DinoNetwork(encoder, recipe.head, recipe.ibot if recipe.ibot.weight else None)
        except ValueError as error:
            raise UserError(str(error)) from None

    @classmethod
    def start_from(cls, model: nn.Module, path: Path) -> str:
        """Set the encoder and, where the checkpoint has one of the same sizes, the head; the teacher is a copy."""
        assert isinstance(model, DinoNetwork)
        return f"{super().start_from(model, path)}; head: {load_head(model, whole_state(path))}"

    @classmethod
    def view(cls, recipe: Dino) -> View:
        """Return what cuts the crops."""
        return MultiCropView(recipe.crops, recipe.model.image_size)

    @classmethod
    def callbacks(cls, recipe: Dino, source: Source) -> list[Callback]:
        """Return the check by nearest neighbours, where the recipe asks for it."""
        return [NeighbourCheck(source, recipe.monitor, recipe.run.seed)] if recipe.monitor else []

    @classmethod
    def sample_shapes(cls, recipe: Dino) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the crops of a case."""
        channels, side, crops = recipe.model.channels, recipe.model.image_size, recipe.crops
        shapes: dict[str, tuple[int, ...]] = {"image": (1, 2, channels, side, side)}
        if crops.local_crops:
            shapes["local"] = (1, crops.local_crops, channels, crops.local_px, crops.local_px)
        return shapes

    @property
    def final_model(self) -> DinoNetwork:
        """The teacher: it is the better one at any time (section 5.2)."""
        return self.teacher

    def begin(self, batch: dict[str, Tensor], index: int) -> None:
        """Draw the masks of the large crops, for the whole batch over all its parts and processes."""
        ibot = self.recipe.ibot
        if not ibot.weight:
            return
        step, part = divmod(index, self.optim.accumulate)
        world = self.trainer.world_size
        shares, cases = world * self.optim.accumulate, len(batch["row"])
        generator = torch.Generator().manual_seed(self.step_seed(step))
        grid = self.model.encoder.arch.grid[1:]
        whole = draw_patch_masks(grid, 2 * cases * shares, ibot.images, ibot.mask_ratio, generator)
        own = whole.unflatten(0, (2, -1)).chunk(shares, dim=1)[part * world + self.global_rank]
        self.masked = own.flatten(0, 1).to(self.device)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch of crops, and note what the centre moves towards."""
        crops = [
            self.normalised(batch[name].transpose(0, 1).flatten(0, 1)) for name in ("image", "local") if name in batch
        ]
        recipe = self.recipe
        temperature = teacher_temperature(
            self.progress * recipe.optim.epochs, recipe.warmup_teacher_temp, recipe.teacher_temp,
            recipe.warmup_teacher_temp_epochs,
        )  # fmt: skip
        with torch.no_grad():
            teacher = self.teacher(crops[:1], self.masked)
        targets = self.targets(self.dino_loss, teacher.logits, temperature, self.means).unflatten(0, (2, -1))
        self._log_signs(teacher.cls, targets)
        student = self.model(crops, self.masked, hide=True)
        loss = self.dino_loss(student.logits, targets)
        return self.with_additions(loss, student, teacher, temperature)

    def targets(self, loss: DinoLoss, teacher: Tensor, temperature: float, means: list[Tensor]) -> Tensor:
        """Return the targets (M, K) of the teacher's logits, and note what their centre moves towards."""
        if self.recipe.centring == "sinkhorn_knopp":
            return sinkhorn_knopp(teacher, temperature, partial(self.trainer.strategy.reduce, reduce_op="sum"))
        means.append(teacher.float().mean(dim=0, keepdim=True))
        return loss.centred(teacher, temperature)

    def with_additions(self, loss: Tensor, student: Views, teacher: Views, temperature: float) -> Tensor:
        """Return DINO's loss and what DINOv2 adds, each logged by itself."""
        recipe = self.recipe
        if self.masked is not None and teacher.patches is not None and student.patches is not None:
            targets = self.targets(self.ibot_loss, teacher.patches, temperature, self.patch_means)
            value = masked_token_loss(student.patches, targets, self.masked, recipe.student_temp)
            self.tally({"dino_loss": loss.detach(), "ibot_loss": value.detach()})
            loss = loss + recipe.ibot.weight * value
        if recipe.koleo:
            large = student.cls[: len(teacher.cls)].chunk(2)
            value = torch.stack([koleo_loss(crop) for crop in large]).sum()
            self.tally({"koleo": value.detach()})
            loss = loss + recipe.koleo * value
        return loss

    def on_train_start(self) -> None:
        """Set the rate of the first step, and begin to count steps."""
        super().on_train_start()
        self.stepped = self.global_step

    def on_before_optimizer_step(self, optimizer) -> None:
        """Keep the prototypes still in the first epochs."""
        super().on_before_optimizer_step(optimizer)
        if self.current_epoch < self.recipe.head.freeze_epochs:
            for head in self.model.heads():
                for parameter in head.last_layer.parameters():
                    parameter.grad = None

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        """Let teacher and centre follow."""
        if self.global_step == self.stepped:
            return  # a part of a batch
        self.stepped = self.global_step
        done = (self.global_step - 1) / self.trainer.estimated_stepping_batches
        follow(self.teacher, self.model, half_cosine(done, self.recipe.momentum, 1.0))
        self._move_centre(self.dino_loss, self.means)
        if self.masked is not None:
            self._move_centre(self.ibot_loss, self.patch_means)

    def _move_centre(self, loss: DinoLoss, means: list[Tensor]) -> None:
        """Move a centre by the means of all parts and processes; there are none with Sinkhorn-Knopp."""
        if means:
            mean = torch.stack(means).mean(dim=0)
            loss.update_centre(self.trainer.strategy.reduce(mean, reduce_op="mean"))
            means.clear()

    def on_train_epoch_end(self) -> None:
        """Warn where the features have collapsed."""
        if self.trainer.is_global_zero:
            advice = "Start anew with a lower optim.base_lr, a larger optim.batch_size or teacher_temp 0.04."
            warn_of_collapse(float(self.trainer.callback_metrics["feature_std"]), "DINO", advice)

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Return where the teacher's class token looks on a few cases, (height, width, 3) uint8."""
        images = self.without_augmentation(self.evenly(6))
        return attention_sheet(self.kept, images.cpu().numpy(), self.pixels({"image": images}))

    @torch.no_grad()
    def _log_signs(self, cls: Tensor, targets: Tensor) -> None:
        self.tally(
            {
                "teacher_entropy": torch.special.entr(targets).sum(dim=-1).mean(),
                "centre_norm": self.dino_loss.center.norm(),
                "feature_std": feature_std(cls),
            }
        )
