"""`clinvit evaluate`: the report of one or more predictions tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..stages.unit_options import add_units, unit_rule
from .options import CUT_OFF
from .parser import Parser
from .values import columns, named_path, prevalence

SUMMARY = "write the report of one or more predictions tables"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("predictions", nargs="+", metavar="[NAME=]PREDICTIONS", help="predictions.csv or run folders")
    parser.add_argument(
        "--folds", action="store_true",
        help="tables of one NAME are the folds of one cross-validation: their rows of the split are judged together, "
        "and their maps",
    )  # fmt: skip
    add_evaluation(parser)
    parser.add_argument("--title", default="Evaluation", help="heading of the report")


def run(options) -> None:
    """Evaluate the tables and write the report."""
    report(options, options.predictions, options.title)


def add_evaluation(parser: Parser) -> None:
    """Add the options that say how tables are evaluated."""
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: %(default)s)")
    parser.add_argument("--split", default="test", help="split to evaluate (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, help="the manifest, for subgroups, boxes and the images of the most wrong cases"
    )
    add_units(
        parser, "evaluate studies, patients or cases, not single images; the table or --data says which images belong "
        "together",
    )  # fmt: skip
    parser.add_argument(
        "--subgroups", metavar="COLUMNS",
        help="columns of the manifest, separated by commas, or none (default: sex, age, view, scanner and site, where "
        "there)",
    )  # fmt: skip
    parser.add_argument("--threshold", action="append", default=[], metavar="RULE", help=CUT_OFF)
    parser.add_argument(
        "--exclusive", dest="kind", action="store_const", const="exclusive", advanced=True,
        help="the labels are exclusive classes, whatever their scores add up to",
    )  # fmt: skip
    parser.add_argument(
        "--multi-label", dest="kind", action="store_const", const="multi-label", advanced=True,
        help="each label is a finding of its own, whatever their scores add up to",
    )  # fmt: skip
    parser.add_argument(
        "--prevalence", metavar="P",
        help="give predictive values at this prevalence too: 0.02, or by label, Mass=0.02,Edema=0.1",
    )  # fmt: skip
    parser.add_argument(
        "--readers", type=Path, metavar="READS.csv",
        help="ratings of readers beside the model: id, reader, a column per label, and modality (unaided, aided)",
    )  # fmt: skip
    parser.add_argument(
        "--facts", type=Path, metavar="FACTS.yaml",
        help="what only the authors know, for the checklists: intended_use, dates, reference_standard, annotators, ...",
    )  # fmt: skip
    parser.add_argument(
        "--triage", metavar="PROMISE",
        help="two thresholds, chosen on val, between which a reader decides: ppv=0.9,npv=0.99 hold with a probability "
        "of 0.95, or of 1 - delta with ,delta=0.1",
    )  # fmt: skip
    parser.add_argument(
        "--sets", type=float, metavar="COVERAGE",
        help="a set of labels for each case (conformal), calibrated on val to hold the truth for this share of the "
        "cases: 0.9",
    )  # fmt: skip
    parser.add_argument(
        "--sites", metavar="COLUMN", advanced=True,
        help="column of the manifest that names the sites (default: site, hospital or centre, where there)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="COLUMN",
        help="column of the manifest that says how many patients a case stands for; metrics of that population are "
        "reported too",
    )  # fmt: skip
    parser.add_argument(
        "--resamples", type=int, default=2000, advanced=True, help="of the bootstrap by patient (default: 2000)"
    )
    parser.add_argument(
        "--interval", choices=["percentile", "bca"], default="percentile", advanced=True,
        help="of the bootstrap: percentile, or bias-corrected and accelerated; intervals that are no percentiles stay "
        "as they are (default: percentile)",
    )  # fmt: skip
    parser.add_argument(
        "--stratify", action="store_true", advanced=True,
        help="resamples keep the numbers of patients with and without a finding",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, advanced=True, help="of the bootstrap")


def report(options, named: Sequence[str], title: str) -> None:
    """Write the report of named tables and print its headline."""
    predictions = _named(named, getattr(options, "folds", False))
    paths = [path for own in predictions.values() for path in ([own] if isinstance(own, Path) else own)]
    print(f"{options.verb}: split {options.split} of {', '.join(map(str, paths))} -> {options.out}")
    from ..eval import Evaluation
    from ..eval.statistics.rules import read_rules
    from ..eval.statistics.triage import read_promise
    from ..stages.evaluate import evaluate_stage

    evaluation = Evaluation(
        split=options.split, rule=read_rules(options.threshold), prevalence=prevalence(options.prevalence),
        resamples=options.resamples, seed=options.seed, interval=options.interval, stratify=options.stratify,
        subgroups=columns(options.subgroups),
        kind=options.kind, margin=_margin(options),
        matched=getattr(options, "matched", None),
        triage=None if options.triage is None else read_promise(options.triage), coverage=options.sets,
        sites=options.sites, weights=options.weights, unit=options.unit, unit_rule=unit_rule(options),
    )  # fmt: skip
    title = title or ", ".join(predictions)
    found = evaluate_stage(
        predictions,
        options.out,
        data=options.data,
        evaluation=evaluation,
        title=title,
        readers=options.readers,
        facts=options.facts,
    )
    print(*found.headline, *(f"warning: {text}" for text in _warnings(found.to_dict())), sep="\n")
    print(f"report: {found.path}")


def _named(named: Sequence[str], folds: bool) -> "dict[str, Path | list[Path]]":
    """Return tables by name; of folds, a list where several have one name.

    Raises:
        UserError: Two have one name, and they are no folds; or none has, and they are to be folds.
    """
    found: dict[str, list[Path]] = {}
    for name, path in map(named_path, named):
        own = found.setdefault(name, [])
        if own and not folds:
            raise UserError(
                f"{own[0]} and {path} are both called {name!r}: name them, NAME=PATH. Tables of the folds of one "
                "cross-validation have one name: --folds puts them together."
            )
        own.append(path)
    if folds and all(len(own) == 1 for own in found.values()):
        raise UserError("--folds: no two tables have one name: give those of a model's folds as NAME=PATH NAME=PATH.")
    return {name: own if len(own) > 1 else own[0] for name, own in found.items()}


def _margin(options):
    """Return the question that is put to two models; None where none is."""
    from ..eval.statistics.questions import QUESTIONS, Margin

    asked = {name: getattr(options, name.replace("-", "_"), None) for name in QUESTIONS}
    asked = {name: margin for name, margin in asked.items() if margin is not None}
    metric = getattr(options, "margin_of", None)
    if len(asked) > 1:
        raise UserError("--non-inferiority and --equivalence are two questions: put one.")
    if not asked:
        if metric:
            raise UserError("--margin-of needs --non-inferiority MARGIN or --equivalence MARGIN.")
        return None
    ((question, margin),) = asked.items()
    return Margin(question, margin, metric or "auroc")


def _warnings(content: dict) -> list[str]:
    """Return what a reader must know of the tables: names put together, doubtful kinds of labels, cases seen before."""
    notes = [note for model in content["models"] for note in model["notes"]]
    return [*dict.fromkeys(notes), *content["seen"]["warnings"]]
