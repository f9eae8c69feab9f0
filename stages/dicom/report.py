"""Comprehensive structured report of a case: TID 1500 with one measurement group per finding, after IHE AI Results."""

from collections.abc import Iterable, Sequence

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes

from .case import Estimate, Finding, ResultCase
from .codes import FAILED, PRESENCE, PROBABILITY, SUCCEEDED, SUMMARY, concept, presence, private, private_scheme
from .equipment import MANUFACTURER, MODEL_NAME, NOTE, Naming, reading_note, software
from .ucum import unit_code

_ANALYSIS = "AI analysis"


def reports(case: ResultCase, sources: Sequence[Dataset]) -> Iterable[Dataset]:
    """Yield the report of a case.

    The first group is of the analysis as a whole: of a failed case it says so and why. Each finding has a group of its
    own: its probability, its presence by the model's threshold, the algorithm, and the images or frames that it is
    about. Findings of a failed case are undetermined, without a probability. A number, a grade or a time has a group
    with its values as measurements and without any decision; in a failed case it says that the analysis failed.

    Args:
        case: The case.
        sources: Of its files (`source.read_sources`).
    """
    naming = Naming.of("sr", case.algorithm, sources, bool(case.reason))
    groups = [_analysis(case, sources, naming), *(_finding(case, each, sources, naming) for each in case.judged())]
    groups += [_estimate(case, each, sources, naming) for each in case.estimated()]
    content = sr.MeasurementReport(
        observation_context=_observer(case, naming),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    yield sr.ComprehensiveSR(
        evidence=list(sources), content=content, is_complete=True, coding_schemes=[private_scheme()],
        **naming.settings(),
    )  # fmt: skip


def _observer(case: ResultCase, naming: Naming) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=naming.uid("observer"), name=case.algorithm.name, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME,
        serial_number=case.algorithm.fingerprint,
    )  # fmt: skip
    return sr.ObservationContext(sr.ObserverContext(codes.DCM.Device, device))


def _analysis(case: ResultCase, sources: Sequence[Dataset], naming: Naming) -> sr.MeasurementsAndQualitativeEvaluations:
    words = [NOTE, reading_note(case)]
    if case.reason:
        words = [
            f"The analysis failed: {case.reason} Nothing is known of any {'target' if case.estimates else 'finding'}.",
            *words,
        ]
    if case.warning:
        words.append(f"Warning: {case.warning}")
    words += [f"{name}: {text}" for name, text in case.facts.items()]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(naming.uid("tracking"), _ANALYSIS),
        finding_type=private(_ANALYSIS),
        algorithm_id=_algorithm(case),
        qualitative_evaluations=[sr.QualitativeEvaluation(SUMMARY, FAILED if case.reason else SUCCEEDED)],
        source_images=_images(case, sources),
    )
    return _with_comments(group, words)


def _finding(
    case: ResultCase, finding: Finding, sources: Sequence[Dataset], naming: Naming
) -> sr.MeasurementsAndQualitativeEvaluations:
    measured = None
    if finding.probability is not None:
        measured = [sr.Measurement(PROBABILITY, float(finding.probability), codes.UCUM.NoUnits)]
    decided = "nothing is decided" if case.reason else "no threshold was chosen, so nothing is decided"
    if finding.threshold is not None:
        decided = f"present from {finding.threshold:.6g} on"
    elif finding.present is not None:
        decided = "the most probable of the classes is present"
    words = [f"Label of the model: {finding.label}", *([finding.meaning] if finding.meaning else []), decided]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(naming.uid("tracking", finding.label), finding.label),
        finding_type=concept(finding),
        algorithm_id=_algorithm(case),
        measurements=measured,
        qualitative_evaluations=[sr.QualitativeEvaluation(PRESENCE, presence(finding))],
        source_images=_images(case, sources),
    )
    return _with_comments(group, words)


def _estimate(
    case: ResultCase, estimate: Estimate, sources: Sequence[Dataset], naming: Naming
) -> sr.MeasurementsAndQualitativeEvaluations:
    measured = [
        sr.Measurement(
            concept(estimate) if each.name == estimate.label else private(each.name), each.value, unit_code(each.unit)
        )
        for each in estimate.values
    ]
    failed = None if measured else [sr.QualitativeEvaluation(SUMMARY, FAILED)]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(naming.uid("tracking", estimate.label), estimate.label),
        finding_type=concept(estimate),
        algorithm_id=_algorithm(case),
        measurements=measured or None,
        qualitative_evaluations=failed,
        source_images=_images(case, sources),
    )
    words = [f"Target of the model: {estimate.label}", estimate.meaning, "nothing is decided"]
    return _with_comments(group, [text for text in words if text])


def _algorithm(case: ResultCase) -> sr.AlgorithmIdentification:
    model = case.algorithm
    parameters = [f"SHA-256 of the weights: {model.weights}", f"fingerprint of the model: {model.fingerprint}"]
    if model.description:
        parameters.append(model.description)
    return sr.AlgorithmIdentification(model.name, "; ".join(software(model)), parameters, manufacturer=MANUFACTURER)


def _images(case: ResultCase, sources: Sequence[Dataset]) -> list[sr.SourceImageForMeasurementGroup]:
    """Return references to the images; of the first, where the model saw some frames only, to these."""
    found = []
    for place, source in enumerate(sources):
        frames = [frame + 1 for frame in case.frames] if place == 0 and case.frames else None
        found.append(
            sr.SourceImageForMeasurementGroup(
                source.SOPClassUID, source.SOPInstanceUID, referenced_frame_numbers=frames
            )
        )
    return found


def _with_comments(
    group: sr.MeasurementsAndQualitativeEvaluations, words: Sequence[str]
) -> sr.MeasurementsAndQualitativeEvaluations:
    """Add lines of text to a group, which `highdicom` has no argument for (TID 1501, Comment)."""
    for text in words:
        item = sr.TextContentItem(codes.DCM.Comment, text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(item)
    return group
