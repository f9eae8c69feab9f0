"""What a hospital asks of a model before it looks: a small file, and the lock that shows it was written before.

finding: Pneumonia          # needed where the table has several labels
threshold: 0.31             # the cut-off; `stored` for the one that comes with the model
minimum:
  sensitivity: 0.90
  specificity: 0.70
  ppv: 0.08                 # needs the prevalence
prevalence: 0.02            # at which PPV and NPV are asked for
margin: 0.03                # so far below a minimum is still accepted (default: 0)
confidence: 0.95            # of the one-sided bounds (default)
subgroups:                  # columns of the manifest in whose groups all of it must hold too
  sex: [F, M]
  site: all
split: test                 # default
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..core.documents import read_json, read_yaml
from ..core.errors import UserError
from ..core.files import write_json
from ..datasets.manifest.tables import nearest
from .statistics.rules import parse_rule

METRICS = ("sensitivity", "specificity", "ppv", "npv")
STORED = "stored"
ALL = "all"


@dataclass(frozen=True)
class Target:
    """What is asked of a model.

    Attributes:
        minimum: Least value by metric: sensitivity, specificity, PPV or NPV.
        finding: The label; empty for the only one.
        threshold: Cut-off, or `stored`.
        prevalence: At which PPV and NPV are meant; None where neither is asked for.
        margin: By how much the lower bound may lie below a minimum.
        confidence: Of each one-sided bound.
        subgroups: Column of the manifest to the groups in which all of it must hold too; empty for all of them.
        split: Of the predictions.

    Raises:
        UserError: A value is out of its range, or does not fit another.
    """

    minimum: Mapping[str, float]
    finding: str = ""
    threshold: float | str = STORED
    prevalence: float | None = None
    margin: float = 0.0
    confidence: float = 0.95
    subgroups: Mapping[str, list[str]] = field(default_factory=dict)
    split: str = "test"

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.minimum:
            raise UserError(f"minimum: name at least one of {', '.join(METRICS)}.")
        for name, value in self.minimum.items():
            if name not in METRICS:
                raise UserError(f"minimum: no metric {name!r}{nearest(name, METRICS)}: one of {', '.join(METRICS)}.")
            _check_share(f"minimum of {name}", value)
            if value <= self.margin:
                raise UserError(f"margin {self.margin:g} leaves nothing of the minimum {value:g} of {name}.")
        if {"ppv", "npv"} & set(self.minimum) and self.prevalence is None:
            raise UserError("a predictive value depends on how frequent the finding is: state the prevalence.")
        if self.prevalence is not None:
            _check_share("prevalence", self.prevalence)
        _check_share("confidence", self.confidence)
        if self.confidence < 0.5:
            raise UserError(f"confidence {self.confidence:g}: at least 0.5, such as 0.95.")
        if not 0 <= self.margin < 1:
            raise UserError(f"margin {self.margin:g}: a share such as 0.03, or 0.")
        if self.threshold != STORED:
            parse_rule(str(self.threshold))

    def floor(self, metric: str) -> float:
        """Return what the lower bound of a metric must reach."""
        return self.minimum[metric] - self.margin

    def sha256(self) -> str:
        """Return the SHA-256 of its values: comments and the order of lines do not count."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""
        return asdict(self)


def read_target(path: Path) -> Target:
    """Read a target.

    Raises:
        UserError: The file is missing or no YAML, a key is unknown, or a value is wrong.
    """
    try:
        found = read_yaml(path, remedy="It holds `minimum:` with `sensitivity: 0.9` and the like beneath.")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    known = [each.name for each in fields(Target)]
    for key in found:
        if key not in known:
            raise UserError(f"{path}: unknown key {key!r}{nearest(str(key), known)}: one of {', '.join(known)}.")
    try:
        return Target(**_typed(found))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Lock:
    """That a target was locked.

    Attributes:
        target: Its values.
        sha256: Of these.
        date: UTC, to the second, ISO 8601.
    """

    target: dict
    sha256: str
    date: str


def lock_path(path: Path) -> Path:
    """Return where the lock of `target.yaml` lies: `target.lock.json`."""
    return path.with_suffix(".lock.json")


def lock_target(path: Path) -> Lock:
    """Write the lock of a target beside it, and return it; one that is locked already stays as it is.

    Raises:
        UserError: The target was changed after it had been locked.
    """
    target = read_target(path)
    found = read_lock(path, target)
    if found is None:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        found = Lock(target.plain(), target.sha256(), date)
        write_json(lock_path(path), asdict(found) | {"seal": _seal(found)})
    return found


def read_lock(path: Path, target: Target) -> Lock | None:
    """Return the lock of a target; None where it was not locked.

    Raises:
        UserError: The target was changed after it had been locked, or the lock itself was.
    """
    place = lock_path(path)
    if not place.exists():
        return None
    stored = read_json(place)
    seal = stored.pop("seal", None)
    try:
        found = Lock(**stored)
    except TypeError:
        raise UserError(f"{place}: not a lock of `clinvit acceptance lock`.") from None
    if seal != _seal(found):
        raise UserError(f"{place}: changed after it was written. Restore it; what it says now shows nothing.")
    if found.sha256 != target.sha256():
        now = target.plain()
        changed = [f"{key} was {found.target.get(key)!r} and is {now[key]!r}" for key in now
                   if now[key] != found.target.get(key)]  # fmt: skip
        raise UserError(
            f"{path}: changed after it was locked on {found.date}: {'; '.join(changed)}. Restore it; a new target is a "
            "new file, locked before new data are looked at."
        )
    return found


def _seal(lock: Lock) -> str:
    return hashlib.sha256(f"{lock.sha256} {lock.date} {json.dumps(lock.target, sort_keys=True)}".encode()).hexdigest()


def _typed(found: dict) -> dict:
    """Return the values as `Target` takes them."""
    own = dict(found)
    for key in ("prevalence", "margin", "confidence"):
        if own.get(key) is not None:
            own[key] = _number(key, own[key])
    if "minimum" not in own or not isinstance(own["minimum"], dict):
        raise UserError("`minimum:` needs at least one metric beneath, such as `sensitivity: 0.9`.")
    own["minimum"] = {str(name): _number(f"minimum of {name}", value) for name, value in own["minimum"].items()}
    if isinstance(own.get("threshold"), int | float):
        own["threshold"] = float(own["threshold"])
    own["finding"], own["split"] = str(own.get("finding", "")), str(own.get("split", "test"))
    own["subgroups"] = _groups(own.get("subgroups") or {})
    return own


def _groups(found: Any) -> dict[str, list[str]]:
    if isinstance(found, list):
        found = dict.fromkeys(found, ALL)
    if not isinstance(found, dict):
        raise UserError("subgroups: write columns, `[sex, site]`, or a column with its groups, `sex: [F, M]`.")
    return {
        str(column): []
        if groups == ALL
        else [str(group) for group in (groups if isinstance(groups, list) else [groups])]
        for column, groups in found.items()
    }


def _number(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what} is {value!r}: write a share, such as 0.9.")
    return float(value)


def _check_share(what: str, value: float) -> None:
    if not 0 < value < 1:
        raise UserError(f"{what} {value:g}: a share between 0 and 1, such as 0.9 for 90 %.")
