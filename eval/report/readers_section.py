"""The report's section on readers of the same cases."""

from collections.abc import Sequence

import numpy as np

from ..statistics.intervals import NO_INTERVAL, Estimate
from ..statistics.reader_study import Tested
from ..statistics.readers import LabelReaders, ModalityTest
from .formats import compared_p, interval, many, number, signed
from .metrics_json import estimate_json, number_json
from .section import MetricRow, Section

ALPHA = 0.05
NAMES = {"auroc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity"}
METHODS = (
    "Readers: the model minus the mean of the readers, readers and cases random (Obuchowski and Rockette, Hillis’s "
    "degrees of freedom), with the covariance over cases by patient; for one reader the reader is fixed. Modalities "
    "are compared by the readers who read with both. p is adjusted by Holm over findings, modalities and metrics. "
    "Agreement is Cohen’s kappa of two readers, of grades also with quadratic weights, and Fleiss’ kappa of all, with "
    "intervals by the bootstrap by patient."
)


def readers_section(model: str, found: Sequence[LabelReaders], crossed: Sequence[ModalityTest]) -> Section:
    """Return the section after "Discrimination".

    Args:
        model: That stands beside the readers.
        found: By label and modality.
        crossed: Modalities compared.
    """
    return Section(
        anchor="readers",
        title="Readers",
        after="results",
        content={
            "model": model,
            "found": found,
            "names": NAMES,
            "sentences": [_sentence(each) for each in found] + [_modality_words(each) for each in crossed],
        },
        plain={
            "model": model,
            "findings": [_plain(each) for each in found],
            "modalities": [
                {
                    "label": each.label,
                    "first": each.first,
                    "second": each.second,
                    "readers": each.readers,
                    "n": each.cases,
                }
                | _test_json(each.test)
                for each in crossed
            ],
        },
        metrics=[row for each in found for row in _rows(model, each)],
        methods=METHODS,
    )


def _place(found: LabelReaders) -> str:
    return f"[{found.modality}]" if found.modality else ""


def _sentence(found: LabelReaders) -> str:
    """Say how the model does beside the readers, in AUROC."""
    test, values = found.tests["auroc"], found.metrics["auroc"]
    how = f" ({found.modality})" if found.modality else ""
    words = (
        f"{found.label}{how}: {many(len(found.readers), 'reader')} of the same {many(found.cases, 'case')}, mean AUROC "
        f"{number(float(values[:-1].mean()), 2)}, the model {number(float(values[-1]), 2)}"
    )
    if np.isnan(test.p):
        return f"{words}; {test.difference.reason}."
    p = found.adjusted["auroc"]
    better = "the model is better" if test.difference.value > 0 else "the readers are better"
    verdict = better if p < ALPHA else "no difference is shown"
    return (
        f"{words}: {signed(test.difference.value, 2)} (95 % CI {interval(test.difference, 2, True)}, p "
        f"{compared_p(p)}): {verdict}."
    )


def _modality_words(found: ModalityTest) -> str:
    test = found.test
    return (
        f"{found.label}, {found.second} minus {found.first}: {signed(test.difference.value, 3)} of the mean AUROC "
        f"(95 % CI {interval(test.difference, 3, True)}, p {compared_p(test.p)}; {many(found.readers, 'reader')}, "
        f"{many(found.cases, 'case')})."
    )


def _rows(model: str, found: LabelReaders) -> list[MetricRow]:
    place, of = _place(found), (found.cases, found.positives)
    rows = []
    for name, values in found.metrics.items():
        for reader, value in zip(found.readers, values):
            own = Estimate(float(value), reason="one class only" if np.isnan(value) else f"{NO_INTERVAL}: see the mean")
            rows.append(MetricRow(reader, found.label, f"reader_{name}{place}", own, *of))
        gap = found.tests[name].difference
        rows.append(MetricRow(f"{model} - readers", found.label, f"{name}_difference{place}", gap, *of))
    for pair, kappas in found.kappas.items():
        rows += [MetricRow(" / ".join(pair), found.label, f"{name}{place}", each, *of) for name, each in kappas.items()]
    if len(found.readers) > 1:
        rows.append(MetricRow("readers", found.label, f"fleiss_kappa{place}", found.fleiss, *of))
    return rows


def _test_json(test: Tested) -> dict:
    return {
        "difference": estimate_json(test.difference),
        "statistic": number_json(test.statistic),
        "degrees": number_json(test.degrees),
        "p": number_json(test.p),
    }


def _plain(found: LabelReaders) -> dict:
    return {
        "label": found.label,
        "modality": found.modality,
        "readers": list(found.readers),
        "n": found.cases,
        "patients": found.patients,
        "positives": found.positives,
        "left_out": found.left_out,
        "metrics": {
            name: {
                "readers": [number_json(value) for value in values[:-1]],
                "model": number_json(values[-1]),
                "p_holm": number_json(found.adjusted[name]),
            }
            | _test_json(found.tests[name])
            for name, values in found.metrics.items()
        },
        "agreement": [
            {"readers": list(pair)} | {name: estimate_json(each) for name, each in own.items()}
            for pair, own in found.kappas.items()
        ],
        "fleiss_kappa": estimate_json(found.fleiss),
    }
