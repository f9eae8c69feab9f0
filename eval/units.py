"""Predictions of images, clips or slides as those of units: studies, patients, cases.

A finding is seen in a unit as likely as in its most suspicious image (`max`), on average (`mean`), or in at least one
of its images if these were independent (`noisy-or`, 1 - prod(1 - p); Pearl 1988, section 4.3.2). It is present in a
unit where it is in one of the images. Exclusive classes, numbers, grades and times are of the unit as a whole: scores
are averaged, and truths must agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..datasets.manifest.tables import (
    Manifest,
    Predictions,
    checked_unit,
    many,
    nearest,
    unit_ids,
    without_unit,
)
from .statistics.unit_scores import (
    ALL,
    LEARNED,
    MAX,
    MEAN,
    RULES,
    Groups,
    agreed,
    head_columns,
    rules_by_label,
    rules_of,
    unit_findings,
)

Rule = str | Mapping[str, str] | None


@dataclass(frozen=True)
class Units:
    """Say what a row of the result is, and how it is scored.

    Attributes:
        unit: `study`, `patient` or `case`.
        rule: `max`, `mean` or `noisy-or`; one for all findings, or by finding (`ALL` for the others). None: `max`, of
            exclusive classes, numbers, grades and times `mean`, which is the only one for them.
        of: What a unit consists of: `image`, `clip`, `slide`.

    Raises:
        UserError: An unknown unit or rule.
    """

    unit: str
    rule: Rule = None
    of: str = "image"

    def __post_init__(self) -> None:
        """Check the names."""
        checked_unit(self.unit)
        for rule in rules_by_label(self.rule).values():
            if rule not in RULES and self.rule != LEARNED:
                raise UserError(f"unit rule {rule!r}{nearest(rule, RULES)}: one of {', '.join(RULES)}.")

    def rules(self, labels: Sequence[str]) -> dict[str, str]:
        """Return the rule of each finding.

        Raises:
            UserError: A rule is given for another one.
        """
        given = rules_by_label(self.rule)
        for label in given:
            if label != ALL and label not in labels:
                raise UserError(f"--unit-rule: no finding {label!r}{nearest(label, labels)}.")
        return rules_of(self.rule, labels)

    def refuse_learned(self) -> None:
        """Refuse what only a model's predictions have.

        Raises:
            UserError: The rule is `learned`.
        """
        if self.rule == LEARNED:
            raise UserError(f"unit rule {LEARNED!r} is that of a model: one of {', '.join(RULES)}.")

    def refuse_findings_alone(self, what: str) -> None:
        """Refuse another rule than the mean.

        Args:
            what: That has no other: `exclusive classes`.

        Raises:
            UserError: One is given.
        """
        if other := set(rules_by_label(self.rule).values()) - {MEAN, LEARNED}:
            raise UserError(f"--unit-rule {sorted(other)[0]}: {what} of a unit are averaged: take mean, or leave it.")


def read_unit_rules(texts: Sequence[str]) -> Rule:
    """Read `RULE`, or `FINDING=RULE`, each once.

    Raises:
        UserError: Two are for the same finding.
    """
    found: dict[str, str] = {}
    for text in texts:
        label, _, rule = text.strip().rpartition("=")
        if label in found:
            raise UserError(f"--unit-rule: two rules for {label or 'all findings'}, {found[label]} and {rule}.")
        found[label] = rule
    return found.get(ALL) if set(found) <= {ALL} else found


def by_unit(found: Predictions, units: Units, exclusive: bool, manifest: Manifest | None = None) -> Predictions:
    """Return the predictions of units, and in its notes what became of the images.

    A unit with a failed image is scored on the others, which its `warning` says; one of which all failed has failed. A
    patient stands in one split, so each unit does.

    Args:
        found: Predictions of images (clips, slides), or of smaller units.
        units: Which, and by which rule.
        exclusive: Whether the labels are exclusive classes.
        manifest: Of the cases, where the table has no column of the unit.

    Raises:
        DataError: Nothing says which images belong together.
        UserError: The table has decisions, or a rule is none for it.
    """
    table = _with_unit(found, units.unit, manifest)
    groups = Groups(unit_ids(found.path, table, units.unit), table["id"])
    columns = head_columns(table, groups, units.unit, units.of)
    if f"{units.of}s" in table and (groups.counts == 1).all():  # of these units already: nothing is put together
        return replace(found, notes=(*found.notes, _summary(table, groups, columns, units, "")))
    if "decision" in table:
        raise UserError(f"{found.path}: its column `decision` is of single cases: no --unit for such a table.")
    averaged = "exclusive classes" if exclusive else "numbers, grades and times" if found.targets else ""
    if averaged:
        units.refuse_findings_alone(averaged)
    rule = MEAN if averaged and units.rule != LEARNED else _rule_words(units, found.labels)
    notes = [_summary(table, groups, columns, units, rule)]
    if found.targets:
        for target in found.targets:
            own = [column for column in target.columns if column in table]
            means = groups.mean(table[own].to_numpy(np.float64))
            truth, differing = agreed(groups, table[list(target.truth)].to_numpy(np.float64))
            columns |= dict(zip(target.truth, truth.T)) | target.decided(means) | dict(zip(own, means.T))
            notes += _contradictions(differing, target.name, units)
    else:
        rules = units.rules(found.labels)
        columns_of_units, parts = unit_findings(groups, found.labels, found.truth(), found.scores(), rules, exclusive)
        columns |= columns_of_units
        for part, differing in parts:
            if part.exclusive:
                notes += _contradictions(differing, f"the class{part.group and f' of {part.group}'}", units)
            else:
                notes += _differing([found.labels[place] for place in part.places], differing, units)
    return replace(found, table=pd.DataFrame(columns), notes=(*found.notes, *notes))


def unit_manifest(manifest: Manifest, units: Units, exclusive: bool) -> Manifest:
    """Return a manifest with a row per unit: its truth, and what else all of its images share.

    Of a column in which they differ nothing is left, but `view` names all views.

    Args:
        manifest: Of the images.
        units: Which.
        exclusive: As of `by_unit`.
    """
    table = manifest.table
    groups = Groups(unit_ids(manifest.path, table, units.unit), table["id"])
    columns: dict[str, object] = {"id": list(groups.names)}
    for name in table.columns.drop(["id", *manifest.labels]):
        if pd.api.types.is_numeric_dtype(table[name]):
            columns[name] = agreed(groups, table[[name]].to_numpy(np.float64))[0][:, 0]
        elif name == "path":
            columns[name] = table[name].to_numpy()[groups.firsts()]
        else:
            shared = "+".join if name == "view" else lambda texts: texts[0] if len(texts) == 1 else ""
            columns[name] = [shared(sorted(texts)) for texts in groups.texts(table[name])]
    truth = table[list(manifest.labels)].to_numpy(np.float64)
    if manifest.labels:
        none = np.zeros_like(truth)
        found, _ = unit_findings(groups, manifest.labels, truth, none, dict.fromkeys(manifest.labels, MAX), exclusive)
        columns |= {label: found[f"y_{label}"] for label in manifest.labels}
    return replace(manifest, table=pd.DataFrame(columns))


def members(manifest: Manifest, unit: str) -> dict[str, list[str]]:
    """Return the ids of the images of each unit."""
    ids = unit_ids(manifest.path, manifest.table, unit)
    return manifest.table["id"].groupby(ids, sort=False).agg(list).to_dict()


def _with_unit(found: Predictions, unit: str, manifest: Manifest | None) -> pd.DataFrame:
    """Return the table with the column of the unit, its own or that of the manifest."""
    table = found.table
    if unit in (*table.columns, "patient") or manifest is None or unit not in manifest.table:
        return table
    known = manifest.table.set_index("id")[unit]
    return table.assign(**{unit: table["id"].map(known).fillna("")})


def _rule_words(units: Units, labels: Sequence[str]) -> str:
    """Return the rules in words."""
    if units.rule == LEARNED:
        return "the attention that the model has learned"
    rules = units.rules(labels)
    if len(set(rules.values())) == 1:
        return next(iter(rules.values()))
    return ", ".join(f"{label} {rule}" for label, rule in rules.items())


def _summary(table: pd.DataFrame, groups: Groups, columns: Mapping, units: Units, rule: str) -> str:
    """Say how many images became how many units, and what became of those that failed."""
    whole, lost = columns[f"{units.of}s"], columns[f"failed_{units.of}s"]
    failed = np.asarray(columns["status"]) == "failed"
    partly, alone = ~failed & (lost > 0), int(without_unit(table, units.unit).sum()) if units.unit in table else 0
    said = [f"{int(whole.sum()):,} {units.of}s are {many(len(whole), units.unit)}" + f", scored by {rule}" * bool(rule)]
    if partly.any():
        said.append(f"{many(int(partly.sum()), units.unit)} scored without {int(lost[partly].sum()):,} that failed")
    if failed.any():
        said.append(f"{many(int(failed.sum()), units.unit)} of which every {units.of} failed")
    if alone:
        said.append(f"{alone:,} {units.of}s without a {units.unit} are one each")
    return f"{'; '.join(said)}."


def _contradictions(differing: np.ndarray, what: str, units: Units) -> list[str]:
    """Say in how many units the images contradict each other."""
    if not differing.any():
        return []
    return [
        f"{what} differs between the {units.of}s of {many(int(differing.sum()), units.unit)}: it counts as unknown "
        f"there. Mend the table where it is one for the whole {units.unit}."
    ]


def _differing(labels: Sequence[str], differing: np.ndarray, units: Units) -> list[str]:
    """Say in how many units a finding is in some of the images only."""
    counts = {label: int(own.sum()) for label, own in zip(labels, differing.T) if own.any()}
    if not counts:
        return []
    most = sorted(counts, key=lambda label: -counts[label])[:3]
    words = ", ".join(f"{label} in {counts[label]:,}" for label in most) + ", ..." * (len(counts) > len(most))
    return [
        f"in {many(int(differing.any(axis=1).sum()), units.unit)} the truth differs between {units.of}s ({words}): a "
        f"{units.unit} has a finding where one of its {units.of}s has."
    ]
