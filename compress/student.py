"""The training of a smaller network: it begins with what is left of the model, and learns from the model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..backbone.sizes import Architecture
from ..finetune.distil import Distillation
from ..finetune.distil_recipe import Distil, distilling
from ..finetune.model import ModelCard
from ..finetune.recipe import Finetune
from ..finetune.teachers import Teacher
from .variants import Variant

MOST_STORED = 8  # views of a case that the model answers to


class Continued(Distillation):
    """A distillation whose student begins with the weights of a network, its head too.

    Args:
        recipe: Of the student.
        teachers: The model.
        place: Folder of its answers.
        start: The network; None begins as the recipe says.
    """

    def __init__(self, recipe: Distil, teachers: Sequence[Teacher], place: Path, start: nn.Module | None):
        super().__init__(recipe, teachers, place)
        self.start = start

    def teach(self, model: nn.Module, card: ModelCard) -> None:
        """Set the weights, and give the student what projects its features."""
        if self.start is not None:
            model.load_state_dict(self.start.state_dict())
        super().teach(model, card)


def student_recipe(recipe: Finetune, variant: Variant, arch: Architecture, epochs: int) -> Distil:
    """Return the recipe of a smaller network from that of the model.

    The last epoch is kept: validation, on which the network is judged, chooses nothing. It runs on one device: several
    would start the whole command again.

    Args:
        recipe: Of the model.
        variant: What is to become of it.
        arch: Of what the training begins with.
        epochs: Of the training.
    """
    base = recipe if isinstance(recipe, Distil) else distilling(recipe)[0]
    optim = replace(base.optim, epochs=epochs, warmup_epochs=min(base.optim.warmup_epochs, epochs / 5))
    if variant.size:
        optim = replace(optim, layer_decay=1.0)  # random weights learn at one rate
        model = replace(
            base.model, size=variant.size, patch_size=arch.patch_size, tubelet=arch.tubelet, channels=arch.channels,
            class_token=arch.class_token, positions=arch.positions,
        )  # fmt: skip
        base = replace(base, model=model)
    return replace(
        base, mode="full", lora_rank=None, lora_alpha=None, last_blocks=None, select="last", eval_every=epochs,
        idle=variant.idle, idle_norm="layer", views=min(MOST_STORED, epochs), optim=optim,
        run=replace(base.run, devices="1", nodes=1),
    )  # fmt: skip
