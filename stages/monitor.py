"""The stage `monitor`: months of predictions, in the order of time, held against a model's contract."""

from collections.abc import Sequence
from pathlib import Path

from ..core.alone import folder_alone
from ..core.files import write_json, write_text
from ..datasets.manifest.tables import read_predictions
from .contract import refuse_another


def monitor_stage(path: Path, predictions: Sequence[Path], out: Path) -> tuple[str, dict]:
    """Write `monitor.html` and `monitor.json`; return the verdict in one line and what the latter holds.

    Args:
        path: The contract.
        predictions: Tables in the order of time, with truth in their `y_` columns where it is known by now.
        out: Folder to write into.

    Raises:
        UserError: The contract was changed, or a table is empty, of another model or of other labels, or the tables are
            not in the order of time.
    """
    from ..eval.contract import read_contract
    from ..eval.months import in_order
    from ..eval.report.monitor_page import first_line, monitor_json, monitor_page
    from ..eval.statistics.drift import watch

    contract = read_contract(path)
    alike = len({each.name for each in predictions}) < len(predictions)
    names = [f"{each.parent.name}/{each.name}" if alike else each.name for each in predictions]
    tables, unknown = [], []
    for name, each in zip(names, predictions):
        tables.append(read_predictions(each))
        if not refuse_another(each, contract.model, contract.thresholds, contract.calibration):
            unknown.append(name)
    months = in_order(tables, contract)
    notes = [*months.notes]
    if unknown:
        notes.append(
            f"Nothing beside {', '.join(unknown)} says which model made it: keep the .model.json that `clinvit "
            "predict` writes with its table."
        )
    found = watch(
        contract.quantities, months.cases, contract.labels, months.times, months.tables, contract.alpha,
        contract.notice, contract.edges,
    )  # fmt: skip
    with folder_alone(out):
        content = monitor_json(found, contract, months, names, notes)
        write_json(out / "monitor.json", content)
        write_text(out / "monitor.html", monitor_page(found, contract, months, names, notes))
    return first_line(found, contract, months, names), content
