"""`clinvit plan`: how many cases a study needs."""

from typing import Any

from ..core.errors import UserError
from .parser import Parser

SUMMARY = "say how many cases a study needs"
WHAT = ("sensitivity", "specificity", "auroc", "comparison", "validation")


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "what", choices=WHAT,
        help="what is to be known: a rate at the threshold, an AUROC, two AUROCs, or all of an external validation",
    )  # fmt: skip
    parser.add_argument("--expected", type=float, required=True, help="the value that is expected, such as 0.9")
    parser.add_argument("--prevalence", type=float, required=True, help="share of positive cases, such as 0.1")
    parser.add_argument(
        "--minimum", type=float, help="the least value that is to be shown (sensitivity, specificity, auroc)"
    )
    parser.add_argument("--width", type=float, help="or: of the 95 %% interval (sensitivity, specificity, auroc)")
    parser.add_argument("--other", type=float, help="AUROC of the other model (comparison)")
    parser.add_argument(
        "--margin", type=float, default=None, help="of non-inferiority to the other; without it better (comparison)"
    )
    parser.add_argument("--correlation", type=float, help="of both AUROCs (comparison; default: 0.5)")
    parser.add_argument(
        "--scores", metavar="DISTRIBUTION",
        help="expected: normal:MEAN,STD of logits or beta:A,B of scores (validation; default: as the AUROC says)",
    )  # fmt: skip
    parser.add_argument(
        "--widths", metavar="O/E,SLOPE,AUROC", help="of the 95 %% intervals (validation; default: 0.2,0.2,0.1)"
    )
    parser.add_argument("--confidence", type=float, help="of a one-sided bound (--minimum; default: 0.95)")
    parser.add_argument("--power", type=float, help="chance to show it (--minimum, comparison; default: 0.8)")
    parser.add_argument("--per-patient", type=float, default=1.0, help="mean cases per patient (default: 1)")
    parser.add_argument(
        "--within", type=float, help="correlation of the cases of one patient (with --per-patient; default: 0.5)"
    )


# Which of the options above belong to which question; others are refused, for they would be ignored.
_OWN = {
    "sensitivity": {"minimum", "width", "confidence", "power"},
    "specificity": {"minimum", "width", "confidence", "power"},
    "auroc": {"minimum", "width", "confidence", "power"},
    "comparison": {"other", "margin", "correlation", "power"},
    "validation": {"scores", "widths"},
}


def run(options) -> None:
    """Print the number of cases and what it rests on."""
    from ..eval.statistics.planning import check_shares

    _refuse_unused(options)
    names = ("expected", "prevalence", "minimum", "width", "other", "margin", "confidence", "power", "within")
    check_shares(**{name: getattr(options, name) for name in names})
    if options.per_patient < 1:
        raise UserError(f"--per-patient {options.per_patient:g}: at least one case of each.")
    print(*_answer(options), sep="\n")


def _refuse_unused(options) -> None:
    for name in sorted(set().union(*_OWN.values()) - _OWN[options.what]):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} is not for {options.what}: leave it out.")
    if options.within is not None and options.per_patient == 1:
        raise UserError("--within needs --per-patient: with one case of each patient it means nothing.")
    if "minimum" in _OWN[options.what] and (options.minimum is None) == (options.width is None):
        raise UserError(f"{options.what}: name --minimum to show one, or --width for a precise interval.")
    if options.width is not None:
        for name in ("confidence", "power"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} goes with --minimum, not with --width: leave it out.")


def _answer(options) -> list[str]:
    """Return the answer in lines."""
    return {"comparison": _comparison, "validation": _validation, "auroc": _auroc}.get(options.what, _rate)(options)


def _rate(options) -> list[str]:
    from ..eval.statistics.exact import cases_for_width, cases_to_show

    kind = "positive" if options.what == "sensitivity" else "negative"
    share = options.prevalence if kind == "positive" else 1 - options.prevalence
    confidence, power = options.confidence or 0.95, options.power or 0.8
    if options.width is not None:
        cases = cases_for_width(options.expected, options.width / 2)
        why = (
            f"for a 95 % interval (Wilson) no wider than {options.width:g} at a {options.what} of {options.expected:g}"
        )
    else:
        cases = cases_to_show(options.expected, options.minimum, confidence, power)
        why = (
            f"to show a {options.what} of at least {options.minimum:g} with an exact {100 * confidence:g} % bound, "
            f"{power:g} of the time, if it is {options.expected:g}"
        )
    if cases is None:
        raise UserError(f"no number of cases shows {options.minimum:g} where {options.expected:g} is expected.")
    return _lines(options, cases, f"{kind} cases", share, why)


def _auroc(options) -> list[str]:
    from ..eval.statistics.planning import cases_for_auroc, cases_for_auroc_width

    confidence, power = options.confidence or 0.95, options.power or 0.8
    if options.width is not None:
        cases = cases_for_auroc_width(options.expected, options.prevalence, options.width)
        why = f"for a 95 % interval no wider than {options.width:g} at an AUROC of {options.expected:g}"
    else:
        cases = cases_for_auroc(options.expected, options.minimum, options.prevalence, confidence, power)
        why = (
            f"to show an AUROC above {options.minimum:g} with a {100 * confidence:g} % bound, {power:g} of the time, "
            f"if it is {options.expected:g}"
        )
    if cases is None:
        raise UserError(f"no number of cases shows {options.minimum:g} where {options.expected:g} is expected.")
    return _lines(options, cases, "cases", 1.0, why)


def _comparison(options) -> list[str]:
    from ..eval.statistics.planning import cases_for_difference

    if options.other is None:
        raise UserError("comparison: name the AUROC that is expected of the other model, --other.")
    correlation = 0.5 if options.correlation is None else options.correlation
    if not -1 < correlation < 1:
        raise UserError(f"--correlation {correlation:g}: between -1 and 1, such as 0.5.")
    power, margin = options.power or 0.8, options.margin or 0.0
    cases = cases_for_difference(options.expected, options.other, correlation, options.prevalence, margin, power)
    asked = f"is not worse than the other by {margin:g}" if margin else "is better than the other"
    if cases is None:
        raise UserError(f"no number of cases shows that {options.expected:g} {asked}, {options.other:g}.")
    why = (
        f"scored by both models, to show that the first {asked} by the two-sided 95 % interval, {power:g} of the "
        f"time, if their AUROCs are {options.expected:g} and {options.other:g} with a correlation of {correlation:g}"
    )
    return _lines(options, cases, "cases", 1.0, why)


def _validation(options) -> list[str]:
    from ..eval.statistics.planning import validation_cases

    widths = _numbers("widths", options.widths or "0.2,0.2,0.1", 3)
    if min(widths) <= 0:
        raise UserError(f"--widths {options.widths}: above 0.")
    found = validation_cases(options.expected, options.prevalence, _logits(options), (widths[0], widths[1], widths[2]))
    named = {
        "observed / expected": found.observed_expected, "calibration slope": found.slope, "AUROC": found.auroc,
    }  # fmt: skip
    lines = [f"  {name}: {cases:,} cases for a 95 % interval no wider than {width:g}"
             for (name, cases), width in zip(named.items(), widths)]  # fmt: skip
    why = f"for an external validation at an AUROC of {options.expected:g} (Riley et al. 2021), the most of:"
    return [*_lines(options, found.cases, "cases", 1.0, why), *lines]


def _logits(options):
    from ..eval.statistics.planning import beta_logits, logits_of, normal_logits

    if options.scores is None:
        return logits_of(options.expected, options.prevalence)
    kind, _, text = options.scores.partition(":")
    if kind not in ("normal", "beta"):
        raise UserError(f"--scores {options.scores!r}: write normal:MEAN,STD or beta:A,B.")
    first, second = _numbers("scores", text, 2)
    if second <= 0 or (kind == "beta" and first <= 0):
        raise UserError(f"--scores {options.scores!r}: a standard deviation and both values of a beta are above 0.")
    return (normal_logits if kind == "normal" else beta_logits)(first, second)


def _numbers(option: str, text: str, count: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count:
        raise UserError(f"--{option} {text!r}: {count} numbers with commas between.")
    return found


def _lines(options, cases: int, what: str, share: float, why: str) -> list[str]:
    """Return the number, what it rests on, and what patients of several cases and the prevalence make of it."""
    from ..eval.statistics.planning import with_clusters

    within = 0.5 if options.within is None else options.within
    whole = with_clusters(cases, options.per_patient, within)
    lines = [f"{cases:,} {what} {why}"]
    if options.per_patient > 1:
        lines.append(
            f"{whole:,} {what}, of {-(-whole // options.per_patient):,.0f} patients, where each has "
            f"{options.per_patient:g} with a correlation of {within:g}"
        )
    every = -(-whole // share)
    if share < 1:
        lines.append(f"{every:,.0f} cases in all, at a prevalence of {100 * options.prevalence:g} %")
    lines.append(f"of these {every * options.prevalence:,.0f} positive; cases that will fail come on top")
    return lines
