"""`clinvit contract`: what a deployed model is for, its bounds and its rollback rule, in one file beside it."""

from pathlib import Path
from typing import Any

from .parser import Parser
from .values import named_path

SUMMARY = "write the contract of a model that is deployed: inputs, thresholds, bounds of drift, rollback rule"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="model folder (or run folder)")
    parser.add_argument(
        "--predictions", required=True, help="its predictions.csv (or run folder) of the reference cases, with truth"
    )
    parser.add_argument("--out", type=Path, help="file to write (default: contract.yaml beside the model folder)")
    parser.add_argument("--split", default="val", help="of the reference cases (default: %(default)s)")
    parser.add_argument(
        "--alpha", type=float, default=0.05,
        help="largest chance that an unchanged model is ever said to be out of bounds (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--notice", type=float, default=0.1,
        help="change of a rate that must not stay unseen: until it is ruled out, there are too few cases "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--rollback", default="the way of working before the model", metavar="TEXT",
        help="what is used once the model is rolled back (default: %(default)s)",
    )  # fmt: skip


def run(options) -> None:
    """Write the contract, and print what is watched and what is not."""
    from ..stages.contract import contract_stage

    model = options.model / "model" if (options.model / "model").is_dir() else options.model
    out = options.out or model.parent / "contract.yaml"
    predictions = named_path(options.predictions)[1]
    print(f"contract: {model} by {predictions} -> {out}")
    contract = contract_stage(model, predictions, out, options.split, options.alpha, options.notice, options.rollback)
    reference = contract.reference
    print(
        f"{out}: {len(contract.quantities)} quantities, bounds from {reference['cases']:,} cases of "
        f"{reference['patients']:,} patients (split {reference['split']}), model {contract.model[:12]}..."
    )
    if contract.not_watched:
        print("note: not watched:", "; ".join(f"{name} ({why})" for name, why in contract.not_watched.items()))
    if any((chosen or {}).get("split") == reference["split"] for chosen in contract.thresholds.values()):
        print(
            f"note: thresholds were chosen on the split {reference['split']} too, so that sensitivity and specificity "
            "there are a little too good: --split names cases that chose nothing."
        )
