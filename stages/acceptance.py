"""The stage `acceptance`: predictions held against a target that a hospital locked before it looked."""

import datetime
from pathlib import Path

from ..core.alone import folder_alone
from ..core.errors import UserError
from ..core.files import write_json, write_text
from ..datasets.manifest.tables import Predictions, read_predictions
from .data import open_manifest
from .evaluate import manifest_of_rows, stored_thresholds


def acceptance_stage(path: Path, predictions: Path, out: Path, data: Path | None = None) -> dict:
    """Write `acceptance.html` and `acceptance.json`; return what the latter holds.

    Args:
        path: The target file; its lock is looked for beside it.
        predictions: The table.
        out: Folder to write into.
        data: Manifest or its folder, where the target names subgroups.

    Raises:
        UserError: The target is wrong or was changed after it had been locked, or does not fit the predictions.
    """
    from ..eval.inputs import held_against
    from ..eval.report.acceptance_page import acceptance_json, acceptance_page
    from ..eval.statistics.acceptance import acceptance
    from ..eval.statistics.groups import manifest_columns
    from ..eval.target import read_lock, read_target

    target = read_target(path)
    lock = read_lock(path, target)
    table = read_predictions(predictions)
    threshold, source = _threshold(table, predictions, target)
    manifest = None if data is None else manifest_of_rows(open_manifest(data), predictions, table)
    columns = None if manifest is None else manifest_columns(manifest)
    table = table if manifest is None else held_against(table, manifest, target.split)
    warnings = [*_lock_warnings(path, lock, predictions), *table.notes]
    with folder_alone(Path(out)):
        found = acceptance(table, target, threshold, source, columns)
        content = acceptance_json(found, target, lock, warnings, predictions.name)
        write_json(Path(out) / "acceptance.json", content)
        write_text(Path(out) / "acceptance.html", acceptance_page(found, target, lock, warnings, predictions.name))
    return content


def _threshold(table: Predictions, predictions: Path, target) -> tuple[float, str]:
    """Return the threshold that the target names, and where it comes from.

    Raises:
        UserError: There is none.
    """
    from ..eval.statistics.acceptance import finding
    from ..eval.statistics.operating_points import GIVEN, OperatingPoint, choose
    from ..eval.statistics.rules import parse_rule
    from ..eval.target import STORED

    label = finding(table, target)
    if target.threshold == STORED:
        value = stored_thresholds(predictions).get(label, {}).get("value")
        if value is None:
            raise UserError(
                f"{predictions}: no threshold for {label!r} stands with the model: write `threshold: 0.31`."
            )
        return float(value), OperatingPoint(value, GIVEN).source
    rule, val = str(target.threshold), table.rows("val").scored()
    if parse_rule(rule).kind != "fixed" and target.split == "val":
        raise UserError(
            f"the rule {rule!r} would choose on the cases that are judged: name a cut-off or another split."
        )
    place = table.labels.index(label)
    point = choose(val.truth()[:, [place]], val.scores()[:, [place]], rule)[0]
    if point.reason:
        raise UserError(f"{predictions}: the rule {rule!r} gives no threshold: {point.reason}. Name a cut-off.")
    return point.threshold, point.source


def _lock_warnings(path: Path, lock, predictions: Path) -> list[str]:
    """Say what the lock does not show."""
    if lock is None:
        return [
            "The target was not locked before the data were looked at, so that nothing shows that it was not fitted to "
            f"them. Next time: clinvit acceptance lock {path.name}"
        ]
    written = datetime.datetime.fromtimestamp(predictions.stat().st_mtime, datetime.UTC)
    if written < datetime.datetime.fromisoformat(lock.date):
        return [
            f"The predictions were written on {written.isoformat(timespec='seconds')}, before the target was locked on "
            f"{lock.date}: the lock does not show that nobody had looked at them."
        ]
    return []
