"""What the writers of DICOM results need to know of one case: its files, its findings, its maps, and the model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...core.errors import UserError

KINDS = ("sr", "seg", "pm", "sc", "pdf")  # report, segmentation, parametric map, secondary capture, encapsulated PDF
SHOWING = ("seg", "pm", "sc", "pdf")  # those that show where the model looked
REGION = 0.5  # of a map's maximum, from which on a pixel belongs to the region of the finding
HIGHEST = 3  # findings shown where none is present


def checked_kinds(kinds: Iterable[str]) -> list[str]:
    """Return kinds of results once each, in the order of `KINDS`.

    Raises:
        UserError: An unknown kind, or none.
    """
    wanted = list(kinds)
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown or not wanted:
        named = f"{', '.join(unknown)}: no kind of DICOM result" if unknown else "no kind of DICOM result is named"
        raise UserError(f"--dicom: {named}; one or more of {','.join(KINDS)}.")
    return [kind for kind in KINDS if kind in wanted]


@dataclass(frozen=True)
class Code:
    """A code of a public terminology.

    Attributes:
        value: Such as `36118008`.
        scheme: Such as `SCT` (SNOMED CT), `RADLEX`, `DCM`.
        meaning: In words, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Finding:
    """What the model says of one label in a case that it has scored.

    Attributes:
        label: As the model calls it.
        probability: In 0..1, calibrated where the model is; None where there is none.
        present: The decision; None where no threshold was chosen.
        threshold: By which it was decided; None where the largest of exclusive classes decides, or nothing does.
        meaning: What 1 means, in words; '' if the model does not say.
        code: Of a public terminology; None writes the label as a private code.
    """

    label: str
    probability: float | None
    present: bool | None
    threshold: float | None = None
    meaning: str = ""
    code: Code | None = None


@dataclass(frozen=True)
class Value:
    """A number that a model gives.

    Attributes:
        name: What of, such as `age`, or `no death until 365 days`.
        value: The number.
        unit: As the manifest states it; '' if it has none.
    """

    name: str
    value: float
    unit: str = ""

    def words(self) -> str:
        """Return it in words."""
        return f"{self.name} {self.value:.4g}{f' {self.unit}' if self.unit else ''}"


@dataclass(frozen=True)
class Estimate:
    """What the model says of a number, a grade or the time until an event in a case; nothing is decided.

    Attributes:
        label: As the model calls it.
        values: The first sums it up: the number, the grade, the risk; none of a failed case.
        meaning: What it is and how it was learned.
        code: Of a public terminology; None writes the label as a private code.
    """

    label: str
    values: tuple[Value, ...]
    meaning: str = ""
    code: Code | None = None


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Where the model looked for one label.

    Attributes:
        label: Of the finding.
        values: (gh, gw), or (T, gh, gw) of a clip, at least 0.
        extent_px: Left, top, right and bottom of the grid in px of the image as it is read (`datasets.images`), of
            which parts may lie outside of it.
        width_px, height_px: Of that image.
        frames: T indices from 0 of the frames of a clip; empty of an image.
        region: Share of the maximum, from which on a pixel belongs to the region of the finding.
    """

    label: str
    values: np.ndarray
    extent_px: tuple[float, float, float, float]
    width_px: int
    height_px: int
    frames: tuple[int, ...] = ()
    region: float = REGION


@dataclass(frozen=True)
class Algorithm:
    """The model that made a result.

    Attributes:
        name: In words, at most 64 characters.
        weights: SHA-256 of its weights.
        fingerprint: SHA-256 of weights, thresholds and calibration: of all that a result depends on. UIDs of results
            are made of it.
        description: In a line, such as its network.
    """

    name: str
    weights: str
    fingerprint: str
    description: str = ""


@dataclass(frozen=True, eq=False)
class ResultCase:
    """One case and what came of it.

    Attributes:
        id: As in the predictions table: it names the files of the results.
        sources: DICOM files of one study of one patient that were scored together; maps are of the first.
        algorithm: The model.
        findings: One per label; of a failed case too, without probability and decision.
        reason: Why the case failed; '' if it did not.
        warning: What there is to warn of; '' if nothing.
        maps: Of the labels that are shown; none writes no segmentation and no parametric map.
        method: How the maps were made: `gradient`, `grad_cam`, `attention`, `dense`, `tiles`, or '' without maps.
        frames: Of the first source, indices from 0 of the frames that the model saw; empty for all.
        facts: Further lines for the reader, by name.
        estimates: Of a model of numbers, grades or times, which has no findings: one per target, of a failed case
            without values.
    """

    id: str
    sources: tuple[Path, ...]
    algorithm: Algorithm
    findings: tuple[Finding, ...]
    reason: str = ""
    warning: str = ""
    maps: tuple[HeatMap, ...] = ()
    method: str = ""
    frames: tuple[int, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    estimates: tuple[Estimate, ...] = ()

    def judged(self) -> tuple[Finding, ...]:
        """Return the findings; of a failed case without probability and decision, whatever they say."""
        if not self.reason:
            return self.findings
        return tuple(replace(each, probability=None, present=None) for each in self.findings)

    def estimated(self) -> tuple[Estimate, ...]:
        """Return the estimates; of a failed case without values, whatever they say."""
        return tuple(replace(each, values=()) for each in self.estimates) if self.reason else self.estimates

    def worth_showing(self) -> "list[Finding | Estimate]":
        """Return the findings that are shown (`highest`), and every estimate that has a value."""
        return [*highest(self.judged()), *(each for each in self.estimated() if each.values)]

    def shown(self) -> dict[str, HeatMap]:
        """Return the maps by label."""
        return {each.label: each for each in self.maps}


def highest(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are present; where none is, those with the highest probabilities."""
    scored = [each for each in findings if each.probability is not None]
    present = [each for each in scored if each.present]
    return present or sorted(scored, key=lambda each: -(each.probability or 0))[:HIGHEST]
