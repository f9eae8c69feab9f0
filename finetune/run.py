"""Fine-tuning from a manifest, with an encoder or from scratch, to a model folder and predictions."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from ..backbone.encoder import EncoderCard, fingerprint, load_encoder
from ..backbone.idle import activation_changes, make_idle, put_active_first, without_idle
from ..core.errors import UserError
from ..core.pixels import normalised
from ..datasets.loading.left_out import say_left_out, write_left_out
from ..datasets.loading.loaders import eval_loader
from ..datasets.loading.regions import regions_note, roi_inputs, write_regions
from ..datasets.loading.shards.pixels import Shards
from ..datasets.loading.source import Place, Source
from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes, seen_cases, write_hashes
from ..datasets.manifest.tables import Manifest, write_predictions
from ..engine.hooks import Hooks
from ..engine.run_folder import rank, run_folder
from ..engine.trainer import fit
from .adaptation import adapt, merge_lora
from .after_training import feature_limit, own_predictions
from .classifier import NearestNeighbours, TimmClassifier
from .context_training import ContextTraining
from .contexts import context_rows, context_words
from .dense.run import Truth, check_dense, drawing_card, drawing_recipe
from .model import OWN, ModelCard, best_device, build_model, check_network, load_model, save_model
from .new_card import check_labels, make_card, roi_note, say_statistics
from .out_of_distribution import RECORD, Limit, write_limit
from .recipe import Finetune
from .sets import Sets, known_cases, open_source, reader_of
from .sphere_training import SphereTraining
from .start_head import StartHead, take_over
from .starting_targets import check_targets, completed, say_targets
from .starts import NetworkStart, find_start
from .timm_encoder import TimmEncoder
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
    drawn = None if recipe.target == "labels" else recipe.target
    if drawn is not None:
        recipe = _to_draw(recipe, manifest, hooks, teaching)
    check_labels(recipe, manifest, teaching.labels() if teaching is not None else manifest.labels if drawn else ())
    truth = None if drawn is None else Truth(recipe, manifest)
    if (more := [split for split in recipe.data.splits if split != "train"]) and rank() == 0:
        print(f"note: {' and '.join(more)} is trained on too: scores on it, and what is chosen on it, will be too good")
    card = make_card(recipe, manifest, start)
    if truth is not None:
        card = drawing_card(recipe, card)
    if rank() == 0:
        say_targets(card)
        for line in context_words(card.contexts, card.labels) if card.contexts else ():
            print(line)
        for line in () if truth is None else truth.words():
            print(line)
    if start is not None and rank() == 0:
        say_statistics(recipe, start, card)
        if note := roi_note(start, recipe.data.clip):
            print(f"note: {note}")
    card = replace(card, data=card.data | {"seen_in_pretraining": seen})
    inputs: dict[str, str | float] = {"data": manifest.fingerprint(), **hooks.inputs()}
    if teaching is not None:
        inputs |= teaching.inputs()
        train = manifest.rows(*recipe.data.splits).targets()
        card = replace(card, data=card.data | teaching.facts(train))
    if truth is not None:
        inputs |= truth.inputs()
    if isinstance(start, NetworkStart):
        inputs["encoder"] = start.fingerprint()
    else:
        inputs["encoder"] = "" if encoder is None else fingerprint(encoder)
    if start is not None:
        card = replace(card, encoder=card.encoder | {"sha256": inputs["encoder"]})
    reader = reader_of(recipe, card)  # what it lacks is said before the run folder is claimed
    inputs |= roi_inputs(reader, manifest)
    if isinstance(cache, Shards):
        inputs |= cache.inputs(reader)
        if rank() == 0:
            print(cache)
    model = _network(recipe, card, hooks)
    if encoder is not None:
        card, said = _started(model, card, start, encoder, head)
        if rank() == 0:
            print(f"encoder {encoder}: {said}")
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
        known = known_cases(manifest, truth)[manifest.table["split"].isin(recipe.data.splits)]
        recipe.optim.check_cases(int(known.sum()) if teaching is None else len(known))
    with run_folder(out, recipe, inputs) as folder:
        source = open_source(recipe, card, manifest, cache, truth, unlabelled=teaching is not None)
        if rank() == 0 and (note := source.colour_note()):
            print(f"note: {note}")
        if rank() == 0 and (warning := source.rate_warning(recipe.data, recipe.model.frames)):
            print(f"warning: {warning}")
        regions = source.regions() if rank() == 0 else []
        if note := regions_note(regions):
            print(f"note: {note}")
        if rank() == 0:
            say_left_out(source.bad, len(source.rows) + len(source.bad))
        data = Sets(recipe, card, source, hooks, teaching, truth)
        if recipe.mode == "knn":
            unread = _remember(model, card, data)
            card = replace(card, reference_cases=len(data.still) - len(unread))
        else:
            model, unread = _train(model, recipe, card, data, folder, hooks, teaching)
            if truth is not None:
                card = truth.with_thresholds(card, model, data.val)
            if any(each.loss == "cox" for each in card.kinds):
                card = completed(card, _outputs(model, card, data))
        if rank() == 0:
            card = replace(card, data=card.data | write_left_out(folder, manifest, data.source.left_out(unread)))
            card = replace(card, data=card.data | write_regions(folder, manifest, regions))
            _write_seen(folder / "model", data.source, unread, hashes, teaching)
            save_model(folder / "model", model, card)
            _write_predictions(folder, data.source, unread, hooks)
    return out / "model"


def _network(recipe: Finetune, card: ModelCard, hooks: Hooks) -> Any:
    """Return the network of a card, with its random start decided by the seed, or that of the hooks.

    Raises:
        UserError: It cannot be made so, or does not fit the input.
    """
    torch.manual_seed(recipe.run.seed)
    try:
        model: Any = hooks.network
        if model is None:
            plain_card = replace(card, arch=without_idle(card.arch)) if recipe.idle else card
            model = build_model(plain_card, recipe.model.drop_path, recipe.model.checkpoint_blocks, recipe.head_drop)
        if hooks.network is not None or (recipe.network != "vit" and recipe.model.frames == 1):
            check_network(model, card)
    except ValueError as error:
        raise UserError(str(error)) from None
    return model


def _started(
    model: Any, card: ModelCard, start: EncoderCard | NetworkStart | None, encoder: Path, head: StartHead | None
) -> tuple[ModelCard, str]:
    """Set the weights that a training starts from; return the card, and what was taken, in words."""
    if isinstance(start, NetworkStart):
        report = load_network(_of_timm(model), start.weights)
        return replace(card, encoder=card.encoder | {"method": f"{start.method}: {report}"}), str(report)
    report, taken = load_encoder(model.encoder, encoder), take_over(model, encoder, head)
    return card, f"{report}{f'; taken over: {taken}' if taken else ''}"


def _write_seen(
    folder: Path, source: Source, unread: Mapping[int, str], hashes: frozenset[str] | None,
    teaching: "Distillation | None",
) -> None:  # fmt: skip
    """Write the hashes of the cases whose labels a model has seen, and of those that its start has seen without."""
    if teaching is not None:
        more = teaching.seen_before()
        hashes = None if hashes is None or more is None else hashes | more
    before = frozenset() if teaching is None else teaching.seen_labels()
    if before is None:
        save_hashes(folder / TRAINED_ON, None)
    else:
        read = [source.ids[row] for row in source.rows if row not in unread]
        write_hashes(folder / TRAINED_ON, read, before=before)
    save_hashes(folder / PRETRAINED_ON, hashes)


def _write_predictions(folder: Path, source: Source, unread: Mapping[int, str], hooks: Hooks) -> None:
    """Write `predictions.csv` by the model as it was stored, and beside it where its features end."""
    place = folder / "model"
    model, card = load_model(place, hooks.network, dense=True)
    limit = feature_limit(model, card, source, unread)
    facts = limit.facts() if isinstance(limit, Limit) else {"none": limit}
    card = replace(card, data=card.data | {RECORD: facts})
    if isinstance(limit, Limit):
        write_limit(place, limit, place / card.weights_file)
    card.write(place)
    found = own_predictions(model, card, source, limit if isinstance(limit, Limit) else None)
    write_predictions(folder / "predictions.csv", found)


def _to_draw(recipe: Finetune, manifest: Manifest, hooks: Hooks, teaching: "Distillation | None") -> Finetune:
    """Return the recipe of a training that draws, and say what of it is left out.

    Raises:
        UserError: It cannot draw.
    """
    if teaching is not None or hooks.network is not None or hooks.loss is not None or hooks.transform is not None:
        raise UserError(
            f"--target {recipe.target} goes without teachers and without a network, loss or transform of "
            "your own: leave them out."
        )
    check_dense(recipe, manifest)
    recipe, changed = drawing_recipe(recipe)
    if changed and rank() == 0:
        print(f"left out of the recipe, being for labels and not for maps: {', '.join(changed)}")
    return recipe


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


def _train(
    model, recipe: Finetune, card: ModelCard, data: Sets, folder: Path, hooks: Hooks, teaching: "Distillation | None"
):
    if recipe.idle_norm == "layer" and recipe.idle:
        _choose_active(model, card, data)
    if data.truth is not None:
        training = data.truth.training(model, card, data.train, data.val, data.source.ids, folder)
    elif teaching is None:
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


def _training(card: ModelCard, data: Sets) -> Callable[..., FineTuning]:
    """Return what trains the head of a card."""
    if card.contexts:
        return partial(ContextTraining, context_rows(card.contexts, data.source.manifest.table))
    return SphereTraining if card.head_norm == "l2" else FineTuning


def _choose_active(model, card: ModelCard, data: Sets) -> None:
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
def _remember(model: NearestNeighbours, card: ModelCard, data: Sets) -> dict[int, str]:
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


def _outputs(model, card: ModelCard, data: Sets) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield outputs and truth of the training cases, shown as the model is evaluated on them."""
    device = best_device()
    model.to(device).eval()
    for batch in eval_loader(data.still, 64, 0):
        yield model(normalised(batch["image"].to(device), card.mean, card.std)), batch["target"]
    model.cpu()
