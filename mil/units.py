"""Bags of units: the slides of a patient, or the images of a study, put together to one bag."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import DataError
from ..datasets.manifest.tables import Manifest, unit_ids
from ..datasets.slides.bags import Bags
from ..eval.units import Units, unit_manifest
from ..finetune.feature_limit import Limit
from .aggregator import Aggregator
from .model import MilCard
from .predict import BagPrediction, failed_bag, predict_mil


class VectorBags:
    """Bags of one instance: a vector per case, all in memory.

    Args:
        vectors: (N, D), NaN where there is none.
        reasons: N texts, why there is none; empty where there is one.
        folder: What messages call them.
        attributes: What is said of what made them.
    """

    def __init__(self, vectors: np.ndarray, reasons: Sequence[str], folder: str | Path, attributes: dict[str, Any]):
        self.vectors, self.folder, self.attributes = vectors.astype(np.float32), folder, attributes
        self._reasons, self.width = list(reasons), vectors.shape[1]

    def __len__(self) -> int:
        return len(self.vectors)

    def count(self, row: int) -> int:
        """Return 1; 0 where there is no vector."""
        return int(not self._reasons[row])

    def bag(self, row: int, instances: np.ndarray | None = None) -> np.ndarray:
        """Return the (1, D) vector."""
        own = self.vectors[row : row + 1]
        return own if instances is None else own[instances]

    def reasons(self) -> list[str]:
        """Return why there is no vector; empty where there is one."""
        return self._reasons

    def fits(self) -> bool:
        """Return that all are in memory."""
        return True

    def fingerprint(self) -> str:
        """Return SHA-256 over all vectors and what made them."""
        facts = repr((self._reasons, sorted(self.attributes.items()))).encode()
        return hashlib.sha256(self.vectors.tobytes() + facts).hexdigest()


class UnitBags:
    """The bags of units: the instances of all of their cases, one after the other.

    A case that cannot be read is left out of its unit; a unit of which none can be read has the reason of the first.

    Args:
        bags: Of the N cases.
        rows: Of each of the U units, the rows of its cases.
    """

    def __init__(self, bags: Bags, rows: Sequence[Sequence[int] | np.ndarray]):
        self.bags, self.rows, self.width = bags, [list(map(int, own)) for own in rows], bags.width
        self.folder = getattr(bags, "folder", "features")
        self.attributes: dict[str, Any] = getattr(bags, "attributes", {})
        self._unread: dict[int, str] = {row: text for row, text in enumerate(bags.reasons()) if text}

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, unit: int) -> int:
        """Return instances of a unit; 0 where there is none."""
        return sum(self.bags.count(row) for row in self.readable(unit))

    def readable(self, unit: int) -> list[int]:
        """Return the rows of its cases that can be read, as far as is known yet."""
        return [row for row in self.rows[unit] if row not in self._unread]

    def bag(self, unit: int, instances: np.ndarray | None = None) -> np.ndarray:
        """Return (n, D) features of these instances (ascending), or of all.

        Raises:
            DataError: None of the cases can be read.
        """
        parts, first = [], 0
        for row in self.readable(unit):
            last = first + self.bags.count(row)
            own = None if instances is None else instances[(instances >= first) & (instances < last)] - first
            first = last
            if own is not None and not len(own):
                continue
            try:
                parts.append(self.bags.bag(row, own))
            except DataError as error:
                self._unread[row] = str(error)
        if not parts:
            raise DataError(self.reasons()[unit] or "none of the drawn instances can be read")
        return np.concatenate(parts)

    def reasons(self) -> list[str]:
        """Return why each unit cannot be used; empty where it can."""
        return ["" if self.readable(unit) else self._unread[self.rows[unit][0]] for unit in range(len(self))]

    def reason(self, row: int) -> str:
        """Return why a case was left out; empty where it was not."""
        return self._unread.get(row, "")

    def fits(self) -> bool:
        """Return whether all bags stay in memory once they were read."""
        return self.bags.fits()  # type: ignore[attr-defined]

    def fingerprint(self) -> str:
        """Return SHA-256 over the bags and what belongs together."""
        return hashlib.sha256(f"{self.bags.fingerprint()}{self.rows}".encode()).hexdigest()  # type: ignore[attr-defined]


def units_of(manifest: Manifest, bags: Bags, unit: str, exclusive: bool) -> tuple[Manifest, UnitBags]:
    """Return a manifest with a row per unit, and the bags of these.

    Args:
        manifest: N cases.
        bags: Of these.
        unit: Which.
        exclusive: Whether the labels are exclusive classes.
    """
    whole = unit_manifest(manifest, Units(unit), exclusive)
    return whole, UnitBags(bags, rows_of(unit_ids(manifest.path, manifest.table, unit)))


def rows_of(units: pd.Series) -> list[np.ndarray]:
    """Return the rows of each unit, units in the order of their first rows."""
    codes, names = pd.factorize(units)
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])


def predict_units(
    model: Aggregator,
    card: MilCard,
    bags: Bags,
    units: pd.Series,
    rows: Sequence[int] | None = None,
    limit: Limit | None = None,
) -> Iterator[BagPrediction]:
    """Predict cases, each with the score of its unit and what the model saw in its own instances.

    Args:
        model: In eval mode.
        card: Of the model.
        bags: Of the N cases.
        units: (N,) unit of each case.
        rows: Which cases, of whole units; None for all.
        limit: As of `predict_mil`, of units.

    Raises:
        DataError: The features are not for this model.
    """
    rows = list(range(len(bags)) if rows is None else rows)
    groups = [np.array(rows)[own] for own in rows_of(units.iloc[rows])]
    whole = UnitBags(bags, groups)
    found: dict[int, BagPrediction] = {}
    unit_at = {int(row): unit for unit, own in enumerate(groups) for row in own}
    for row in rows:
        if row not in found:
            unit = unit_at[row]
            (own,) = predict_mil(model, card, whole, [unit], limit)
            found |= _apart(own, card, whole, unit)
        yield found.pop(row)


def _apart(found: BagPrediction, card: MilCard, bags: UnitBags, unit: int) -> dict[int, BagPrediction]:
    """Return the prediction of each case of a unit."""
    parts: dict[int, BagPrediction] = {}
    first = 0
    for row in bags.rows[unit]:
        if reason := bags.reason(row) or found.reason:
            parts[row] = failed_bag(row, card, reason)
            continue
        own = slice(first, first := first + bags.bags.count(row))
        parts[row] = replace(found, row=row, attention=found.attention[:, own], instances=found.instances[own])
    return parts
