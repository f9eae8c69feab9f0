"""Fine-tuning from a manifest, with an encoder or from scratch, to a model folder and predictions."""

import sys
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from ..backbone.encoder import EncoderCard, fingerprint, load_encoder
from ..backbone.sizes import Architecture, Model
from ..core.errors import DataError, UserError
from ..core.pixels import normalised
from ..datasets.loading.cache import Files
from ..datasets.loading.left_out import say_left_out, write_left_out
from ..datasets.loading.loaders import Cases, View, eval_loader
from ..datasets.loading.own import OwnPixels, Transformed
from ..datasets.loading.readers import Reader, make_reader
from ..datasets.loading.shards.pixels import Shards
from ..datasets.loading.source import Place, Source, open_files
from ..datasets.manifest.contents import holds_of
from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes, seen_cases, write_hashes
from ..datasets.manifest.tables import Manifest, write_predictions
from ..datasets.settings import for_channels
from ..datasets.transforms.views import TrainView
from ..engine.hooks import Hooks
from ..engine.recipe import plain
from ..engine.run_folder import rank, run_folder, versions
from ..engine.trainer import fit
from .adaptation import adapt, check_mode, check_numbers, merge_lora
from .classifier import NearestNeighbours, TimmClassifier
from .context_training import ContextTraining
from .contexts import context_rows, context_words, contexts_of
from .idle import LOOKED_AT, activation_changes, idle_architecture, make_idle, put_active_first, without_idle
from .model import OWN, ModelCard, best_device, build_model, check_network, load_model, save_model
from .out_of_distribution import MOST_CASES, RECORD, Limit, fit_limit, last_layer, why_none, with_features, write_limit
from .pipeline import Predictor, collected, manifest_cases, predicted, score_width
from .predict import CachedPredictor, PixelPredictor, cached_predictor, model_predictor, scores_of
from .recipe import LOSSES, Finetune
from .sphere_training import SphereTraining
from .start_head import StartHead, take_over
from .starting_targets import answers, check_targets, completed, say_targets
from .starts import NetworkStart, find_start
from .timm_encoder import TimmEncoder
from .timm_network import check_name
from .timm_weights import load_network
from .training import BEST, SELECT, FineTuning

if TYPE_CHECKING:
    from .distil import Distillation

NO_HOOKS = Hooks()


def finetune(
    recipe: Finetune,
    manifest: Manifest,
    out: Path,
    cache: Place,
    encoder: Path | None = None,
    hooks: Hooks = NO_HOOKS,
    head: StartHead | None = None,
    teaching: "Distillation | None" = None,
) -> Path:
    """Fine-tune and write `out/model/` and `out/predictions.csv` (validation and test).

    Args:
        recipe: The resolved recipe.
        manifest: The cases.
        out: The run folder. A run that was interrupted there goes on.
        cache: Folder where decoded images and clips are kept, shards of them, or items of one's own.
        encoder: An encoder folder or a checkpoint file (of another network than a ViT: a checkpoint of that network);
            None starts from scratch.
        hooks: Own parts; an own network goes with the recipe's network `own`.
        head: Which classes of the encoder checkpoint's head the labels are; None to learn a new head.
        teaching: Teachers to learn from beside the labels.

    Returns:
        The model folder.
    """
    start = _start_of(recipe, encoder) if encoder is not None else None
    if isinstance(start, NetworkStart):
        recipe, said = for_network(recipe, start)
        if said and rank() == 0:
            print(f"encoder {encoder}: {said}")
    hashes = encoder_hashes(encoder)
    seen = seen_by_split(manifest, hashes)
    if recipe.data.labels is not None:
        manifest = manifest.with_labels(recipe.data.labels)
    check_targets(recipe, manifest, taught=teaching is not None)
    check_labels(recipe, manifest, teaching.labels() if teaching is not None else ())
    if (more := [split for split in recipe.data.splits if split != "train"]) and rank() == 0:
        print(f"note: {' and '.join(more)} is trained on too: scores on it, and what is chosen on it, will be too good")
    card = make_card(recipe, manifest, start)
    if rank() == 0:
        say_targets(card)
        for line in context_words(card.contexts, card.labels) if card.contexts else ():
            print(line)
    if start is not None and rank() == 0:
        _say_statistics(recipe, start, card)
    card = replace(card, data=card.data | {"seen_in_pretraining": seen})
    inputs: dict[str, str | float] = {"data": manifest.fingerprint(), **hooks.inputs()}
    if teaching is not None:
        inputs |= teaching.inputs()
        train = manifest.rows(*recipe.data.splits).targets()
        card = replace(card, data=card.data | teaching.facts(train))
    if isinstance(start, NetworkStart):
        inputs["encoder"] = start.fingerprint()
    else:
        inputs["encoder"] = "" if encoder is None else fingerprint(encoder)
    if start is not None:
        card = replace(card, encoder=card.encoder | {"sha256": inputs["encoder"]})
    reader = reader_of(recipe, card)  # what it lacks is said before the run folder is claimed
    if isinstance(cache, Shards):
        inputs |= cache.inputs(reader)
        if rank() == 0:
            print(cache)
    torch.manual_seed(recipe.run.seed)
    try:
        model = hooks.network
        if model is None:
            plain_card = replace(card, arch=without_idle(card.arch)) if recipe.idle else card
            model = build_model(plain_card, recipe.model.drop_path, recipe.model.checkpoint_blocks, recipe.head_drop)
        if hooks.network is not None or (recipe.network != "vit" and recipe.model.frames == 1):
            check_network(model, card)
    except ValueError as error:
        raise UserError(str(error)) from None
    if encoder is not None:
        if isinstance(start, NetworkStart):
            report, taken = load_network(_of_timm(model), start.weights), ""
            card = replace(card, encoder=card.encoder | {"method": f"{start.method}: {report}"})
        else:
            report, taken = load_encoder(model.encoder, encoder), take_over(model, encoder, head)
        if rank() == 0:
            print(f"encoder {encoder}: {report}{f'; taken over: {taken}' if taken else ''}")
            for split, count in (seen or {}).items():
                if count and split not in recipe.data.splits:
                    cases = len(manifest.rows(split))
                    print(f"note: the encoder has seen {count:,} of the {cases:,} {split} cases, without their labels")
    if teaching is not None:
        teaching.teach(model, card)
    if recipe.idle:
        make_idle(model.encoder, card.arch)
    trained, total = adapt(model, recipe)
    card = replace(card, parameters={"trained": trained, "total": total})
    if rank() == 0 and recipe.mode != "knn":
        print(f"mode {recipe.mode}: {trained:,} of {total:,} parameters are trained ({trained / total:.2%})")
    if recipe.mode != "knn":
        cases = manifest.rows(*recipe.data.splits)
        recipe.optim.check_cases(int(_known(cases).sum()) if teaching is None else len(cases))
    with run_folder(out, recipe, inputs) as folder:
        source = _source(recipe, card, manifest, cache, unlabelled=teaching is not None)
        if rank() == 0 and (note := source.colour_note()):
            print(f"note: {note}")
        if rank() == 0 and (warning := source.rate_warning(recipe.data, recipe.model.frames)):
            print(f"warning: {warning}")
        if rank() == 0:
            say_left_out(source.bad, len(source.rows) + len(source.bad))
        data, unread = _Sets(recipe, card, source, hooks, teaching), {}
        if recipe.mode == "knn":
            unread = _remember(model, card, data)
            card = replace(card, reference_cases=len(data.still) - len(unread))
        else:
            model, unread = _train(model, recipe, card, data, folder, hooks, teaching)
            if any(each.loss == "cox" for each in card.kinds):
                card = completed(card, _outputs(model, card, data))
        if rank() == 0:
            source = data.source
            card = replace(card, data=card.data | write_left_out(folder, manifest, source.left_out(unread)))
            if teaching is not None:
                more = teaching.seen_before()
                hashes = None if hashes is None or more is None else hashes | more
            before = frozenset() if teaching is None else teaching.seen_labels()
            if before is None:
                save_hashes(folder / "model" / TRAINED_ON, None)
            else:
                read = [source.ids[row] for row in source.rows if row not in unread]
                write_hashes(folder / "model" / TRAINED_ON, read, before=before)
            save_hashes(folder / "model" / PRETRAINED_ON, hashes)
            save_model(folder / "model", model, card)
            model, card = load_model(folder / "model", hooks.network)
            limit = _limit(model, card, source, unread)
            facts = limit.facts() if isinstance(limit, Limit) else {"none": limit}
            card = replace(card, data=card.data | {RECORD: facts})
            if isinstance(limit, Limit):
                write_limit(folder / "model", limit, folder / "model" / card.weights_file)
            card.write(folder / "model")
            found = _predictions(model, card, source, limit if isinstance(limit, Limit) else None)
            write_predictions(folder / "predictions.csv", found)
    return out / "model"


def reader_of(recipe: Finetune, card: ModelCard) -> Reader:
    """Return what makes pixels of the files of a recipe."""
    return make_reader(
        recipe.data.clip, frames=card.arch.frames, size_px=card.arch.image_size[0], cache_px=recipe.data.cache_px,
        channels=card.arch.channels, least_px=card.least_px(),
    )  # fmt: skip


def _source(recipe: Finetune, card: ModelCard, manifest: Manifest, cache: Place, unlabelled: bool) -> Source:
    """Open all cases; those to train on are readable cases of the training splits.

    Unless the `unlabelled` teach, too, at least one label of them is known.
    """
    wanted = manifest.table["split"].isin(recipe.data.splits)
    rows = np.flatnonzero(wanted if unlabelled else wanted & _known(manifest))
    run = recipe.run
    source = open_files(
        manifest, cache, reader_of(recipe, card), recipe.data, workers=run.workers, max_bad=run.max_bad, rows=rows
    )  # fmt: skip
    if source.windowed and isinstance(cache, Shards):
        raise UserError(f"--cache-gb {cache.bound_gb:g}: fine-tuning takes shards only where all of them fit here.")
    return source


def _known(manifest: Manifest) -> np.ndarray:
    """Return of which cases at least one label is known."""
    return ~np.isnan(manifest.truth()).all(axis=1)


def _start_of(recipe: Finetune, encoder: Path) -> EncoderCard | NetworkStart:
    """Return what an encoder is (`find_start`)."""
    if recipe.network == OWN:
        raise UserError("encoder: a network of your own has its weights already; load them into it, and leave it out.")
    if recipe.network != "vit" and recipe.model.frames > 1:
        raise UserError(f"network {recipe.network!r} starts from scratch; leave --encoder out.")
    start = find_start(encoder, recipe.network, ours=True)
    if isinstance(start, NetworkStart) and recipe.model.frames > 1:
        raise UserError(f"{encoder}: {start.network} is of images; clips need an encoder that is a ViT of ours.")
    return start


def for_network(recipe: Finetune, start: NetworkStart) -> tuple[Finetune, str]:
    """Return the recipe with the network that it starts from, and what that changes, in words."""
    if recipe.network != "vit":
        return recipe, ""
    of_vit = [name for name in ("patch_drop", "head_drop") if getattr(recipe, name)]
    said = f"the network {start.network} of timm, {start.how}"
    said += f"; left out of the recipe, being for a ViT: {', '.join(of_vit)}" if of_vit else ""
    return replace(recipe, network=start.network, patch_drop=0.0, head_drop=0.0), said


def _of_timm(model: Any) -> TimmClassifier | TimmEncoder:
    """Return the part of a model that timm made."""
    return model if isinstance(model, TimmClassifier) else model.encoder


def encoder_hashes(encoder: Path | None) -> frozenset[str] | None:
    """Return hashes of what an encoder (or None) has seen; None where its folder does not say."""
    return frozenset() if encoder is None else read_hashes(Path(encoder) / TRAINED_ON)


def seen_by_split(manifest: Manifest, hashes: frozenset[str] | None) -> dict[str, int] | None:
    """Return how many cases of each split an encoder has seen (without labels); None where that is not known."""
    if hashes is None:
        return None
    own, _ = seen_cases(manifest.table, hashes)
    return {str(split): int(count) for split, count in pd.Series(own).groupby(manifest.table["split"]).sum().items()}


class _Sets:
    """The training and validation sets of a run: the cases of which at least one label is known."""

    def __init__(
        self, recipe: Finetune, card: ModelCard, source: Source, hooks: Hooks, teaching: "Distillation | None"
    ):
        manifest, max_bad = source.manifest, recipe.run.max_bad
        targets = manifest.truth().astype(np.float32)
        val, _ = source.readable(np.flatnonzero((manifest.table["split"] == "val") & _known(manifest)), 1.0)
        still = card.views().single()
        augment = replace(recipe.augment, size=recipe.augment.size * card.scales[-1])
        drawn: View = TrainView(augment, recipe.data.clip, card.arch.frames)
        if hooks.transform is not None:
            drawn = Transformed(drawn, hooks.transform, card.arch.channels, card.arch.frames)
        self.source = source
        if teaching is None:
            self.train = Cases(source.pixels, source.rows, drawn, targets, max_bad)
        else:
            self.train = teaching.dataset(source, drawn, targets, max_bad)
        self.still = Cases(source.pixels, source.rows, still, targets, max_bad)
        some = np.unique(np.linspace(0, len(source.rows) - 1, LOOKED_AT).astype(int)) if recipe.idle else []
        self.some = Cases(source.pixels, source.rows[some], still, max_bad=1.0)
        self.val = Cases(source.pixels, val, still, targets, max_bad=1.0)


def check_labels(recipe: Finetune, manifest: Manifest, taught: Collection[str] = ()) -> None:
    """Refuse what cannot be learned: no training case, no label, a label with one value only.

    Args:
        recipe: Of the training.
        manifest: With the labels that are learned.
        taught: Labels that teachers know, of which the cases need not tell anything.

    Raises:
        UserError: Says which and what to do.
    """
    if not manifest.asked:
        raise DataError(f"{manifest.path}: no label column: there is nothing to learn. Only pre-training needs none.")
    train = manifest.rows(*recipe.data.splits)
    if not len(train):
        raise DataError(f"{manifest.path}: no case in the splits {', '.join(recipe.data.splits)}: nothing to train on.")
    if recipe.select in SELECT and recipe.mode != "knn" and not len(manifest.rows("val")):
        raise DataError(
            f"{manifest.path}: no case in the split val, so no best epoch can be chosen. Give a tenth of the patients "
            "the split val, or take the last epoch with --select last."
        )
    values = train.targets()
    for label, column in zip(manifest.labels, values.T):
        known = column[~np.isnan(column)]
        if len(np.unique(known)) < 2 and label not in taught:
            what = f"is {known[0]:.0f} in all {len(known)} known" if len(known) else "is unknown in all"
            rest = [name for name in manifest.labels if name != label]
            raise DataError(
                f"{manifest.path}: label {label!r} {what} training cases: nothing to learn. Leave it out: "
                f"--data.labels '[{', '.join(rest[:3])}{', ...' if len(rest) > 3 else ''}]'"
            )
    if recipe.loss == "ce" and not np.all(np.isnan(values).any(1) | (np.nansum(values, 1) == 1)):
        raise DataError(f"{manifest.path}: loss `ce` needs exactly one 1 per case over {', '.join(manifest.labels)}.")


def make_card(recipe: Finetune, manifest: Manifest, start: EncoderCard | NetworkStart | None) -> ModelCard:
    """Return the card of the model to come.

    With an encoder its architecture is taken over, and its mean and std where it states them: the recipe's win over
    those that are only usual for its source.
    """
    check_mode(recipe, start is not None)
    if recipe.network not in ("vit", OWN) and recipe.model.frames == 1:
        try:
            check_name(recipe.network)
        except ValueError as error:
            raise UserError(f"{error}.") from None
    for name, known in (
        ("loss", LOSSES),
        ("select", ("best", "accuracy", "last")),
    ):
        if getattr(recipe, name) not in known:
            raise UserError(f"{name} is {' or '.join(known)}, not {getattr(recipe, name)!r}.")
    if recipe.label_smoothing and recipe.loss != "ce":
        raise UserError("label_smoothing is for exclusive classes (--loss ce).")
    if recipe.head_drop and (recipe.network != "vit" or recipe.mode == "knn"):
        raise UserError("head_drop is for training a ViT; the other networks have their own.")
    if recipe.patch_drop and (recipe.network != "vit" or recipe.mode == "knn"):
        raise UserError(f"patch_drop {recipe.patch_drop:g} is for training a ViT only: set it to 0.")
    if recipe.pool == "topk" and recipe.pool_ratio is None:
        raise UserError("pool topk needs the share of the time steps to keep: set --pool_ratio (0.3 in ERDES).")
    if recipe.pool != "topk" and recipe.pool_ratio is not None:
        raise UserError(f"pool_ratio {recipe.pool_ratio:g} is for pool topk, not {recipe.pool!r}: leave it out.")
    sampling = "images" if recipe.model.frames == 1 else recipe.data.clip.sampling
    if recipe.view.segments > 1 and sampling in ("images", "uniform", "volume"):
        what = "images" if sampling == "images" else f"data.clip.sampling {sampling}"
        raise UserError(f"view.segments {recipe.view.segments}: with {what} every view is the same: set it to 1.")
    if recipe.augment.size != recipe.model.image_size:
        raise UserError(
            f"augment.size {recipe.augment.size} and model.image_size {recipe.model.image_size} differ: set both."
        )
    try:
        arch = _input_of(recipe).architecture()
        if isinstance(start, EncoderCard):
            arch = _fitted(start.arch, arch)
    except ValueError as error:
        raise UserError(str(error)) from None
    arch = idle_architecture(arch, recipe)
    check_numbers(recipe, arch)
    seen = recipe.data if start is None or start.assumed_statistics else start
    mean, std = for_channels(seen.mean, arch.channels), for_channels(seen.std, arch.channels)
    data = {"fingerprint": manifest.fingerprint(), "cases": manifest.table["split"].value_counts().to_dict()}
    if holds := holds_of(manifest.path):
        data["holds"] = holds
    train = manifest.rows(*recipe.data.splits)
    card = ModelCard(
        **answers(recipe, manifest),
        mode=recipe.mode,
        network=recipe.network,
        pool=recipe.pool,
        arch=arch,
        mean=mean,
        std=std,
        view=recipe.view,
        scales=recipe.scales,
        cache_px=recipe.data.cache_px,
        clip=recipe.data.clip,
        pool_ratio=1.0 if recipe.pool_ratio is None else recipe.pool_ratio,
        reference_cases=len(train) if recipe.mode == "knn" else 0,
        neighbours=recipe.neighbours if recipe.mode == "knn" else 0,
        encoder=start.to_dict() if start is not None else {},
        recipe=plain(recipe),
        data=data,
        versions=versions(),
        settings=start.settings if isinstance(start, NetworkStart) else {},
        contexts=contexts_of(recipe, manifest),
        head_norm=recipe.head_norm,
    )
    if card.least_px() > card.cache_px:
        raise UserError(
            f"scales {list(card.scales)} read images at {card.least_px()} px, data.cache_px {card.cache_px} keeps "
            f"fewer: set --data.cache_px {card.least_px()}."
        )
    return card


def _input_of(recipe: Finetune) -> Model:
    """Return the recipe's model; of a network of timm its input alone counts, which no patches need divide."""
    model = recipe.model
    if recipe.network != "vit" and model.frames == 1 and model.image_size % model.patch_size:
        return replace(model, patch_size=model.image_size)
    return model


def _say_statistics(recipe: Finetune, start: EncoderCard | NetworkStart, card: ModelCard) -> None:
    """Print whose mean and std are used, where recipe and encoder differ."""
    own = tuple(for_channels(values, card.arch.channels) for values in (recipe.data.mean, recipe.data.std))
    its = tuple(for_channels(values, card.arch.channels) for values in (start.mean, start.std))
    if own == its:
        return
    if start.assumed_statistics:
        print(f"note: mean {own[0]} and std {own[1]} of the recipe; the encoder's file states none")
    else:
        print(f"note: mean {its[0]} and std {its[1]} of the encoder, as it was trained; the recipe's are left aside")


def _fitted(start: Architecture, own: Architecture) -> Architecture:
    """Return the encoder's architecture for the recipe's input; one of images is inflated for clips."""
    arch = replace(start, image_size=own.image_size, channels=own.channels)
    if start.frames == 1 and own.frames > 1:
        return replace(arch, frames=own.frames, tubelet=own.tubelet, positions=own.positions)
    return replace(arch, frames=own.frames)


def _train(
    model, recipe: Finetune, card: ModelCard, data: _Sets, folder: Path, hooks: Hooks, teaching: "Distillation | None"
):
    if recipe.idle_norm == "layer" and recipe.idle:
        _choose_active(model, card, data)
    if teaching is None:
        training = _training(card, data)(model, recipe, card, data.train, data.val, data.source.ids, folder, hooks.loss)
    else:
        training = teaching.training(model, card, data.train, data.val, data.source.ids, folder)
    with_val = len(data.val) > 0
    every = recipe.eval_every if with_val else None
    fit(training, recipe.optim, recipe.run, folder, "fine-tuning", every, hooks.callbacks)
    model = training.final_model.cpu()
    if recipe.select in SELECT and training.best_epoch > 0:
        model.load_state_dict(safetensors.torch.load_file(folder / BEST))
    if teaching is not None:
        teaching.leave(model)
    if recipe.mode == "lora":
        merge_lora(model)
    return model.eval(), training.unread


def _training(card: ModelCard, data: _Sets) -> Callable[..., FineTuning]:
    """Return what trains the head of a card."""
    if card.contexts:
        return partial(ContextTraining, context_rows(card.contexts, data.source.manifest.table))
    return SphereTraining if card.head_norm == "l2" else FineTuning


def _choose_active(model, card: ModelCard, data: _Sets) -> None:
    """Let those hidden units stay active that the activation changes most on some of the training cases."""
    device = best_device()
    vit = model.to(device).eval().encoder
    loader = eval_loader(data.some, 32, 0)
    changes = activation_changes(vit, (normalised(b["image"].to(device), card.mean, card.std) for b in loader))
    put_active_first(vit, changes)
    if rank() == 0:
        active, hidden = sum(card.arch.block_active), sum(map(len, changes))
        print(
            f"idle units: {hidden - active:,} of {hidden:,} become linear, chosen on {len(data.some):,} training cases"
        )
    model.cpu().train()


@torch.inference_mode()
def _remember(model: NearestNeighbours, card: ModelCard, data: _Sets) -> dict[int, str]:
    """Store the features of the training cases; return the rows that could not be read, with reasons."""
    device = best_device()
    model.to(device).eval()
    features, targets, unread = [], [], {}
    for batch in eval_loader(data.still, 64, 0):
        for row, reason in batch.get("unread", ()):
            print(f"warning: left out, for it cannot be read: {reason}", file=sys.stderr, flush=True)
            unread[row] = reason
        features.append(model.features(normalised(batch["image"].to(device), card.mean, card.std)))
        targets.append(batch["target"].to(device))
    model.remember(torch.cat(features), torch.cat(targets))
    return unread


def _outputs(model, card: ModelCard, data: _Sets) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield outputs and truth of the training cases, shown as the model is evaluated on them."""
    device = best_device()
    model.to(device).eval()
    for batch in eval_loader(data.still, 64, 0):
        yield model(normalised(batch["image"].to(device), card.mean, card.std)), batch["target"]
    model.cpu()


def _limit(model, card: ModelCard, source: Source, unread: Container[int]) -> Limit | str:
    """Return beyond which features a case is unlike the training cases; or why nothing says so."""
    layer = last_layer(model)
    if layer is None:
        return "no features of one vector per case: a k-NN, a network of volumes, or one of your own"
    manifest = source.manifest
    rows = np.array([row for row in source.rows if row not in unread], dtype=int)
    if len(rows) > MOST_CASES:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_CASES, replace=False))
    val = np.flatnonzero(manifest.table["split"] == "val")
    if few := why_none(len(rows), manifest.table["patient"].iloc[val].nunique()):
        return few
    values = with_features(scores_of(model, card), layer)
    known = [_values(model, card, source, part, values, layer.in_features) for part in (rows, val)]
    return fit_limit(known[0], known[1], manifest.table["patient"].iloc[val])


def _values(model, card: ModelCard, source: Source, rows: np.ndarray, values, features: int) -> np.ndarray:
    """Return the (n, D) features of some rows of the manifest, NaN where a case failed."""
    width = score_width(card) + features
    predictor: Predictor
    if isinstance(source.pixels, Files):
        predictor = PixelPredictor(card, values, next(model.parameters()).device, width=width)
    else:
        predictor = CachedPredictor(model, card, source.pixels, rows, values_of=values, width=width)
    cases, _ = manifest_cases(source.manifest, card.asked)
    return collected(predictor.scores(cases.iloc[rows]), len(rows), width)[0][:, score_width(card) :]


def _predictions(model, card: ModelCard, source: Source, limit: Limit | None):
    manifest, pixels = source.manifest, source.pixels
    as_files = isinstance(pixels, Files)
    rows = np.flatnonzero(manifest.table["split"].isin(["val", "test"]))
    if as_files:
        predictor = model_predictor(model, card, limit=limit)
    else:
        predictor = cached_predictor(model, card, pixels, rows, limit)
    cases, truth = manifest_cases(manifest.rows("val", "test"), card.asked)
    if isinstance(pixels, OwnPixels):  # no files, whose names would have to stay in the manifest
        cases = cases.drop(columns="shown")
    return predicted(cases, truth, predictor, progress=as_files)
