"""A model card in Markdown from a folder's own facts (Mitchell et al. 2019): data, recipe, metrics, limits."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..core.documents import read_json
from ..core.errors import printable
from ..core.files import write_text

LIMITS = (
    "For research; no medical device. The metrics hold for the cases named here and say nothing about other hospitals, "
    "devices or patients: evaluate on your own before any use (`clinvit predict`, `clinvit evaluate`)."
)


def write_model_card(folder: Path, card, out: Path) -> Path:
    """Write `out/README.md`; metrics come from `report.json` beside the folder or in a folder `report` there."""
    write_text(Path(out) / "README.md", card_text(folder, card, folder.resolve().name, folder.resolve().name))
    return Path(out) / "README.md"


def card_text(folder: Path, card, name: str, source: str) -> str:
    """Return the card of a folder, with the metrics of its report if there is one; see `model_card`."""
    report = next((path for path in _reports(folder) if path.is_file()), None)
    return model_card(name, card, read_json(report) if report else None, source)


def model_card(name: str, card, metrics: Mapping[str, Any] | None, source: str) -> str:
    """Return the card's text, with the front matter that Hugging Face's hub reads.

    Args:
        name: The model's name.
        card: The card of a classifier, an aggregator or an encoder.
        metrics: What `report.json` holds, if there is one.
        source: What `clinvit.load` takes.
    """
    parts = [*_front_matter(card), f"# {markdown(name)}", "", markdown(card.summary()), "", f"> {LIMITS}", ""]
    parts += ["## How to use it", "", "```python", *_usage(card, source), "```", ""]
    if card.kind != "encoder":
        head = "| label | 1 means | threshold | how | chosen on |"
        rows = [_label_row(card, label) for label in card.labels]
        if card.targets:
            head = "| target | what it is | columns |"
            rows = [
                f"| {' | '.join(map(markdown, (each.name, each.words(), ', '.join(each.columns))))} |"
                for each in card.kinds
            ]
        parts += ["## What it answers", "", head, "|---" * (head.count("|") - 1) + "|", *rows]
        parts += ["", f"Calibration: {markdown(_calibration(card))}.", ""]
    parts += ["## Metrics", "", *_metrics(metrics), ""]
    parts += _block("Data", card.data)
    if made := getattr(card, "compression", None):
        parts += _block("How it was made smaller", made)
    if made := getattr(card, "merge", None):
        parts += _block("How it was merged, and what sites found", made)
    if start := getattr(card, "encoder", None):
        parts += _block("Encoder that it started from", {key: start[key] for key in start if key != "recipe"})
    return "\n".join([*parts, *_block("Recipe", card.recipe), *_block("Versions", card.versions)])


def _front_matter(card) -> list[str]:
    """Return what the hub sorts models by; a licence is the authors' to state."""
    pipeline = "image-feature-extraction" if card.kind == "encoder" else "image-classification"
    if card.kind == "model" and card.unit == "clip":
        pipeline = "video-classification"
    tags = ["clinvit", "medical-imaging", "vision-transformer"]
    facts = {"library_name": "clinvit", "pipeline_tag": pipeline, "tags": tags}
    return ["---", yaml.safe_dump(facts, sort_keys=False).rstrip(), "---", ""]


def _usage(card, source: str) -> list[str]:
    """Return lines of Python that use it."""
    lines = ["import clinvit", "", f"model = clinvit.load({json.dumps(source)})"]
    case = "features/slide.h5" if card.kind == "mil" else "case.mp4" if card.arch.frames > 1 else "case.png"
    if card.kind == "encoder":
        return [*lines, f'print(model.features(["{case}"]).values)']
    return [*lines, f'print(model.predict(["{case}"]))']


def _block(title: str, values: Mapping[str, Any]) -> list[str]:
    text = yaml.safe_dump(json.loads(json.dumps(dict(values))), sort_keys=False, allow_unicode=True)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)  # a text in it must not end the block
    return [f"## {title}", "", f"{fence}yaml", text.rstrip() if values else "# not recorded", fence, ""]


def markdown(text: object) -> str:
    """Return any text so that Markdown shows it as it is, in one line: no link, no image, no HTML."""
    return re.sub(r"([\\`*_\[\]<>#|!~&])", r"\\\1", " ".join(printable(text).split()))


def _label_row(card, label: str) -> str:
    chosen = card.thresholds.get(label) or {}
    value = chosen.get("value")
    cut = f"{value:.3g}" if value is not None else f"none ({chosen.get('reason', 'not chosen')})"
    cells = [label, card.meaning.get(label, "present"), cut, chosen.get("how", ""), chosen.get("split", "")]
    return f"| {' | '.join(map(markdown, cells))} |"


def _calibration(card) -> str:
    methods = sorted({each["method"] for each in card.calibration.values()} - {"none"})
    return f"{', '.join(methods)}, fitted on validation" if methods else "none; scores are as the network gives them"


def _metrics(metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["Not evaluated here: no `report.json` beside this folder."]
    rows = ["| label | AUROC | 95 % interval | positive / n |", "|---|---|---|---|"]
    for label in metrics["models"][0]["labels"]:
        auroc = label["metrics"]["auroc"]
        value = "–" if auroc["value"] is None else f"{auroc['value']:.3f}"
        between = "–" if auroc["low"] is None else f"{auroc['low']:.3f} to {auroc['high']:.3f}"
        rows.append(f"| {markdown(label['label'])} | {value} | {between} | {label['positives']} / {label['n']} |")
    return [
        *map(markdown, metrics["headline"]),
        "",
        f"Split {markdown(metrics['split'])}; bootstrap by patient.",
        "",
        *rows,
    ]


def _reports(folder: Path) -> list[Path]:
    return [where / "report.json" for where in (folder, folder / "report", folder.parent, folder.parent / "report")]
