"""`clinvit audit`: what an encoder, a model or an archive gives away of patients and sites, before it is released."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .parser import Parser

SUMMARY = "before a release: are patients found again, is membership told, does it see the hospital"
MOST_NAMED = 20


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("source", metavar="MODEL", help="model or encoder folder, checkpoint or public name")
    parser.add_argument("data", type=Path, metavar="ARCHIVE", help="manifest.csv, or its folder")
    parser.add_argument(
        "--out", type=Path, required=True,
        help="folder to write: audit.html and audit.json (numbers alone), candidates.csv and burned_text.csv (single "
        "cases: stay in the house)",
    )  # fmt: skip
    parser.add_argument("--labels", help="findings for the robustness index, separated by commas (default: all)")
    parser.add_argument(
        "--alarm", type=Path, metavar="FILE", advanced=True,
        help="of a model: also write a patient alarm for `clinvit predict --alarm`, with vectors of every image under "
        "hashes: it stays in the hospital",
    )  # fmt: skip
    parser.add_argument(
        "--alarm-rate", type=float, default=0.05, advanced=True,
        help="share of right claims that the alarm flags at most, by patients of the split val (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--sign", type=Path, metavar="PEM", help="private key: sign page and numbers, as `clinvit sign`"
    )
    parser.add_argument(
        "--reident", choices=("head", "last_blocks", "full"), default="head",
        help="what learns to link a patient's images: a head on features as they are, with it the last blocks, or the "
        "whole encoder, the stronger attack and slower (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--reident-blocks", type=int, default=2, advanced=True, help="of last_blocks (default: %(default)s)"
    )
    parser.add_argument(
        "--reident-epochs", type=int, default=30, advanced=True,
        help="of the encoder, a pair of images of each patient an epoch (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--reident-rate", type=float, default=1e-4, advanced=True, help="learning rate of the encoder (default: 1e-4)"
    )
    parser.add_argument(
        "--text-images", type=int, default=200,
        help="images in which burned-in text is looked for at most, drawn at random; needs clinvit[ocr] (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, advanced=True, help="of folds, heads and resamples")


def run(options) -> None:
    """Write the page, and print its sentences."""
    from ..eval.report.audit_page import sentences
    from ..finetune.reidentify_encoder import Tuning
    from ..stages.data import open_manifest
    from ..stages.release import BURNED, CANDIDATES, PAGE, audit_stage, sign_page

    if options.text_images < 0:
        raise UserError(f"--text-images is 0 or more, not {options.text_images}.")
    tuning = Tuning(options.reident, options.reident_blocks, options.reident_epochs, options.reident_rate)
    labels = tuple(name.strip() for name in (options.labels or "").split(",") if name.strip())
    manifest = open_manifest(options.data, labels or None)
    print(f"audit: {options.source}, {len(manifest):,} cases of {manifest.path} -> {options.out}", flush=True)
    found = audit_stage(
        options.source,
        manifest,
        options.out,
        labels,
        options.seed,
        tuning,
        options.text_images,
        options.alarm,
        options.alarm_rate,
    )
    for sentence in sentences(found):
        print(sentence)
    named = found.text.named()
    for sentence in named[:MOST_NAMED]:
        print(f"text: {sentence}")
    if len(named) > MOST_NAMED:
        print(f"text: {len(named) - MOST_NAMED:,} more in {options.out / BURNED}")
    for sentence in found.alarm:
        print(sentence)
    for note in found.notes:
        print(f"note: {note}")
    print(f"{options.out / PAGE}; {CANDIDATES} and {BURNED} beside it are about single cases: they stay in the house.")
    if options.sign is not None:
        print(f"signature: {sign_page(options.out, options.sign)}")
