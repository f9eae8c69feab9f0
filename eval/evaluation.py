"""The settings of an evaluation as one value, checked when it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import UserError
from ..datasets.manifest.tables import Predictions, nearest
from .statistics.questions import Margin
from .statistics.resampling import PatientBootstrap, patient_bootstrap, rarest_finding
from .statistics.rules import ALL, parse_rule, rules_of
from .statistics.triage import Promise
from .units import Rule, Units

INTERVALS = ("percentile", "bca")
KINDS = ("exclusive", "multi-label")  # of labels
_FEWEST = 10  # resamples


@dataclass(frozen=True)
class Evaluation:
    """Say what is evaluated, and how thresholds and intervals are made.

    Attributes:
        split: The split to evaluate.
        rule: How thresholds are chosen on the `val` rows, or the cut-off itself (`operating_points.choose`); one for
            all labels, or by label. None: those that are stored with the model where the table has no `val` rows, else
            the model's own rule where that is known, else `youden`.
        prevalence: At which predictive values are wanted beside those of the cases: one for all labels, or by label.
        resamples, seed: Of the bootstrap by patient.
        interval: `percentile`, or `bca` (bias-corrected and accelerated; Efron 1987), which is more exact for skewed
            metrics and small cohorts and takes about twice as long.
        stratify: Whether resamples hold as many patients with a finding as the cohort does; see `rarest_finding`.
        subgroups: Columns of the manifest; None for sex, age, view, scanner and site where it has them.
        kind: `exclusive` classes or `multi-label`; None to decide by truths and scores (`classes.kind`).
        matched: `sensitivity=0.9` or `specificity=0.9`, at which two models are compared too; None for neither.
        margin: Whether the first model is to be shown not inferior to each other one, or equivalent; None for neither.
        triage: What must hold of cases that no reader sees (`triage.Promise`); None where readers see all.
        coverage: Share of the cases whose truth a conformal set is to hold, such as 0.9; None for no sets.
        sites: Column of the manifest that names them; None for one called site, hospital, institution or centre.
        weights: Column of the manifest that says how many patients a case stands for; None for no weighted metrics.
        unit: `study`, `patient` or `case`: what is evaluated where that is more than one image; None for the rows of
            the table as they are.
        unit_rule: How the scores of a unit's images become its own (`units.Units`); None for the usual one.
        unit_of: What a unit consists of, in the singular.

    Raises:
        UserError: Fewer than 10 resamples, or an unknown rule, interval, prevalence or kind.
    """

    split: str = "test"
    rule: str | float | Mapping[str, str | float] | None = None
    prevalence: float | Mapping[str, float] | None = None
    resamples: int = 2000
    seed: int = 0
    interval: str = "percentile"
    stratify: bool = False
    subgroups: Sequence[str] | None = None
    kind: str | None = None
    matched: str | None = None
    margin: Margin | None = None
    triage: Promise | None = None
    coverage: float | None = None
    sites: str | None = None
    weights: str | None = None
    unit: str | None = None
    unit_rule: Rule = None
    unit_of: str = "image"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.resamples < _FEWEST:
            raise UserError(f"{self.resamples} resamples are too few for an interval: take 2,000, or at least 10.")
        if self.interval not in INTERVALS:
            raise UserError(f"interval {self.interval!r}: one of {', '.join(INTERVALS)}.")
        if self.matched is not None and parse_rule(self.matched).kind not in ("sensitivity", "specificity"):
            raise UserError(f"matched {self.matched!r}: write sensitivity=0.9 or specificity=0.9.")
        if self.kind not in (None, *KINDS):
            raise UserError(f"kind {self.kind!r}: one of {', '.join(KINDS)}.")
        if self.coverage is not None and not 0 < self.coverage < 1:
            raise UserError(f"coverage {self.coverage:g} of the conformal sets: a share such as 0.9.")
        if self.split == "val" and (self.triage is not None or self.coverage is not None):
            raise UserError("triage and conformal sets are chosen on val and tried on another split: name that one.")
        rules_of(self.rule)
        if self.unit is None and self.unit_rule is not None:
            raise UserError("--unit-rule needs --unit study, patient or case.")
        if self.unit is not None:
            Units(self.unit, self.unit_rule, self.unit_of).refuse_learned()
        by_label = self.prevalence if isinstance(self.prevalence, Mapping) else {"all labels": self.prevalence}
        for label, prevalence in by_label.items():
            if prevalence is not None and not 0 < prevalence < 1:
                raise UserError(f"Prevalence {prevalence:g} of {label!r}: give one in 0..1, such as 0.02 for 2 %.")

    @property
    def units(self) -> Units | None:
        """Return the units that are evaluated; None where these are the rows of the table."""
        return None if self.unit is None else Units(self.unit, self.unit_rule, self.unit_of)

    @property
    def of_manifest(self) -> str:
        """Return an option that names columns of a manifest, which is needed then; empty for none."""
        asked = {"--subgroups": self.subgroups, "--sites": self.sites, "--weights": self.weights}
        return next((option for option, value in asked.items() if value), "")

    def bootstrap(self, patients: Sequence[str], truth: np.ndarray) -> PatientBootstrap:
        """Return the bootstrap of N cases with (N, L) truths."""
        strata = rarest_finding(truth, patients) if self.stratify else None
        return patient_bootstrap(patients, self.resamples, self.seed, strata, self.interval == "bca")

    def said(self, table: Predictions) -> Predictions:
        """Return the table with what was said of its labels' kind."""
        return table if self.kind is None else replace(table, kind=self.kind)

    def rules(self, labels: Sequence[str]) -> dict[str, str]:
        """Return the rule by label, of those that have one.

        Raises:
            UserError: A rule is given for another label.
        """
        found = rules_of(self.rule)
        for label in found:
            if label != ALL and label not in labels:
                raise UserError(f"A threshold is given for {label!r}, which no table has{nearest(label, labels)}.")
        return {label: found.get(label, found.get(ALL, "")) for label in labels if label in found or ALL in found}

    def prevalences(self, labels: Sequence[str]) -> dict[str, float]:
        """Return the prevalence by label, of those that have one.

        Raises:
            UserError: A prevalence is given for another label.
        """
        if self.prevalence is None:
            return {}
        if not isinstance(self.prevalence, Mapping):
            return dict.fromkeys(labels, self.prevalence)
        for label in self.prevalence:
            if label not in labels:
                raise UserError(f"A prevalence is given for {label!r}, which no table has{nearest(label, labels)}.")
        return dict(self.prevalence)


STANDARD = Evaluation()
