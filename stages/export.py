"""The verb `export`: model and encoder folders into the files of other libraries, tried before they are kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ..backbone.encoder import EncoderCard, open_vit
from ..backbone.export.hugging_face import clip_config, hugging_face_state, image_config, preprocessor
from ..backbone.export.timm import NAME, batch_norm_into, timm_arguments, timm_state
from ..backbone.vit import ViT
from ..compress.idle import merge_idle
from ..core.errors import UserError
from ..core.files import write_json, written_aside
from ..datasets.manifest.seen import CHOSEN_ON, PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes
from ..finetune.adaptation import FROZEN
from ..finetune.feature_limit import RECORD, Limit
from ..finetune.model import ModelCard, load_model
from ..finetune.out_of_distribution import read_limit, write_limit
from ..finetune.timm_network import PARTS, native_size
from ..mil.cards import load_any_card, load_any_model
from ..mil.model import MilCard
from .exported import AGGREGATION, FACTS, GRAPH, graph_facts, preprocessing_facts
from .exported_limit import write_limits
from .facts import model_facts
from .units import image_card


def export_stage(
    folder: Path,
    to: str | None,
    out: Path,
    *,
    int8: bool = False,
    data: Path | None = None,
    merge: bool = False,
    scheme: Any = None,
) -> list[str]:
    """Write a model or an encoder folder for another library; gives what is worth saying.

    Idle units (`finetune --idle`) are always merged in graphs.

    Args:
        folder: Model or encoder folder; it is only read.
        to: `timm`, `huggingface`, `onnx`, `torch` (`torch.export`), or `card`: a README.md from the folder's own facts.
            With `merge` also None: a folder of ours.
        out: Folder to write.
        int8: With `onnx`, also a graph with int8 weights for CPUs.
        data: With `int8`, a manifest: the AUROC of both graphs on its validation cases is compared.
        merge: Merge idle units, and refuse a network that has none.
        scheme: With `int8`, how (`quantised.Scheme`); None for weights in int8 and ranges found anew for each input.

    Raises:
        UserError: The other library has no such model, the export does not give what the model gives, or `out` is the
            folder itself.
    """
    out = Path(out)
    if out.resolve() == Path(folder).resolve() and to != "card":
        raise UserError(f"--out {out}: the folder that is exported; name another.")
    if to != "onnx" and int8:
        raise UserError("--int8 belongs to --to onnx.")
    if data is not None and not int8:
        raise UserError("--data belongs to --int8: it is for what the int8 graph loses.")
    if to is None and not merge:
        raise UserError("--to is missing: timm, huggingface, onnx, torch or card (or --merge, for a folder of ours).")
    network, card = open_folder(Path(folder))
    if merge and not has_idle(card):
        raise UserError(f"{folder}: no idle units to merge: `clinvit finetune --idle 0.75` trains a model with some.")
    if to is None:
        return write_merged(Path(folder), network, card, out)
    if to == "card":
        from .model_card import write_model_card

        return [f"card: {write_model_card(Path(folder), card, out)}"]
    if int8:
        from .quantised import Scheme, write_quantised

        scheme = scheme or Scheme()
        scheme.check(card, data)
    limit = read_limit(folder, card, network) if to == "onnx" and isinstance(card, ModelCard) else None
    network, said = network.cpu().eval(), []
    if has_idle(card) and to in ("onnx", "torch"):
        network, card = merge_idle(network, card)
        said = ["idle units are merged: the same scores by fewer matmuls"]
    out.mkdir(parents=True, exist_ok=True)
    if to == "timm":
        said += _timm(network, card, out)
    elif to == "huggingface":
        said += _hugging_face(network, card, out)
    else:
        said += _graph(network, card, to, out, limit is not None)
    write_json(out / FACTS, facts(Path(folder), card))
    if to in ("timm", "huggingface") and getattr(card, "targets", ()):
        said.append(f"outputs are raw; {out / FACTS} says how each target follows: {card.summary()}")
    limits: dict[str, Limit | str] = {} if limit is None else {GRAPH: limit}
    if int8:
        lines, own = write_quantised(network, _of_images(card), out, data, scheme, limit)
        said, limits = said + lines, limits | own
    written = facts(Path(folder), card) | {"graphs": graph_facts(out)}
    if limit is not None:
        written[RECORD] |= write_limits(out, limits)
        reasons = {name: each for name, each in limits.items() if isinstance(each, str)}
        said += [f"{out / name}: flags no case as out of distribution: {each}" for name, each in reasons.items()]
    elif "rate" in written.get(RECORD, {}):
        written[RECORD] = {"none": f"an export of a {card.kind} model to {to} leaves the limit out"}
        said.append("no case is flagged as out of distribution by this export; `clinvit predict` with the folder does")
    write_json(out / FACTS, written)
    if isinstance(card, ModelCard) and card.clip.roi != "none":
        said.append(
            f"clips are cropped to their region of interest (data.clip.roi {card.clip.roi}) before the network sees "
            "them: `predict --runtime onnx` and `clinvit-runtime` do so, other programs must"
        )
    if units := written.get(AGGREGATION):
        said.append(
            f"scores are of single {card.unit}s; thresholds and calibration are for a {units['unit']}, by the rule in "
            f"{out / FACTS}, which `predict --runtime onnx` and `clinvit-runtime` follow"
        )
    return said


def _of_images(card: Any) -> Any:
    """Return the card as graphs are compared by it: image by image."""
    return image_card(card) if getattr(card, "aggregation", {}) else card


def has_idle(card: ModelCard | MilCard | EncoderCard) -> bool:
    """Return whether a network has idle units that are not merged."""
    return not isinstance(card, MilCard) and bool(card.arch.block_active)


def write_merged(folder: Path, network: nn.Module, card: ModelCard | EncoderCard, out: Path) -> list[str]:
    """Write a folder like another one, its network with merged idle units; gives what is worth saying.

    Raises:
        UserError: There is something at `out` already.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: there is something already; name a new folder.")
    small, own = merge_idle(network.cpu().eval(), card)
    limit = read_limit(folder, card, network) if isinstance(card, ModelCard) else None
    own.save(out, small)
    if limit is not None:
        write_limit(out, limit, out / own.weights_file)  # it gives the same features, too
    for name in (TRAINED_ON, CHOSEN_ON, PRETRAINED_ON):
        save_hashes(out / name, read_hashes(folder / name))
    before, after = (sum(part.numel() for part in each.parameters()) for each in (network, small))
    return [f"{out}: idle units merged, {after:,} parameters instead of {before:,}; it gives the same scores"]


def open_folder(folder: Path) -> tuple[nn.Module, ModelCard | MilCard | EncoderCard]:
    """The network of a model or encoder folder, and its card; a model of units has a rule for them beside its graph."""
    if (folder / "encoder.json").is_file() or folder.is_file():
        return open_vit(folder)
    if load_any_card(folder).kind == ModelCard.kind:
        return load_model(folder, units=True)
    return load_any_model(folder)


def facts(folder: Path, card: ModelCard | MilCard | EncoderCard) -> dict[str, Any]:
    """What must go with the weights: input, normalisation, and of a model labels, thresholds and calibration."""
    said = card.input_facts() | (model_facts(folder, card) if card.kind != "encoder" else {})
    if units := getattr(card, "aggregation", {}):
        said |= {AGGREGATION: dict(units), "of": card.unit}
    return said | ({"preprocessing": preprocessing_facts(card)} if card.kind == ModelCard.kind else {})


def output_names(card: ModelCard) -> list[str]:
    """Return a name for each output of the network."""
    if not card.targets:
        return list(card.labels)
    return [f"{each.name}_{i}" if each.width > 1 else each.name for each in card.kinds for i in range(each.width)]


def _timm(network: nn.Module, card: ModelCard | MilCard | EncoderCard, out: Path) -> list[str]:
    state, arguments = _for_timm(network, card)
    name = arguments.pop("name", NAME)
    _save(state, out / "model.safetensors")
    words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    call = f'timm.create_model("{name}", checkpoint_path="{out / "model.safetensors"}", {words})'
    write_json(out / "timm.json", {"name": name, "arguments": arguments})
    _try_timm(network, card, name, arguments, out / "model.safetensors")
    return [f"timm: {out / 'model.safetensors'}", call]


def _for_timm(network: nn.Module, card) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if card.kind == "encoder":
        pool = "class" if card.arch.class_token else "mean"
        return timm_state(network.state_dict(), card.arch), timm_arguments(card.arch, pool)
    if card.kind == "mil" or (card.network != "vit" and card.unit == "clip") or card.mode == "knn":
        raise UserError("timm has networks of images with a linear layer only: export to onnx or torch.")
    if card.network != "vit":
        if card.mode in FROZEN:
            raise UserError(f"timm's {card.network} has its own last layer, no probe's: export to onnx or torch.")
        arguments = {"name": card.network, "num_classes": card.outputs, "in_chans": card.arch.channels}
        if PARTS.keys() & {value for value in card.settings.values() if isinstance(value, str)}:
            raise UserError(f"{card.network} was made with layers that no text names: export to onnx or torch.")
        own = native_size(card.network)
        size = {"img_size": card.arch.image_size} if own not in (None, card.arch.image_size) else {}
        tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in card.settings.items()}
        return _plain(network.network.state_dict()), arguments | tuples | size
    if card.pool == "attention" or len(card.scales) > 1 or not card.plain_head:
        what = "pooling" if card.plain_head else "head"
        raise UserError(f"timm has no such {what}: export to onnx or torch.")
    state = timm_state(network.encoder.state_dict(), card.arch)
    head = {key: value.detach().cpu() for key, value in network.head.state_dict().items()}
    if isinstance(network.fc_norm, nn.BatchNorm1d):
        head = batch_norm_into(head, network.fc_norm.state_dict(), network.fc_norm.eps)
    after = isinstance(network.fc_norm, nn.LayerNorm)
    if after:
        state |= _plain(network.fc_norm.state_dict(), "fc_norm.")
    return state | _plain(head, "head."), timm_arguments(card.arch, card.pool, after, card.outputs)


def _try_timm(network: nn.Module, card, name: str, arguments: dict, file: Path) -> None:
    import timm

    theirs = timm.create_model(name, checkpoint_path=str(file), **arguments).eval()
    x = torch.randn(2, card.arch.channels, *card.arch.image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if isinstance(network, ViT):
            own = network(x)
            wanted = own.patches.mean(dim=1) if own.cls is None else own.cls
        else:
            wanted = network(x)
        difference = float((wanted - theirs(x)).abs().max())
    _refuse_difference(file, difference)


def _hugging_face(network: nn.Module, card, out: Path) -> list[str]:
    if card.kind != "encoder" and card.network != "vit":
        raise UserError("transformers gets ViTs only: export to onnx or torch.")
    if card.kind != "encoder" and not card.plain_head:
        raise UserError("transformers has no such head: export to onnx or torch.")
    arch, clips = card.arch, card.arch.frames > 1
    head = {}
    if card.kind == "encoder":
        vit, prefix = network, ""
        config = clip_config(arch, False) if clips else image_config(arch, "vit_mae")
        if not isinstance(vit.norm, nn.LayerNorm):
            raise UserError("the encoder has no final norm, which transformers' models have: export to onnx or torch.")
    else:
        vit, head, config, prefix = _hugging_face_classifier(network, card, clips)
        names = output_names(card)
        config["id2label"] = dict(enumerate(names))
        config["label2id"] = {label: place for place, label in enumerate(names)}
        config["problem_type"] = "single_label_classification" if card.exclusive else "multi_label_classification"
        if card.targets:
            config["problem_type"] = "regression"
    state = hugging_face_state(vit.state_dict(), arch, prefix) | head
    write_json(out / "config.json", config)
    write_json(out / "preprocessor_config.json", preprocessor(arch, card.mean, card.std, config["model_type"]))
    _save(state, out / "model.safetensors")
    (name,) = config["architectures"]
    return [f"Hugging Face: {out}", f'transformers.{name}.from_pretrained("{out}")']


def _hugging_face_classifier(network: nn.Module, card: ModelCard, clips: bool) -> tuple[ViT, dict, dict, str]:
    """The ViT, the head's tensors under their names, config.json and the prefix of the ViT's names."""
    head = _plain(network.head.state_dict(), "classifier.") if hasattr(network, "head") else {}
    after = isinstance(getattr(network, "fc_norm", None), nn.LayerNorm)
    if clips and card.pool == "mean" and after:
        head |= _plain(network.fc_norm.state_dict(), "fc_norm.")
        return network.encoder, head, clip_config(card.arch, True), "videomae."
    if not clips and card.pool == "class" and not isinstance(network.fc_norm, nn.BatchNorm1d):
        return network.encoder, head, image_config(card.arch, "vit"), "vit."
    raise UserError(
        "transformers classifies images by the class token (--pool class) and clips by the mean of their tokens, "
        f"fine-tuned; this model has mode {card.mode}, pool {card.pool}: export to timm, onnx or torch."
    )


def _graph(network: nn.Module, card, to: str, out: Path, watched: bool) -> list[str]:
    from .graphs import GRAPHS, image_graph, write_onnx, write_program

    graph = image_graph(network, card, watched) if watched else GRAPHS[card.kind](network, card)
    file, write = (out / "model.onnx", write_onnx) if to == "onnx" else (out / "model.pt2", write_program)
    with written_aside(file) as aside:
        difference = write(graph, aside)
    inputs, *outputs = graph.names
    return [f"{file}: {inputs} -> {', '.join(outputs)}; differs by {difference:.1g} at most from the network"]


def _plain(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _save(state: dict[str, Tensor], file: Path) -> None:
    with written_aside(file) as aside:
        safetensors.torch.save_file(state, aside, metadata={"format": "pt"})


def _refuse_difference(file: Path, difference: float) -> None:
    if not difference <= 1e-4:
        file.unlink()
        raise UserError(f"{file}: gives other values than the model (by {difference:.2g}); it was not kept.")
