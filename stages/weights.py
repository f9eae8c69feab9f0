"""The stage of the verb `weights`: what a checkpoint is, and the folder that it becomes. No code in it is ever run."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..backbone.encoder import EncoderCard, open_reported, save_encoder
from ..backbone.public import encoder_place
from ..backbone.sizes import LARGEST
from ..backbone.vit import ViT
from ..backbone.weights import LoadReport, State, hub, read_checkpoint
from ..backbone.weights.said import NOTHING, Said
from ..core.errors import UserError
from ..finetune.starts import NetworkStart, find_start, network_start


def what_is_said(
    like: str | None = None, heads: int | None = None, size: str | None = None, prefix: str | None = None,
    mean: str | None = None, std: str | None = None,
) -> Said:  # fmt: skip
    """Return what the user says of a checkpoint, from the words of the command line.

    Raises:
        UserError: Not a size, or not numbers.
    """
    if heads is not None and heads < 1:
        raise UserError(f"--heads {heads}: a number from 1 on.")
    return Said(like, heads, _sides(size), prefix, _numbers("mean", mean), _numbers("std", std))


def _sides(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 0 < int(side) < LARGEST for side in sides):
        raise UserError(f"--size {size}: height and width in px such as 384x256, or one side such as 224.")
    return int(sides[0]), int(sides[-1])


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(math.isfinite(value) for value in values) or len(values) not in (1, 3):
        raise UserError(f"--{name} {text}: one number, or three such as 0.485,0.456,0.406.")
    return values


def inspect_weights(source: str | Path, said: Said = NOTHING) -> str:
    """Return what a checkpoint is, in a few lines: kind, architecture, sizes, what would be left over.

    Args:
        source: A checkpoint file, an encoder or model folder, a folder of Hugging Face's transformers, or a name of
            timm (`timm:NAME`, `hf-hub:OWNER/NAME`), which is fetched.
        said: What the user says of a checkpoint of an encoder.

    Raises:
        UserError: None of these, or it carries code.
    """
    source = source if _is_name(source) else encoder_place(source)
    path = Path(source)
    if (path / "model.json").is_file():
        return f"{source}: {_model_folder(path)}"
    kind, state = _kind(path, said.prefix)
    if kind == "aggregator":
        return f"{source}: {_aggregator(path, state)[2]}"
    if kind == "volumes":
        from ..finetune.volumes.weights import load_published, published_network

        _, pooling = published_network(state)
        # Which share does not matter to the tensors.
        name, model, report = load_published(path, 1.0 if pooling == "topk" else None)
        return f"{source}: the baseline {name} of ERDES, {_size(model)}; `weights convert` needs --labels\n{report}"
    try:
        _, card, report = _vit(source, said)
    except UserError:
        # What is no ViT of ours may be a network of timm; if it is none either, the error says so.
        if said == NOTHING and not _is_name(source) and isinstance(start := find_start(path), NetworkStart):
            return f"{source}: {start.description()}"
        raise
    return f"{source}: {card.description()}\n{card.statistics_words()}\n{report}"


def convert_weights(
    source: str | Path, out: Path, labels: Sequence[str] | None = None, pool_ratio: float | None = None,
    recipe_of: Callable[[str], Any] | None = None, said: Said = NOTHING,
) -> str:  # fmt: skip
    """Make an encoder folder of a ViT, or a model folder of a published aggregator or ERDES baseline; returns a line.

    Args:
        source: As of `inspect_weights`.
        out: The folder to write.
        labels: Names of the outputs of a model, in their order; an encoder has none.
        pool_ratio: Share of time steps of an ERDES baseline with selective pooling (see `load_published`).
        recipe_of: Name of a baseline to the recipe that it was trained by, which says how clips are shown to it.
        said: As of `inspect_weights`.

    Raises:
        UserError: As of `inspect_weights`, or labels are missing, too many or not needed.
    """
    source = source if _is_name(source) else encoder_place(source)
    path = Path(source)
    if (path / "model.json").is_file():
        raise UserError(f"{source}: a model folder already; `clinvit predict` takes it as it is.")
    kind, state = _kind(path, said.prefix)
    if pool_ratio is not None and kind != "volumes":
        raise UserError("--pool-ratio is for the baselines of ERDES: leave it out.")
    if kind == "aggregator":
        return f"model: {_convert_aggregator(path, state, out, labels)}"
    if kind == "volumes":
        return f"model: {_convert_volumes(path, out, labels, pool_ratio, recipe_of)}"
    if labels is not None:
        raise UserError(f"--labels are for models; {source} becomes an encoder: leave them out.")
    try:
        vit, card, report = _vit(source, said)
    except UserError as error:
        if not _is_name(source) and (network := network_start(path)) is not None:
            raise UserError(f"{source}: {network.description()}. It becomes no encoder folder ({error})") from None
        raise
    return f"{report}\n{card.statistics_words()}\nencoder: {save_encoder(out, vit, card)}"


def _is_name(source: str | Path) -> bool:
    return hub.is_timm_name(str(source)) and not Path(source).exists()


def _kind(path: Path, prefix: str | None) -> tuple[str, State]:
    """Return `aggregator`, `volumes` or `vit`, and the tensors of a file (none of a folder or name)."""
    from ..finetune.volumes.weights import published_network
    from ..mil.weights import official_kind

    if path.is_dir() or _is_name(path):
        return "vit", {}
    state = read_checkpoint(path, prefix)
    if official_kind(state):
        return "aggregator", state
    return ("volumes" if published_network(state) else "vit"), state


def _vit(source: str | Path, said: Said) -> tuple[ViT, EncoderCard, LoadReport]:
    if _is_name(source):
        if said != NOTHING:
            raise UserError(f"{source}: a network of timm says all of itself: leave out what is said of it.")
        vit, found, report = hub.fetch_vit(str(source))
        return vit, EncoderCard(found.arch, found.mean, found.std, "timm", recipe={"weights": str(source)}), report
    return open_reported(source, said)


def _aggregator(path: Path, state: State):
    """Return kind, aggregator and a line about it."""
    from ..mil.weights import load_official_clam, load_official_dsmil, official_kind

    kind = official_kind(state)
    model = (load_official_clam if kind.startswith("clam") else load_official_dsmil)(path)
    return kind, model, f"the aggregator {kind}, {_size(model)}; `weights convert` needs --labels"


def _convert_aggregator(path: Path, state: State, out: Path, labels: Sequence[str] | None) -> Path:
    from ..engine.run_folder import versions
    from ..mil.model import MilCard, save_mil

    kind, model, _ = _aggregator(path, state)
    clam = kind.startswith("clam")
    weights = model.state_dict()
    classes = len(weights["bias"] if clam else weights["i_classifier.fc.0.weight"])
    labels = _named(labels, classes, path)
    first = weights[next(name for name in weights if name.startswith(("attention.v.", "b_classifier.q.")))]
    hidden, width = weights["embed.0.weight"].shape if clam else (0, first.shape[1])
    card = MilCard(
        labels=labels, meaning=_meaning(labels), exclusive=clam, aggregator=kind, hidden=hidden,
        attention=len(first), score="bag", width=width, recipe={"weights": str(path)}, versions=versions(),
    )  # fmt: skip
    return save_mil(out, model, card)


def _convert_volumes(path: Path, out: Path, labels: Sequence[str] | None, pool_ratio: float | None, recipe_of) -> Path:
    from ..engine.run_folder import versions
    from ..finetune.model import ModelCard, save_model
    from ..finetune.volumes.weights import LAST, load_published

    name, model, _ = load_published(path, pool_ratio)
    weights = model.state_dict()
    labels = _named(labels, next(len(weights[key]) for key in LAST if key in weights), path)
    recipe = recipe_of(name) if recipe_of is not None else None
    if recipe is None:
        raise UserError(f"{path}: the network {name}; no task says how clips are shown to it.")
    card = ModelCard(
        labels=labels, meaning=_meaning(labels), exclusive=False, mode="full", network=name,
        pool="mean" if pool_ratio is None else "topk", pool_ratio=1.0 if pool_ratio is None else pool_ratio,
        arch=recipe.model.architecture(), mean=recipe.data.mean, std=recipe.data.std, view=recipe.view,
        cache_px=recipe.data.cache_px, clip=recipe.data.clip, recipe={"weights": str(path)}, versions=versions(),
    )  # fmt: skip
    return save_model(out, model, card)


def _named(labels: Sequence[str] | None, classes: int, path: Path) -> tuple[str, ...]:
    if labels is None or len(labels) != classes:
        given = "none" if labels is None else len(labels)
        raise UserError(f"{path}: has {classes} output(s), --labels names {given}: name them in their order, a,b,c.")
    return tuple(labels)


def _meaning(labels: Sequence[str]) -> dict[str, str]:
    return {label: f"1 = {label} present" for label in labels}


def _model_folder(path: Path) -> str:
    from ..mil.cards import load_any_card

    return f"a model folder: {load_any_card(path).description()}"


def _size(model) -> str:
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters"
