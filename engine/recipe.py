"""Recipes: typed values made by named functions, then changed by a YAML file and dotted options, in this order."""

import argparse
import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from ..core.documents import parse_yaml, read_yaml
from ..core.errors import UserError
from ..core.ranges import check_ranges, number_kind, refusal, within

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Recipe = TypeVar("Recipe", bound="DataclassInstance")


SCHEDULES = ("cosine", "cosine_epoch", "constant", "plateau")


@dataclass(frozen=True)
class Optim:
    """How the weights are moved.

    Attributes:
        epochs: Length of training, epochs.
        warmup_epochs: Linear warm-up from 0, epochs.
        schedule: After the warm-up: `cosine`, `cosine_epoch` (the same, but it moves between epochs only), `constant`,
            or `plateau` (a tenth whenever the validation loss has not fallen for 10 epochs; no warm-up).
        batch_size: Cases per optimiser step, over all devices and accumulated parts.
        base_lr: Learning rate per 256 cases; the peak is base_lr x batch_size / 256.
        min_lr: Learning rate at the end of the cosine.
        weight_decay: Of matmuls; biases, norms and tokens have none.
        weight_decay_end: Weight decay at the end of half a cosine from `weight_decay` (DINO); null keeps it.
        betas: Of AdamW.
        layer_decay: Learning rate of a layer over the one above it; 1 is none.
        clip_norm: Largest gradient norm; null for no clipping.
        clip_tensor_norm: Largest gradient norm of each single tensor (DINO); null for no clipping.
        accumulate: Parts that a batch is computed in, for small memory.
        ema_decay: Decay of an exponential moving average of the weights, which is then what is kept; null for none.
        optimizer: `adamw`, `adam` (weight decay as an L2 penalty) or `lars` (linear probes).
        decay_biases: Biases, norms and tokens are decayed, too.
        no_decay: Names of further parameters that are not.
        drop_last: Leave out the cases that do not fill an epoch's last batch; else that batch is smaller.
    """

    epochs: int = field(default=100, metadata=within(1))
    warmup_epochs: float = field(default=5, metadata=within(0))
    schedule: str = "cosine"
    batch_size: int = field(default=256, metadata=within(1))
    base_lr: float = field(default=1.5e-4, metadata=within(0, 1000, exclude="low"))
    min_lr: float = field(default=0.0, metadata=within(0, 1000))
    weight_decay: float = field(default=0.05, metadata=within(0, 10))
    weight_decay_end: float | None = field(default=None, metadata=within(0, 10))
    betas: tuple[float, float] = field(default=(0.9, 0.95), metadata=within(0, 1, exclude="high"))
    layer_decay: float = field(default=1.0, metadata=within(0, 1, exclude="low"))
    clip_norm: float | None = field(default=None, metadata=within(0, exclude="low"))
    clip_tensor_norm: float | None = field(default=None, metadata=within(0, exclude="low"))
    accumulate: int = field(default=1, metadata=within(1))
    ema_decay: float | None = field(default=None, metadata=within(0, 1, exclude="both"))
    optimizer: str = "adamw"
    decay_biases: bool = False
    no_decay: tuple[str, ...] = ()
    drop_last: bool = True

    def __post_init__(self):
        check_ranges(self, "optim")
        if self.warmup_epochs >= self.epochs:
            raise UserError(
                f"optim.warmup_epochs {self.warmup_epochs:g} is not shorter than optim.epochs {self.epochs}: set both."
            )
        if self.schedule not in SCHEDULES:
            raise UserError(f"optim.schedule {self.schedule!r}: one of {', '.join(SCHEDULES)}.")
        if self.schedule == "plateau" and self.warmup_epochs:
            raise UserError("optim.schedule plateau has no warm-up: set optim.warmup_epochs 0.")
        if self.weight_decay_end is not None and not self.weight_decay > 0:
            raise UserError(f"optim.weight_decay_end needs an optim.weight_decay above 0, not {self.weight_decay:g}.")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"optim.batch_size {self.batch_size} does not divide into optim.accumulate {self.accumulate}."
            )
        if not self.drop_last and self.accumulate > 1:
            raise UserError("optim.drop_last false needs optim.accumulate 1: a smaller batch has no parts.")

    def check_cases(self, cases: int, what: str = "training cases") -> None:
        """Refuse a batch that so many training cases do not fill; `what` names them."""
        if self.drop_last and cases < self.batch_size:
            raise UserError(
                f"optim.batch_size {self.batch_size} is larger than the {cases} {what}: lower optim.batch_size."
            )


TRACKERS = ("wandb", "mlflow")
STRATEGIES = ("ddp", "fsdp")


@dataclass(frozen=True)
class Run:
    """Where and how exactly it runs; nothing here should change a result but `seed`, `precision` and `compile`.

    The number of computing threads changes the last digits of a sum. Where a run must be repeated, or go on after an
    interruption, to the last bit on a machine that others use too, fix `threads`.

    Attributes:
        seed: Of everything random.
        precision: `auto` (bf16 where GPU or CPU have it, fp16 on another GPU, fp32 on another CPU), `32-true`,
            `bf16-mixed`, `16-mixed`.
        devices: How many devices of this machine; `auto` takes all.
        nodes: Machines.
        workers: Loading processes per device; -1 chooses (none on a CPU; beside a GPU its share of the cores, at
            most 16).
        compile: Compile the model with torch.compile.
        checkpoint_minutes: Between two checkpoints; 0 writes one at each end of an epoch, and none within.
        profile: Write `trace.json.gz`, a profile of a few steps, into the run folder; Perfetto (ui.perfetto.dev)
            opens it.
        sync_batchnorm: Batch norms see the batch of all devices (GPUs only), as on one; else each device its own part.
        strategy: How several devices share the work: `ddp` (each holds the whole model) or `fsdp` (each holds a
            share of the weights, gradients and moments; masked pre-training of models too large for one device).
        max_bad: Share of training files that may be unreadable before the run is refused.
        track: Trackers beside TensorBoard and `log.csv`: `wandb` (Weights & Biases), `mlflow`. They must be installed.
        threads: Computing threads of a process; 0 takes as many as other processes leave cores for, during the run too.
    """

    seed: int = field(default=0, metadata=within(0, 2**32 - 1))
    precision: str = "auto"
    devices: str = "auto"
    nodes: int = field(default=1, metadata=within(1))
    workers: int = field(default=-1, metadata=within(-1, 1024))
    compile: bool = False
    checkpoint_minutes: float = field(default=5.0, metadata=within(0))
    profile: bool = False
    sync_batchnorm: bool = True
    strategy: str = "ddp"
    max_bad: float = field(default=0.01, metadata=within(0, 1))
    track: tuple[str, ...] = ()
    threads: int = field(default=0, metadata=within(0, 1024))

    def __post_init__(self):
        check_ranges(self, "run")
        if self.strategy not in STRATEGIES:
            raise UserError(f"run.strategy {self.strategy!r}: one of {', '.join(STRATEGIES)}.")
        for name in self.track:
            if name not in TRACKERS:
                raise UserError(f"run.track {name!r}: one of {', '.join(TRACKERS)}.")


def choose_recipe(recipes: Mapping[str, Callable], name: str, config: Path | None, options: Sequence[str]):
    """Return a named recipe, changed by a file and by dotted options."""
    if name not in recipes:
        raise UserError(f"unknown recipe {name!r}; known: {', '.join(recipes)}.")
    return parse_recipe(recipes[name](), config, options)


def parse_recipe(default: Recipe, config: Path | None = None, options: Sequence[str] = ()) -> Recipe:
    """Change a recipe by a YAML file and by dotted options such as `--optim.epochs 10`.

    Raises:
        UserError: An unknown key (with the nearest known one) or a value of the wrong kind.
    """
    import jsonargparse

    changes = _changes(default, config) if config is not None else {}
    _refuse_unknown(default, [o[2:].split("=", 1)[0] for o in options if o.startswith("--")], "the command line")
    parser = recipe_parser(default)
    where = f"{config}: " if config is not None and not options else ""
    try:
        if changes:
            read = parser.parse_object(changes, defaults=False)
            parser.set_defaults({key: read[key] for key in flat(default) if key in read})
        values = parser.instantiate(parser.parse_args(list(options)))
        return type(default)(**{one.name: values[one.name] for one in dataclasses.fields(default)})
    except UserError as error:
        raise UserError(f"{where}{error}") from None
    except (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}{_in_words(default, ' '.join(str(error).split()))[:500]}") from None


def _in_words(default: Any, message: str) -> str:
    """Return jsonargparse's refusal of what is no number as that of a number out of its range; others as they are."""
    found = re.fullmatch(r'Parser key "([^"]+)": .*value: ?(.*)', message)
    if not found:
        return message
    *groups, last = found[1].split(".")
    for group in groups:
        default = getattr(default, group)
    one = type(default).__dataclass_fields__[last]
    return message if number_kind(one.type) is None else f"{found[1]} {found[2] or repr('')} {refusal(one)}"


def recipe_parser(default: Any):
    """Return a jsonargparse parser whose options are the fields of the recipe, with its values as defaults.

    A group (`--optim`) is an option of its own, whose text jsonargparse imports as a class or opens as a file: who
    parses what may come from elsewhere refuses it before.
    """
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False, usage=argparse.SUPPRESS)
    parser.add_class_arguments(type(default), None)
    parser.set_defaults(flat(default))
    return parser


def flat(recipe: Any, prefix: str = "") -> dict[str, Any]:
    """Return dotted names and values of a recipe, in order."""
    out: dict[str, Any] = {}
    for one in dataclasses.fields(recipe):
        value = getattr(recipe, one.name)
        if dataclasses.is_dataclass(value):
            out |= flat(value, f"{prefix}{one.name}.")
        else:
            out[prefix + one.name] = value
    return out


def plain(recipe: Any) -> dict:
    """Return a recipe as nested plain values, for YAML and JSON."""
    return parse_yaml(to_yaml(recipe))


def to_yaml(recipe: Any) -> str:
    """Return a recipe as YAML that `parse_recipe` reads back."""

    def lists(value):
        if isinstance(value, dict):
            return {key: lists(item) for key, item in value.items()}
        return [lists(item) for item in value] if isinstance(value, list | tuple) else value

    return yaml.safe_dump(lists(dataclasses.asdict(recipe)), sort_keys=False)


def _changes(default: Any, path: Path) -> dict:
    """Return what a YAML file changes of a recipe: known keys only, groups as mappings."""

    def walk(value, prefix=""):
        for key, item in value.items():
            if isinstance(item, dict):
                yield from walk(item, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    try:
        content = read_yaml(path, remedy="A recipe file holds `key: value` lines.")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    _refuse_unknown(default, list(walk(content)), str(path))
    return content


def _refuse_unknown(default: Any, keys: Sequence[str], where: str) -> None:
    known = list(flat(default))
    groups = {key.rsplit(".", 1)[0] for key in known if "." in key}
    for key in keys:
        if key in known:
            continue
        if key in groups:
            one = next(name for name in known if name.startswith(f"{key}."))
            raise UserError(f"{where}: {key!r} is a group of keys, which has no value of its own: set {one!r}.")
        # A right last part under a wrong group is the most common slip: `--epochs` for `--optim.epochs`.
        tails = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
        close = tails[:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}."
        raise UserError(f"{where}: unknown recipe key {key!r}{hint}")
