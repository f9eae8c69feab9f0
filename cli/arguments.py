"""The command line of `clinvit`: its verbs and their options."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..core.errors import UserError
from ..tasks import NAMES

SLIDE_TASKS = ("slides",)
THRESHOLD = (
    "rule for thresholds on validation: youden, sensitivity=0.9, specificity=0.9, cost=10:1 (a missed case against a "
    "false alarm; cost=10:1@0.02 at that prevalence), or 0.5 (default: youden)"
)
DESCRIPTION = """\
Pre-train one Vision Transformer on unlabelled clinical images, clips or slides, fine-tune it, and write a clinical
report. TASK is thorax (chest X-rays), slides (whole slides) or erdes (ocular ultrasound).

  clinvit demo                    the whole way on invented data, to see what it does
  clinvit check TASK DATA         look at a data set and the machine before anything runs
  clinvit prepare TASK ROOT       a data set as downloaded -> manifest.csv (and decoded images)
  clinvit tile slides ...         manifest.csv -> tile coordinates of every slide
  clinvit pretrain TASK ...       manifest.csv [+ tiles] -> encoder/
  clinvit extract slides ...      manifest.csv + tiles + encoder/ -> features of every slide
  clinvit finetune TASK ...       manifest.csv [+ encoder/ or features] -> model/, predictions.csv
  clinvit predict TASK ...        model/ + files -> predictions.csv
  clinvit evaluate PRED ...       predictions.csv -> report.html, report.json, metrics.csv
  clinvit compare A B             two or more models on the same cases
  clinvit reproduce TABLE ...     a table of the papers: measured beside printed
  clinvit bags TABLE              aggregators on a classical set of bags, cross-validated
  clinvit weights ...             what a checkpoint is; checkpoint -> encoder/
  clinvit export FOLDER ...       model/ or encoder/ -> timm, Hugging Face, ONNX, torch.export, model card
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and a hint."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser("clinvit", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"clinvit {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    demo = _verb(verbs, "demo", "the whole way on invented data: phantoms to report, offline, on 2 CPU cores")
    demo.add_argument("task", nargs="?", default="thorax", choices=[*NAMES, "all"])
    demo.add_argument("--out", type=Path, default=Path("clinvit-demo"), help="folder to write (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0)

    check = _verb(verbs, "check", "look at a data set and the machine before anything runs")
    _task(check)
    check.add_argument("data", type=Path, metavar="DATA", help="a manifest, its folder, or a data set as downloaded")
    _layout(check)
    check.add_argument("--labels", help="labels to check, separated by commas (default: all)")
    check.add_argument("--files", type=int, default=200, help="files to read, spread evenly; 0 for all (default: 200)")
    check.add_argument("--cache-px", type=int, default=256, help="cache size to estimate, pixels (default: 256)")
    check.add_argument(
        "--duplicates", type=Path, metavar="PAIRS",
        help="compare all files and write the pairs that show the same image to this CSV (a cache of --cache-px "
        "pixels beside the manifest makes it quick); without it, the files that are read are compared",
    )  # fmt: skip
    check.add_argument("--encoder", type=Path, help="encoder or model folder: which of the cases has it seen already?")
    check.add_argument("--recipe", help="also time its loading and its steps: which of the two is the bottleneck here?")

    prepare = _verb(verbs, "prepare", "make manifest.csv from a data set as downloaded")
    _task(prepare)
    prepare.add_argument("root", type=Path, metavar="ROOT", help="the data set's folder (or your own CSV)")
    prepare.add_argument("--out", type=Path, required=True, help="manifest to write, such as data/manifest.csv")
    _layout(prepare)
    prepare.add_argument(
        "--data-root", type=Path, action="append", default=[], metavar="FOLDER",
        help="files may lie below this folder too, not only below ROOT; may be repeated",
    )  # fmt: skip
    prepare.add_argument("--resplit", action="store_true", help="make new patient-grouped splits, 70/10/20 %%")
    prepare.add_argument("--seed", type=int, default=0, help="of the splits")
    prepare.add_argument("--cache-px", type=int, help="also decode all files now, at this shorter side in pixels")
    prepare.add_argument(
        "--channels", type=int, choices=(1, 3), default=1,
        help="with --cache-px: 1 decodes to grey, 3 to RGB, as the recipe's model.channels (default: 1)",
    )  # fmt: skip
    prepare.add_argument(
        "--shards", metavar="URL",
        help="also pack the decoded files into shards there, such as s3://bucket/folder; repeated, it goes on",
    )  # fmt: skip
    prepare.add_argument("--workers", type=int, default=-1, help="decoding processes (default: one per core)")

    tile = _verb(verbs, "tile", "find the tissue of slides and lay a grid of tiles over it", add_help=False)
    _recipe_verb(tile, "tile", SLIDE_TASKS, "standard", "folder of tile coordinates; repeating the command continues")

    pretrain = _verb(verbs, "pretrain", "pre-train an encoder on unlabelled images, clips or tiles", add_help=False)
    _recipe_verb(pretrain, "pretrain")
    _cache(pretrain)
    pretrain.add_argument("--tiles", type=Path, help="slides: folder of tile coordinates (`clinvit tile`)")
    _cost(pretrain)

    extract = _verb(verbs, "extract", "make features of all tiles of all slides", add_help=False)
    _recipe_verb(extract, "extract", SLIDE_TASKS, "standard", "folder of features; repeating the command continues")
    extract.add_argument("--tiles", type=Path, help="folder of tile coordinates (`clinvit tile`, CLAM or TRIDENT)")
    extract.add_argument("--encoder", help="encoder folder, checkpoint file, timm:NAME, or hf-hub:OWNER/NAME")

    finetune = _verb(verbs, "finetune", "train a classifier, from an encoder or from scratch", add_help=False)
    _recipe_verb(finetune, "finetune")
    _cache(finetune)
    finetune.add_argument("--features", type=Path, help="slides: folder of features (`clinvit extract`)")
    finetune.add_argument(
        "--encoder",
        type=Path,
        help="encoder folder, or a checkpoint of MAE, thorax-MAE, VideoMAE, DINO, timm; from scratch without",
    )
    _cost(finetune)
    finetune.add_argument("--threshold", default="youden", help=THRESHOLD)
    finetune.add_argument(
        "--calibrate", choices=["temperature", "platt"],
        help="scale the scores to probabilities on validation, and those of predict too; a finished run is calibrated "
        "by repeating its command with this",
    )  # fmt: skip

    predict = _verb(verbs, "predict", "predict files; a file that fails is a row with its reason")
    _task(predict)
    predict.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders, globs, or one manifest CSV")
    predict.add_argument("--model", type=Path, required=True, help="model folder")
    predict.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), help="table, .csv or .jsonl (default: %(default)s)"
    )
    predict.add_argument("--resume", action="store_true", help="go on where a killed prediction stopped")
    predict.add_argument("--batch", type=int, help="files per batch (default: 32)")
    predict.add_argument("--workers", type=int, help="reading processes (default: 1)")
    predict.add_argument(
        "--bf16", action="store_true",
        help="matmuls in bfloat16: quicker where the processor has them; scores differ by up to about 0.01",
    )  # fmt: skip
    predict.add_argument(
        "--identifiers", action="store_true",
        help="call DICOM files by their file names and patient numbers (default: hashes, and a key beside --out)",
    )  # fmt: skip
    predict.add_argument(
        "--explain", type=Path, metavar="FOLDER",
        help="also write where the model looked: maps of images, frames of clips, heat maps and pages of slides; as "
        "`explanations` beside --out, `evaluate` holds them against boxes and outlines",
    )  # fmt: skip
    predict.add_argument(
        "--explain-method", choices=["gradient", "attention"],
        help="of images: gradient-weighted attention, of a CNN Grad-CAM; or attention rollout (default: gradient)",
    )  # fmt: skip
    predict.add_argument(
        "--macula", type=Path, metavar="MODEL",
        help="erdes: second model of the cascade: --model tells detachment, this one the state of the macula",
    )  # fmt: skip

    predict.add_argument(
        "--features", type=Path, metavar="FOLDER", help="slides: features of the slides, or where to put them"
    )
    predict.add_argument("--encoder", help="slides: what makes the features that are missing, as for `extract`")
    predict.add_argument("--tiff", action="store_true", help="slides: with --explain, heat maps as pyramidal TIFF too")
    predict.add_argument(
        "--tile-geojson", action="store_true", help="slides: with --explain, every tile with its score for QuPath too"
    )
    predict.add_argument("--split", action="append", help="of a manifest, only this split; may be repeated")

    evaluate = _verb(verbs, "evaluate", "write the report of one or more predictions tables")
    _evaluation(evaluate)
    evaluate.add_argument("predictions", nargs="+", metavar="[NAME=]PREDICTIONS", help="predictions.csv or run folders")
    evaluate.add_argument("--title", default="Evaluation", help="heading of the report")

    compare = _verb(verbs, "compare", "compare two or more models on the same cases, paired")
    _evaluation(compare)
    compare.add_argument("a", metavar="[NAME=]A", help="predictions.csv or run folder; compared with each that follows")
    compare.add_argument("others", nargs="+", metavar="[NAME=]B", help="predictions.csv or run folders")

    bags = _verb(verbs, "bags", "cross-validate aggregators on a classical set of bags, such as MUSK")
    bags.add_argument("table", type=Path, metavar="TABLE", help="CSV (or .csv.gz) with one instance a line")
    bags.add_argument("--out", type=Path, required=True, help="folder; what is done there is not done again")
    bags.add_argument("--aggregators", help="names, separated by commas (default: all)")
    bags.add_argument("--label", default="0", help="column of the bag's label, name or place (default: %(default)s)")
    bags.add_argument("--bag", default="1", help="column of the bag's id, name or place (default: %(default)s)")
    bags.add_argument("--folds", type=int, default=10, help="default: %(default)s")
    bags.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    bags.add_argument("--seed", type=int, default=0)

    reproduce = _verb(verbs, "reproduce", "rebuild a table of the papers: measured, with interval, beside printed")
    reproduce.add_argument("table", nargs="?", metavar="TABLE", help="such as thorax/main; --list shows all")
    reproduce.add_argument("--list", action="store_true", help="every table and row, with the paper's values")
    reproduce.add_argument("--data", type=Path, help="manifest, its folder, or the data set as downloaded")
    reproduce.add_argument("--pretrain-data", type=Path, help="the same for pre-training (default: that of --data)")
    reproduce.add_argument("--rows", help="rows to run, separated by commas (default: all that can be run)")
    reproduce.add_argument(
        "--weights", action="append", default=[], metavar="ROW=PATH",
        help="an encoder (starts at fine-tuning) or a model (starts at prediction) for a row; may be repeated",
    )  # fmt: skip
    reproduce.add_argument("--download", action="store_true", help="rows that name timm weights may fetch them")
    reproduce.add_argument(
        "--phantoms", action="store_true", help="the same table small, on invented data; nothing is compared"
    )
    reproduce.add_argument(
        "--out", type=Path, default=Path("runs/reproduce"),
        help="folder; repeating the command continues (default: %(default)s)",
    )  # fmt: skip
    reproduce.add_argument("--resamples", type=int, default=2000, help="of the bootstrap by patient (default: 2000)")
    # Options that are left, such as --run.devices 2, change every recipe that knows them.
    reproduce.set_defaults(recipes=None)

    weights = _verb(verbs, "weights", "say what a checkpoint is, or make an encoder folder of it")
    weights.add_argument("action", choices=["inspect", "convert"])
    weights.add_argument(
        "file",
        help="checkpoint file, folder (ours, Hugging Face's), timm:NAME or hf-hub:OWNER/NAME; no code in it runs",
    )
    weights.add_argument("--out", type=Path, help="encoder (or model) folder to write (convert)")
    weights.add_argument("--labels", help="names of a model's outputs, a,b,c (convert of DSMIL, CLAM, ERDES baselines)")
    weights.add_argument("--pool-ratio", type=float, help="of an ERDES baseline with selective pooling (convert)")

    export = _verb(verbs, "export", "a model or an encoder for timm, Hugging Face, ONNX or torch.export; a model card")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="model or encoder folder; it is only read")
    export.add_argument(
        "--to", required=True, choices=["timm", "huggingface", "onnx", "torch", "card"],
        help="whom it is for; `card` writes a README.md of the folder's own facts",
    )  # fmt: skip
    export.add_argument("--out", type=Path, required=True, help="folder to write")
    export.add_argument("--int8", action="store_true", help="onnx: also a graph with int8 weights, for CPUs")
    export.add_argument("--data", type=Path, help="with --int8: manifest; what int8 loses on its validation cases")
    return parser


def _verb(verbs, name: str, text: str, **options) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False, **options)


def _task(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("task", choices=NAMES, help=f"one of: {', '.join(NAMES)}")


def _layout(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--layout", help="the data set's layout, where it is not recognised")
    verb.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the layout; may be repeated",
    )


def _recipe_verb(
    verb: argparse.ArgumentParser, recipes: str, tasks: Sequence[str] = NAMES, default: str = "tiny",
    out: str = "run folder; repeating the command continues there",
) -> None:  # fmt: skip
    verb.add_argument("task", nargs="?", help=f"one of: {', '.join(tasks)}")
    verb.add_argument("-h", "--help", action="store_true", help="show this, with every option of the recipe")
    verb.add_argument("--data", type=Path, help="manifest.csv or its folder")
    verb.add_argument("--out", type=Path, help=out)
    verb.add_argument("--recipe", default=default, help="named recipe to start from (default: %(default)s)")
    verb.add_argument("--config", type=Path, help="YAML file with changes to the recipe")
    verb.set_defaults(recipes=recipes, tasks=tasks, parser=verb)


def _cache(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--cache", type=lambda text: text if "://" in text else Path(text), metavar="FOLDER or URL",
        help="folder for decoded files, or the URL of shards made by `prepare` (default: pixel-cache, beside --out)",
    )  # fmt: skip
    verb.add_argument(
        "--cache-gb", type=float, default=50.0, help="of shards, what is kept on this machine, GB (default: 50)"
    )


def _cost(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--profile", action="store_true",
        help="also write trace.json.gz, a few steps operator by operator, into --out (ui.perfetto.dev opens it)",
    )  # fmt: skip
    verb.add_argument(
        "--estimate", action="store_true",
        help="only measure a few steps and tell FLOPs, time, memory, and the optim.accumulate that fits this machine",
    )  # fmt: skip
    verb.add_argument("--cases", type=int, help="with --estimate: cases per epoch (default: those of --data)")


def _evaluation(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: %(default)s)")
    verb.add_argument("--split", default="test", help="split to evaluate (default: %(default)s)")
    verb.add_argument(
        "--data", type=Path, help="manifest: who the cases are, subgroups, boxes, images of the most wrong cases"
    )
    verb.add_argument(
        "--subgroups", metavar="COLUMNS",
        help="columns of the manifest, separated by commas, or none (default: sex, age, view, scanner and site, where "
        "there)",
    )  # fmt: skip
    verb.add_argument("--threshold", default="youden", help=THRESHOLD)
    verb.add_argument(
        "--prevalence", metavar="P",
        help="give predictive values at this prevalence too: 0.02, or by label, Mass=0.02,Edema=0.1",
    )  # fmt: skip
    verb.add_argument("--resamples", type=int, default=2000, help="of the bootstrap by patient (default: 2000)")
    verb.add_argument(
        "--interval", choices=["percentile", "bca"], default="percentile",
        help="of the bootstrap: percentile, or bias-corrected and accelerated (default: percentile)",
    )  # fmt: skip
    verb.add_argument(
        "--stratify", action="store_true", help="resamples keep the numbers of patients with and without a finding"
    )
    verb.add_argument("--seed", type=int, default=0, help="of the bootstrap")
