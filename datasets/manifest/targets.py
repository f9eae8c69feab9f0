"""What a model may be asked beside findings: a number, a grade, or the time until an event.

`manifest.json` declares the kind of each, `clinvit prepare --option targets=...` writes it there:

{"targets": {"age": {"kind": "regression", "unit": "years"},
             "grade": {"kind": "ordinal"},
             "death": {"kind": "survival", "time": "days", "event": "died", "unit": "days"}}}

The kind is one value that goes from the manifest through losses, model card and predictions to the report.

kind        columns of predictions.csv
regression  `y_<name>` and `value_<name>`, both in the unit of the manifest
ordinal     `y_<name>`, `grade_<name>` (predicted grade) and `atleast_<name>_<k>` (probability of grade k or more)
survival    `time_<name>`, `event_<name>` (1 = it happened then, 0 = censored then), `risk_<name>` (larger = sooner) and
            `free_<name>_<t>` (probability of no event until t)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .cells import nearest, numbers

INTERVALS = 8  # of the times of events, at most, at whose ends survival is predicted


@dataclass(frozen=True)
class Target:
    """One value that is asked of a case.

    Attributes:
        kind: `regression`, `ordinal` or `survival`.
        losses: By which it can be learned; the first is the default.
        name: Of the target.
        unit: Of its values, for people.
        loss: By which a model learned it; empty in a manifest.
    """

    kind: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]

    name: str
    unit: str = ""
    loss: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the columns of a manifest that hold the truth."""
        return (self.name,)

    @property
    def truth(self) -> tuple[str, ...]:
        """Return the columns of the truth in tables of ours."""
        return (f"y_{self.name}",)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the S columns of what a model says."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Return how many outputs of a network it takes."""
        return 1

    def checked(self, where: str, values: np.ndarray) -> None:
        """Refuse (N, T) truth that cannot be.

        Raises:
            DataError: Says which row, and what is wrong.
        """

    def fitted(self, truth: np.ndarray, loss: str = "") -> Self:
        """Return the target with what is taken from the (N, T) truth of training, as it is learned by a loss.

        Raises:
            DataError: There is nothing to learn.
        """
        raise NotImplementedError

    def decided(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Return further columns that follow from (N, S) scores."""
        return {}

    def summary(self, scores: Any) -> Any:
        """Return (N,) what one number says of (N, S) scores (array or tensor): what maps explain, `summary_words`."""
        return scores[:, 0]

    def summary_words(self) -> str:
        """Return what `summary` is of."""
        raise NotImplementedError

    def words(self) -> str:
        """Return what it is and how it is learned."""
        raise NotImplementedError

    def declared(self) -> dict[str, str]:
        """Return what `manifest.json` holds of it."""
        return {"kind": self.kind} | ({"unit": self.unit} if self.unit else {})

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON holds it; `stored` is the inverse."""
        return {"kind": self.kind} | asdict(self)

    def _known(self, truth: np.ndarray) -> np.ndarray:
        """Return the rows of truth that are known.

        Raises:
            DataError: There are fewer than two.
        """
        known = truth[~np.isnan(truth).any(axis=1)]
        if len(known) < 2:
            raise DataError(f"target {self.name!r} is known of {len(known)} training cases: nothing to learn.")
        return known


@dataclass(frozen=True)
class Regression(Target):
    """A number; the network's output is standardised by the training cases.

    Attributes:
        mean, std: Of the training cases.
    """

    kind: ClassVar[str] = "regression"
    losses: ClassVar[tuple[str, ...]] = ("mse", "l1")

    mean: float = 0.0
    std: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        return (f"value_{self.name}",)

    def fitted(self, truth: np.ndarray, loss: str = "") -> "Regression":
        known = self._known(truth)[:, 0].astype(np.float64)
        if known.min() == known.max():
            raise DataError(
                f"target {self.name!r} is {known[0]:g} in all {len(known)} known training cases: nothing to learn."
            )
        return replace(self, loss=loss or self.losses[0], mean=float(known.mean()), std=float(known.std()))

    def summary_words(self) -> str:
        return f"{self.name} in {self.unit}" if self.unit else self.name

    def words(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        scale = f"mean {self.mean:.4g}{unit}, std {self.std:.4g}"
        return f"a number, learned by {self.loss}, standardised by training ({scale})"


@dataclass(frozen=True)
class Ordinal(Target):
    """A grade 0, 1, ..., `highest`.

    Attributes:
        highest: Grade of the training cases.
    """

    kind: ClassVar[str] = "ordinal"
    losses: ClassVar[tuple[str, ...]] = ("corn",)

    highest: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"atleast_{self.name}_{grade}" for grade in range(1, self.highest + 1))

    @property
    def width(self) -> int:
        return self.highest

    def checked(self, where: str, values: np.ndarray) -> None:
        wrong = np.flatnonzero(~np.isnan(values[:, 0]) & ((values[:, 0] < 0) | (values[:, 0] % 1 != 0)))
        if len(wrong):
            raise DataError(
                f"{where}: row {wrong[0] + 2}: {self.name} is {values[wrong[0], 0]:g}; a grade is 0, 1, 2, ... or "
                "empty (unknown)."
            )

    def fitted(self, truth: np.ndarray, loss: str = "") -> "Ordinal":
        known = self._known(truth)[:, 0]
        if known.min() == known.max():
            raise DataError(
                f"target {self.name!r} is {known[0]:g} in all {len(known)} known training cases: nothing to learn."
            )
        if known.max() > 100:
            raise DataError(f"target {self.name!r} has grades up to {known.max():g}: declare it as regression.")
        return replace(self, loss=loss or self.losses[0], highest=int(known.max()))

    def decided(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Return the grade that as many thresholds as it has are reached more likely than not."""
        grade = (scores > 0.5).sum(axis=1).astype(np.float64)
        return {f"grade_{self.name}": np.where(np.isnan(scores).any(axis=1), np.nan, grade)}

    def summary(self, scores: Any) -> Any:
        """Return (N,) expected grades: the sum of the probabilities of grade 1 or more, 2 or more, ..."""
        return scores.sum(1)

    def summary_words(self) -> str:
        return f"expected grade of {self.name}"

    def words(self) -> str:
        return f"a grade from 0 to {self.highest}, learned by {self.loss}"


@dataclass(frozen=True)
class Survival(Target):
    """The time until an event, or until a patient was last seen without it.

    Attributes:
        time, event: Columns of the manifest; empty in a predictions table.
        times: At which the event-free probability is predicted: quantiles of the training cases' times of events.
        baseline: Of `cox`, the cumulative baseline hazard at these times (Breslow).
    """

    kind: ClassVar[str] = "survival"
    losses: ClassVar[tuple[str, ...]] = ("hazards", "cox")

    time: str = ""
    event: str = ""
    times: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.time, self.event)

    @property
    def truth(self) -> tuple[str, ...]:
        return (f"time_{self.name}", f"event_{self.name}")

    @property
    def columns(self) -> tuple[str, ...]:
        return (f"risk_{self.name}", *(f"free_{self.name}_{time:g}" for time in self.times))

    @property
    def width(self) -> int:
        return 1 if self.loss == "cox" else len(self.times)

    def checked(self, where: str, values: np.ndarray) -> None:
        time, event = values.T
        what = f"{self.time or self.truth[0]} and {self.event or self.truth[1]}"
        for wrong, words in (
            (time < 0, "the time is negative; it counts from the case (its image or slide) on"),
            (~np.isnan(event) & (event != 0) & (event != 1), "an event is 1 (it happened) or 0 (censored)"),
            (~np.isnan(event) & np.isnan(time), "an event without a time"),
            (np.isnan(event) & ~np.isnan(time), "a time without an event: 1 if it happened then, 0 if censored then"),
        ):
            rows = np.flatnonzero(wrong)
            if len(rows):
                raise DataError(f"{where}: row {rows[0] + 2}: {what}: {words} ({len(rows):,} such rows).")

    def fitted(self, truth: np.ndarray, loss: str = "") -> "Survival":
        known = self._known(truth)
        events = known[known[:, 1] == 1, 0].astype(np.float64)
        if len(np.unique(events)) < 2:
            raise DataError(
                f"target {self.name!r} has events at {len(np.unique(events))} times among {len(known)} training cases: "
                "nothing to learn."
            )
        times = np.quantile(events, np.linspace(0, 1, INTERVALS + 1)[1:], method="inverted_cdf")
        # Columns are named after the times: six digits, rounded up where there are more, so that no event lies behind.
        kept = tuple(dict.fromkeys(_six_digits(time) for time in np.unique(times) if time > 0))
        return replace(self, loss=loss or self.losses[0], times=kept)

    def summary_words(self) -> str:
        return f"risk of {self.name}"

    def words(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        shown = ", ".join(f"{time:g}" for time in self.times)
        return f"the time until an event, learned by {self.loss}; event-free probability at {shown}{unit}"

    def declared(self) -> dict[str, str]:
        return super().declared() | {"time": self.time, "event": self.event}


KINDS: dict[str, type[Target]] = {each.kind: each for each in (Regression, Ordinal, Survival)}
Asked = Sequence["str | Target"]  # of a model: names of findings, or targets


def declared(name: str, facts: Mapping[str, Any]) -> Target:
    """Return a target as `manifest.json` declares it.

    Raises:
        DataError: An unknown kind or key, or columns are missing.
    """
    own = {key: str(value) for key, value in facts.items()}
    kind = own.pop("kind", "")
    if kind not in KINDS:
        raise DataError(f"target {name!r}: kind {kind!r}{nearest(kind, KINDS)}; one of {', '.join(KINDS)}.")
    known = ("unit", "time", "event") if kind == Survival.kind else ("unit",)
    for key in own:
        if key not in known:
            raise DataError(f"target {name!r}: unknown key {key!r}{nearest(key, known)}; there are {', '.join(known)}.")
    if kind == Survival.kind and not (own.get("time") and own.get("event")):
        raise DataError(f"target {name!r}: survival needs the columns `time` and `event`.")
    return KINDS[kind](name, **own)


def asked_for(text: str) -> Target:
    """Return the target of `age:regression:years`, `grade:ordinal` or `death:survival:days:died`.

    Raises:
        DataError: It is written in another way.
    """
    name, _, rest = text.strip().partition(":")
    kind, *more = rest.split(":")
    names = ("time", "event", "unit") if kind == Survival.kind else ("unit",)
    if not name or len(more) > len(names):
        raise DataError(
            f"targets={text!r}: write NAME:regression, NAME:regression:UNIT, NAME:ordinal or "
            "NAME:survival:TIME:EVENT (the columns of time and event)."
        )
    return declared(name, {"kind": kind} | dict(zip(names, more)))


def stored(facts: Mapping[str, Any]) -> Target:
    """Return the target that a card holds (`Target.plain`)."""
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return KINDS[own.pop("kind")](**own)


def truth_width(asked: Asked) -> int:
    """Return how many columns the truth of findings or targets has."""
    return sum(len(each.truth) if isinstance(each, Target) else 1 for each in asked)


def target_cells(path: Path, table: pd.DataFrame, target: Target) -> np.ndarray:
    """Return (N, T) truth of a target from text cells, NaN where unknown.

    Raises:
        DataError: A column is missing, a cell is no number, or the truth cannot be.
    """
    for column in target.cells:
        if column not in table.columns:
            raise DataError(f"{path}: target {target.name!r}: no column {column!r}{nearest(column, table.columns)}.")
    values = np.column_stack([numbers(path, table, column) for column in target.cells])
    refuse_infinite(str(path), target.cells, values)
    target.checked(str(path), values)
    return values


def refuse_infinite(where: str, columns: Sequence[str], values: np.ndarray) -> None:
    """Raise where a truth or a prediction is infinite."""
    row, column = np.nonzero(np.isinf(values))
    if len(row):
        raise DataError(
            f"{where}: row {row[0] + 2}: {columns[column[0]]} is infinite; write a number, or leave it empty."
        )


def checked_target(
    path: Path, table: pd.DataFrame, target: Target, ok: np.ndarray
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a predictions table with the columns of a target as numbers, and what is doubtful.

    Args:
        path: What messages call the table.
        table: All cells as text.
        target: Of which the table has columns.
        ok: (N,) boolean, which cases were scored.

    Raises:
        DataError: A cell is wrong, a scored case lacks a value, or a failed one carries one.
    """
    truth = np.column_stack([numbers(path, table, column) for column in target.truth])
    refuse_infinite(str(path), target.truth, truth)
    target.checked(str(path), truth)
    columns = [column for column in (f"grade_{target.name}", *target.columns) if column in table.columns]
    scores = np.column_stack([numbers(path, table, column) for column in columns])
    refuse_infinite(str(path), columns, scores)
    row, column = np.nonzero(np.isnan(scores) & ok[:, None])
    if len(row):
        raise DataError(
            f"{path}: row {row[0] + 2}: {columns[column[0]]} is empty; a scored case needs it. Give the case status "
            "`failed` and a reason if it has none."
        )
    row, column = np.nonzero(~np.isnan(scores) & ~ok[:, None])
    if len(row):
        where = f"row {row[0] + 2}: a failed case carries {columns[column[0]]}"
        raise DataError(f"{path}: {where}. Leave the cell empty.")
    for name, own in zip(columns, scores.T):
        shares, grades = name.startswith(("atleast_", "free_")), name.startswith("grade_")
        outside = ((own < 0) | (own > 1)) if shares else grades & ((own < 0) | (own % 1 != 0))
        wrong = np.flatnonzero(outside & ~np.isnan(own))
        if len(wrong):
            what = "a probability within 0..1" if shares else "a grade 0, 1, 2, ..."
            raise DataError(f"{path}: row {wrong[0] + 2}: {name} is {own[wrong[0]]:g}; it is {what}.")
    table = table.assign(**dict(zip((*target.truth, *columns), (*truth.T, *scores.T))))
    return table, tuple(filter(None, [differing_patients(target, table["patient"], truth)]))


def differing_patients(target: Target, patients: pd.Series, values: np.ndarray) -> str:
    """Say whose cases have differing times or events; empty for nobody, and for other kinds of targets."""
    if not isinstance(target, Survival):
        return ""
    known = ~np.isnan(values).any(axis=1)
    pairs = pd.DataFrame(values[known]).assign(patient=patients[known].to_numpy()).drop_duplicates()
    several = pairs.loc[pairs["patient"].duplicated(keep=False)]
    if not len(several):
        return ""
    first = several[several["patient"] == several["patient"].iloc[0]][0].iloc[:2]
    return (
        f"{target.name}: {several['patient'].nunique():,} patients have cases with differing times or events, first "
        f"{several['patient'].iloc[0]!r} ({' and '.join(f'{time:g}' for time in first)}): right where each time counts "
        "from its own case, else mend the table."
    )


def found_targets(columns: Sequence[str]) -> tuple[Target, ...]:
    """Return the targets that the columns of a predictions table are of, in its order."""
    names, found = set(columns), []
    for column in columns:
        head, _, name = column.partition("_")
        if head == "value" and f"y_{name}" in names:
            found.append(Regression(name))
        elif head == "grade" and f"y_{name}" in names:
            grades = _numbers_after(columns, f"atleast_{name}_", r"\d+")
            found.append(Ordinal(name, highest=len(grades)))
        elif head == "risk" and {f"time_{name}", f"event_{name}"} <= names:
            times = _numbers_after(columns, f"free_{name}_", r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
            found.append(Survival(name, times=tuple(float(time) for time in times)))
    return tuple(found)


def _six_digits(time: float) -> float:
    near = float(f"{time:.6g}")
    return near if near >= time else float(f"{time * (1 + 5e-6):.6g}")


def _numbers_after(columns: Sequence[str], head: str, number: str) -> list[str]:
    return [c[len(head) :] for c in columns if c.startswith(head) and re.fullmatch(number, c[len(head) :])]
