"""The stage `zero-shot`: an encoder that was trained on images and reports, and prompts, to a model without labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.alone import folder_alone
from ..core.documents import read_yaml
from ..core.errors import UserError

if TYPE_CHECKING:
    from ..backbone.report_heads import ReportHeads
    from ..backbone.text import TextEncoder
    from ..finetune.model import ModelCard
    from ..finetune.prompts import Prompts

_KEYS = ("present", "absent")


def zero_shot_stage(
    encoder: Path, text_encoder: Path, out: Path, labels: Sequence[str] = (), prompts: Path | None = None,
    exclusive: bool = False,
) -> "ModelCard":  # fmt: skip
    """Write `out/model`, whose head is made of prompts; it needs no text encoder any more. Return its card.

    Its scores are uncalibrated, and no threshold was chosen: `clinvit recalibrate` and `clinvit evaluate` do both on
    validation cases.

    Args:
        encoder: Folder of an encoder that was trained on reports.
        text_encoder: The text encoder that it was trained with.
        out: Run folder to write.
        labels: What is asked, by prompts such as `pneumonia` and `no pneumonia`.
        prompts: A YAML file with prompts of one's own instead, by label.
        exclusive: Labels are classes that exclude each other.

    Raises:
        UserError: No label or prompt is given, the text encoder is another, or the encoder was trained without reports.
    """
    from ..backbone.encoder import fingerprint, open_vit
    from ..backbone.report_heads import load_heads
    from ..backbone.text import TextEncoder
    from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes
    from ..engine.run_folder import versions
    from ..finetune.model import ModelCard, build_model, save_model
    from ..finetune.prompts import PromptHead, default_prompts, stored_prompts
    from ..finetune.recipe import View

    asked = _read(prompts, exclusive) if prompts is not None else default_prompts(tuple(labels), exclusive)
    if not asked:
        raise UserError("name what is asked: --labels Pneumonia,Effusion, or --prompts FILE.")
    if exclusive and len(asked) < 2:
        raise UserError("classes that exclude each other are two or more.")
    heads, report = load_heads(encoder)
    vit, its = open_vit(encoder)
    text = TextEncoder(text_encoder, report.text_tokens, report.text_pool)
    if text.sha256 != report.text_sha256:
        raise UserError(f"{text_encoder}: another text encoder than {encoder} was trained with.")
    card = ModelCard(
        labels=tuple(asked), meaning={label: _meaning(each) for label, each in asked.items()}, exclusive=exclusive,
        mode="linear", network="vit", pool=report.pool, arch=its.arch, mean=its.mean, std=its.std,
        view=View("squash", None), cache_px=its.recipe.get("data", {}).get("cache_px", 2 * max(its.arch.image_size)),
        encoder=its.to_dict() | {"sha256": fingerprint(encoder)}, data={"fingerprint": "", "cases": {}},
        versions=versions(), prompts=stored_prompts(asked, report.embedding, report.text_sha256),
    )  # fmt: skip
    model = build_model(card)
    model.encoder.load_state_dict(vit.state_dict())
    assert isinstance(model.head, PromptHead)
    present = _directions(heads, text, [each.present for each in asked.values()])
    absent = None if exclusive else _directions(heads, text, [each.absent for each in asked.values()])
    model.head.ask(heads.image.weight, present, absent, heads.scale)
    with folder_alone(Path(out)):
        folder = save_model(Path(out) / "model", model, card)
        save_hashes(folder / PRETRAINED_ON, read_hashes(Path(encoder) / TRAINED_ON))
    return card


def _directions(heads: "ReportHeads", text: "TextEncoder", prompts: list[tuple[str, ...]]):
    """Return (L, E) of length 1: of each label the mean over its prompts."""
    import torch
    from torch.nn import functional as F

    with torch.no_grad():
        means = [heads.of_texts(torch.from_numpy(text.vectors(each))).mean(dim=0) for each in prompts]
        return F.normalize(torch.stack(means), dim=1)


def _read(path: Path, exclusive: bool) -> "dict[str, Prompts]":
    """Return the prompts of a YAML file: by label `present` and, but of classes, `absent`, lists of texts.

    Raises:
        UserError: It holds anything else.
    """
    from ..finetune.prompts import Prompts

    found = {}
    for label, given in read_yaml(path).items():
        if not isinstance(given, dict) or given.keys() - set(_KEYS):
            raise UserError(f"{path}: {label}: give `present` and `absent`, each a list of texts.")
        texts = [tuple(given.get(key) or ()) for key in _KEYS]
        if not all(isinstance(text, str) and text.strip() for each in texts for text in each):
            raise UserError(f"{path}: {label}: prompts are texts.")
        if not texts[0] or bool(texts[1]) == exclusive:
            wanted = "`present` alone, of a class" if exclusive else "`present` and `absent`"
            raise UserError(f"{path}: {label}: needs {wanted}.")
        found[str(label)] = Prompts(*texts)
    return found


def _meaning(prompts: "Prompts") -> str:
    """Return what 1 means, in words."""
    words = " / ".join(prompts.present)
    return f"more like {words!r} than like {' / '.join(prompts.absent)!r}" if prompts.absent else f"like {words!r}"
