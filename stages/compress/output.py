"""A compression as files: `compress.csv`, `compress.json`, the page `compress.html`, and what the model's card says."""

import csv
import io
import math
from typing import Any

from ...core.files import file_sha256, write_json, write_text
from ...datasets.manifest.cells import without_formulas
from ...eval.statistics.intervals import Estimate
from ...finetune.model import ModelCard
from .judge import NOT_JUDGED, Finding, Judged
from .opened import Opened
from .result import Compressed, Try, megabytes

COLUMNS = (
    "name", "steps", "form", "verdict", "chosen", "finding", "finding_verdict", "auroc_loss", "auroc_loss_low",
    "auroc_loss_high", "patients_in_smaller_class", "macro_auroc", "macro_auroc_low", "macro_auroc_high", "mb",
    "cases_per_second", "parameters", "times_as_small", "times_as_fast",
)  # fmt: skip


def write_output(found: Compressed, opened: Opened) -> None:
    """Write the table as CSV and JSON, and the page."""
    write_text(found.folder / "compress.csv", _csv(found))
    write_json(found.folder / "compress.json", compressed_json(found, opened))
    write_text(found.folder / "compress.html", _html(found))


def compressed_json(found: Compressed, opened: Opened) -> dict[str, Any]:
    """Return all that is known, as plain values."""
    return {
        "sentences": found.sentences(),
        "margin": found.margin,
        "target": found.target,
        "epochs": found.epochs,
        "split": "val",
        "model_sha256": file_sha256(opened.model / ModelCard.weights_file),
        "chosen": found.chosen.name,
        "not_judged": dict(found.rare),
        "tries": [_try(each, found) for each in found.tries],
        "test": None if found.confirmed is None else _judged(found.confirmed),
    }


def compression_facts(found: Compressed, opened: Opened) -> dict[str, Any]:
    """Return what the model's card says: the whole path from the model that it was."""
    chosen = found.chosen
    assert chosen.judged is not None, "what is chosen was judged"
    return {
        "from": {
            "network": opened.card.network_words(),
            "parameters": found.whole.parameters,
            "sha256": file_sha256(opened.model / ModelCard.weights_file),
        },
        "steps": chosen.words,
        "form": chosen.form,
        "parameters": chosen.parameters,
        "times_as_small": round(found.whole.bytes / chosen.bytes, 3),
        "times_as_fast": round(chosen.rate / found.whole.rate, 3),
        "margin": found.margin,
        "validation": _judged(chosen.judged),
        "test": None if found.confirmed is None else _judged(found.confirmed),
        "not_judged": dict(found.rare),
        "tried_before": [f"{each.words}: {each.verdict}" for each in found.tries[: found.tries.index(chosen)]],
    }


def _try(each: Try, found: Compressed) -> dict[str, Any]:
    return {
        "name": each.name,
        "steps": each.words,
        "form": each.form,
        "bytes": each.bytes,
        "cases_per_second": each.rate,
        "parameters": each.parameters,
        "times_as_small": found.whole.bytes / each.bytes,
        "times_as_fast": each.rate / found.whole.rate,
        "verdict": each.verdict,
        "passed": each.passed,
        "chosen": each is found.chosen,
        "judged": None if each.judged is None else _judged(each.judged),
    }


def _judged(judged: Judged) -> dict[str, Any]:
    return {
        "cases": judged.cases,
        "patients": judged.patients,
        "failed": judged.failed,
        "macro_auroc": _estimate(judged.auroc),
        "macro_loss": _estimate(judged.loss),
        "findings": [
            {
                "finding": each.label,
                "verdict": each.verdict,
                "loss": _estimate(each.loss),
                "patients_in_smaller_class": each.patients,
                "reason": each.why,
            }
            for each in judged.findings
        ],
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: None if math.isnan(value) else round(value, 6) for name, value in ends.items()}


def _csv(found: Compressed) -> str:
    """Return a line per form and finding; of what was not tried one line."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in found.tries:
        sizes = [
            f"{each.bytes / 1e6:.3f}", f"{each.rate:.3f}", each.parameters, f"{found.whole.bytes / each.bytes:.3f}",
            f"{each.rate / found.whole.rate:.3f}",
        ]  # fmt: skip
        head = [each.name, each.words, each.form, each.verdict, "yes" if each is found.chosen else ""]
        judged = each.judged
        macro = ["", "", ""] if judged is None else _cells(judged.auroc)
        for finding in (None,) if judged is None else judged.findings:
            own = [""] * 6 if finding is None else _finding_cells(finding)
            line = [*head, *own, *macro, *sizes]
            writer.writerow([without_formulas(cell) if isinstance(cell, str) else cell for cell in line])
    return file.getvalue()


def _finding_cells(finding: Finding) -> list[Any]:
    verdict = f"{finding.verdict}: {finding.why}" if finding.why else finding.verdict
    return [finding.label, verdict, *_cells(finding.loss), finding.patients]


def _cells(estimate: Estimate) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6f}" for value in (estimate.value, estimate.low, estimate.high)]


def _html(found: Compressed) -> str:
    from ...eval.report.difference_plot import difference_forest
    from ...eval.report.formats import interval, number, signed
    from ...eval.report.speed_plot import Speed, speed_plot
    from ...eval.report.templating import environment, inlined

    templates = environment()
    templates.filters.update(number=number, signed=signed, interval=interval)
    judged = found.chosen.judged
    assert judged is not None, "what is chosen was judged"
    findings = judged.findings
    points = [Speed(each.name, each.rate, each.bytes, each.judged.auroc) for each in found.tries if each.judged]
    return templates.get_template("compress.html.j2").render(
        found=found,
        sentences=found.sentences(),
        judged=judged,
        megabytes=megabytes,
        css=inlined("report.css"),
        speed=speed_plot(points, "speed", _alt(found)),
        losses=difference_forest(
            [each.label for each in findings], [each.loss for each in findings],
            [each.verdict != NOT_JUDGED for each in findings], "loss of AUROC", "losses",
            "; ".join(f"{each.label}: loss {number(each.loss.value)}, {each.verdict}" for each in findings),
        ),
    )  # fmt: skip


def _alt(found: Compressed) -> str:
    tried = [each for each in found.tries if each.judged is not None]
    return "Macro AUROC over cases a second: " + "; ".join(
        f"{each.name} {each.judged.auroc.value:.3f} at {each.rate:.1f}" for each in tried if each.judged is not None
    )
