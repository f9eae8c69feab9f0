"""`clinvit merge`: models that several hospitals fine-tuned from one encoder become one, without their data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..stages.merge import METHODS
from .options import THRESHOLD
from .parser import Parser

SUMMARY = "make one model of several that were fine-tuned from one encoder"
BASE, MERGED, OWN = "base", "merged", "own"
ALPHA = 0.5
LEAKS = (
    "note: no data left a hospital, but weights do: a model can tell things about the cases that it was trained on. "
    "Hand it out as you would hand out the data."
)


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "words", nargs="+", metavar="base=ENCODER [NAME=]MODEL [NAME=]MODEL",
        help="the encoder that all started from, and model folders (or run folders) in the order of merging; with "
        "--verify merged=MODEL own=MODEL [verdict.json of other sites]",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="run folder to write; the model is in its `model`")
    parser.add_argument(
        "--method", choices=METHODS,
        help=f"how the encoders are merged: orthogonal is OPCM, the others are its baselines (default: {METHODS[0]})",
    )  # fmt: skip
    parser.add_argument(
        "--alpha",
        type=float,
        help=f"of orthogonal: share of what is merged that the next model leaves alone (default: {ALPHA:g})",
    )
    parser.add_argument(
        "--verify", action="store_true",
        help="in a hospital: hold the merged model against the own one on the split val, paired; write a copy that is "
        "calibrated there and whose card holds the verdict",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="of --verify: the hospital's manifest.csv, or its folder")
    parser.add_argument(
        "--non-inferiority",
        type=float,
        metavar="MARGIN",
        help="of --verify: ask whether the mean AUROC is not worse by more than this, such as 0.05",
    )
    parser.add_argument(
        "--calibrate", choices=["platt", "intercept", "temperature"],
        help="of --verify: as `clinvit recalibrate --method` (default: platt; temperature where classes exclude each "
        "other)",
    )  # fmt: skip
    parser.add_argument("--threshold", help=f"of --verify: {THRESHOLD}")


def run(options) -> None:
    """Merge the models, or verify a merged one."""
    if options.verify:
        _verify(options)
        return
    for name in ("data", "non_inferiority", "calibrate", "threshold"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} belongs to --verify: leave it out.")
    from ..stages.merge import merge_stage

    models = _folders(options.words)
    if BASE not in models:
        raise UserError("name the encoder that all models started from: base=ENCODER.")
    base = models.pop(BASE)
    alpha = ALPHA if options.alpha is None else options.alpha
    card = merge_stage(base, models, options.out, options.method or METHODS[0], alpha)
    method = card.merge["method"]
    print(f"merged {', '.join(models)} by {method}: {options.out / 'model'}, labels {', '.join(card.labels)}")
    if shared := card.merge["shared_cases"]:
        print(f"note: {shared:,} training cases are in several models: they count as often.")
    print("note: thresholds and calibration are left out: `clinvit merge --verify` fits them in each hospital.")
    print(LEAKS)


def _folders(words: Sequence[str]) -> dict[str, Path]:
    """Return folders by name; a model without one has the name of its run folder."""
    found: dict[str, Path] = {}
    for word in words:
        before, sign, after = word.partition("=")
        path = Path(after if sign else word)
        folder = path / "model" if (path / "model").is_dir() else path
        own = folder.resolve()
        name = before if sign else (own.parent if own.name == "model" else own).name
        if name in found:
            raise UserError(f"{name} names two folders: NAME=FOLDER gives each its own name.")
        found[name] = folder
    return found


def _verify(options) -> None:
    """Verify a merged model in a hospital, or collect verdicts."""
    from ..stages.site_verdict import verdict_lines, verify_stage

    if options.method is not None or options.alpha is not None:
        raise UserError("--method and --alpha are for merging, not for --verify: leave them out.")
    folders = _folders([word for word in options.words if "=" in word])
    verdicts = [Path(word) for word in options.words if "=" not in word]
    if MERGED not in folders or folders.keys() - {MERGED, OWN} or (OWN not in folders and not verdicts):
        raise UserError("--verify takes merged=MODEL own=MODEL --data MANIFEST, or merged=MODEL and verdict.json files")
    if (OWN in folders) != (options.data is not None):
        raise UserError("a hospital gives its own model and its cases: own=MODEL --data MANIFEST.")
    if OWN not in folders and (options.non_inferiority, options.calibrate, options.threshold) != (None, None, None):
        raise UserError("verdicts are collected as they are: leave --non-inferiority, --calibrate and --threshold out.")
    found = verify_stage(
        folders[MERGED], options.out, folders.get(OWN), options.data, verdicts, method=options.calibrate,
        rule=options.threshold or "youden", margin=options.non_inferiority,
    )  # fmt: skip
    for verdict in found.values():
        for line in verdict_lines(verdict):
            print(line)
    print(f"model: {options.out / 'model'}")
    if OWN in folders:
        print(f"{options.out / 'verdict.json'} holds numbers alone and may be sent back; the CSVs name cases.")
