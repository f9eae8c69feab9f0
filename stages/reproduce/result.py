"""What became of a row, kept in `rows/<row>.json` beside the table, so that rows may be run one by one."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...core.documents import read_json
from ...core.errors import UserError
from ...core.files import write_json
from .cost import Cost
from .metrics import Measured, estimate, plain

REMEDY = "Remove it; the row is then open."
DONE, FAILED, NOT_RUN = "done", "failed", "not run"


@dataclass(frozen=True)
class RowResult:
    """One row's outcome.

    Attributes:
        name: The row's name.
        state: `done`, `failed` or `not run`.
        reason: Why it failed or was not run, one line.
        measured: Metrics, cases, patients.
        cost: Cost of its steps together; a step shared with another row counts in each.
        data: Fingerprint of the manifest; empty where no data set was needed.
        start: What it started from, where that is not the row's own pre-training.
        changes: Options that changed the recipes.
        left_out: Steps that were left out for want of data.
    """

    name: str
    state: str
    reason: str = ""
    measured: Measured = field(default_factory=lambda: Measured({}))
    cost: Cost = field(default_factory=Cost)
    data: str = ""
    start: str = ""
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def save_result(folder: Path, result: RowResult) -> None:
    """Write `rows/<row>.json`."""
    fields = asdict(result)
    fields["measured"]["metrics"] = {key: plain(value) for key, value in result.measured.metrics.items()}
    write_json(folder / "rows" / f"{result.name}.json", fields)


def load_result(folder: Path, name: str, data: str) -> RowResult:
    """Return what an earlier command stored for this row on the same data; `not run` where there is nothing."""
    path = folder / "rows" / f"{name}.json"
    try:
        fields = read_json(path, remedy=REMEDY)
        metrics = {key: estimate(value) for key, value in fields["measured"]["metrics"].items()}
        result = RowResult(
            **fields
            | {
                "measured": Measured(**fields["measured"] | {"metrics": metrics}),
                "cost": Cost(**fields["cost"]),
                "changes": tuple(fields["changes"]),
                "left_out": tuple(fields["left_out"]),
            }
        )
    except FileNotFoundError:
        return RowResult(name, NOT_RUN, "not asked for yet")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}). {REMEDY}") from None
    if result.data != data:
        return RowResult(name, NOT_RUN, "not asked for yet on this data set (an earlier result is of other data)")
    return result
