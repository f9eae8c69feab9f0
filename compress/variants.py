"""Smaller networks that a model may become: idle units, pruning, a smaller size, and these together."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..backbone.sizes import SIZES, Architecture, architecture
from ..core.errors import UserError
from ..finetune.idle import idle_architecture
from ..finetune.model import ModelCard, build_model
from ..finetune.recipe import Finetune
from .idle import merge_idle, merged_architecture
from .pruning import prune

METHODS = ("idle", "prune", "distil", "int8")


@dataclass(frozen=True)
class Variant:
    """A network that a model may become. All of them learn from the model (distillation), but the model itself.

    Attributes:
        name: Of its folder.
        idle: Share of idle units, merged afterwards.
        heads: Share of the attention heads that leaves before.
        hidden: Share of the hidden units that leaves before.
        size: Named size of a student from scratch; empty for the model's own weights.
    """

    name: str
    idle: float = 0.0
    heads: float = 0.0
    hidden: float = 0.0
    size: str = ""

    @property
    def learns(self) -> bool:
        """Return whether it is trained; the model itself is not."""
        return bool(self.idle or self.heads or self.hidden or self.size)

    @property
    def methods(self) -> set[str]:
        """Return the methods that it needs."""
        needed = {"idle": self.idle, "prune": self.heads or self.hidden, "distil": self.size}
        return {name for name, true in needed.items() if true}

    def words(self) -> str:
        """Return its steps, one after the other."""
        steps = [f"a student of size {self.size}"] if self.size else []
        pruned = {"attention heads": self.heads, "hidden units": self.hidden}
        if left := [f"{100 * share:.0f} % of the {what}" for what, share in pruned.items() if share]:
            steps.append(f"without {' and '.join(left)}")
        steps += [f"{100 * self.idle:.0f} % of the hidden units idle and merged"] if self.idle else []
        return ", ".join([*steps, "taught by the model"]) if steps else "the model as it is"


AS_IT_IS = Variant("as-it-is")
OWN_WEIGHTS = (
    Variant("idle-50", idle=0.5),
    Variant("idle-75", idle=0.75),
    Variant("idle-75-heads-25", idle=0.75, heads=0.25),
    Variant("prune-25", heads=0.25, hidden=0.25),
    Variant("prune-50", heads=0.25, hidden=0.5),
)


def check_compressible(card: ModelCard) -> None:
    """Refuse models of which nothing smaller can be made.

    Raises:
        UserError: Says why, and what to do.
    """
    if card.network != "vit":
        raise UserError(f"network {card.network!r}: only ViTs are made smaller so; `clinvit distil` teaches others.")
    if card.mode in ("linear", "attentive", "knn"):
        raise UserError(
            f"mode {card.mode!r}: its encoder has not learned the task, so that nothing of it can leave. Fine-tune it "
            "(--mode full) first, or teach a smaller model: `clinvit distil`."
        )
    if not card.plain_head:
        raise UserError("features of unit length (head_norm l2): only models with a plain head are made smaller.")
    if len(card.scales) > 1:
        raise UserError(f"scales {list(card.scales)}: only models of one scale are made smaller.")


def variants_of(card: ModelCard, methods: Collection[str]) -> list[Variant]:
    """Return what a model may become by the methods that are asked for; the model itself comes last.

    Args:
        card: Of the model, its idle units merged.
        methods: Of `METHODS`.
    """
    students = [Variant(size, size=size) for size in _smaller(card.arch)]
    students += [replace(one, name=f"{one.size}-idle-75", idle=0.75) for one in students]
    found = [one for one in (*OWN_WEIGHTS, *students) if one.methods <= set(methods) and _possible(one, card.arch)]
    return [*found, AS_IT_IS]


def untrained(variant: Variant, network: nn.Module, card: ModelCard) -> tuple[nn.Module, ModelCard]:
    """Return the network of a variant as it will be used, and its card: as large and as fast as the trained one."""
    network, card = start_of(variant, network, card)
    if not variant.idle:
        return network, card
    card = replace(card, arch=merged_architecture(idle_architecture(card.arch, Finetune(idle=variant.idle))))
    return build_model(card).eval(), card


def start_of(variant: Variant, network: nn.Module, card: ModelCard) -> tuple[nn.Module, ModelCard]:
    """Return what the training of a variant begins with: the network pruned, or a random one of a smaller size."""
    if variant.size:
        card = replace(card, arch=_sized(card.arch, variant.size), encoder={})
        return build_model(card).eval(), card
    if variant.heads or variant.hidden:
        network, small = prune(network, card, variant.heads, variant.hidden)
        assert isinstance(small, ModelCard), "of a model"
        return network, small
    return network, card


def as_used(network: nn.Module, card: ModelCard) -> tuple[nn.Module, ModelCard]:
    """Return a network with its idle units merged, and its card."""
    network, merged = merge_idle(network, card)
    assert isinstance(merged, ModelCard), "of a model"
    return network, merged


def _smaller(arch: Architecture) -> Sequence[str]:
    """Return the largest named size that is smaller than an architecture, if any."""
    sizes = {name: _sized(arch, name).weights for name in SIZES}
    below = [name for name in sizes if sizes[name] < 0.8 * arch.weights]
    return sorted(below, key=sizes.__getitem__)[-1:]


def _sized(arch: Architecture, size: str) -> Architecture:
    """Return a plain ViT of a named size for the same input."""
    positions = "sine2d" if arch.frames == 1 else "sine1d"
    return architecture(
        size, image_size=arch.image_size, patch_size=arch.patch_size, frames=arch.frames, tubelet=arch.tubelet,
        channels=arch.channels, class_token=arch.class_token, positions=positions,
    )  # fmt: skip


def _possible(variant: Variant, arch: Architecture) -> bool:
    """Return whether the network has what a variant changes."""
    if variant.size:
        return True
    linear = not (arch.gated_mlp or arch.mlp_norm or arch.mlp_shortcut)
    own_positions = arch.rotary is not None and arch.rotary.kind == "mixed"
    heads = not (arch.attention_norm or own_positions) and arch.heads > 1
    return (linear or not variant.idle) and (heads or not variant.heads) and not (variant.hidden and arch.mlp_norm)
