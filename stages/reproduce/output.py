"""The table as files: `table.csv`, `table.json`, `table.md`, `table.tex` and the self-contained page `table.html`."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from ...core.files import write_json, write_text
from ...datasets.manifest.cells import without_formulas
from ...datasets.manifest.tables import Manifest
from ...eval.statistics.intervals import Estimate
from .cells import Rows, cells, cost_words, interval, remarks
from .latex import latex
from .metrics import plain
from .result import DONE, RowResult
from .table import Table

BANNER = (
    "Invented data. Every measured metric here is of a small model on phantoms: it shows that the recipe runs, and "
    "says nothing about the paper's values."
)
REAL, INVENTED = "real data", "INVENTED DATA (phantoms)"
READING = (
    "The interval is of the test cases, resampled by patient: it does not show how much a second training would "
    "differ, and of twenty true metrics one falls outside by chance."
)


def write_table(
    folder: Path, table: Table, results: Sequence[RowResult], *, phantoms: bool, manifest: Manifest | None
) -> None:  # fmt: skip
    """Write all five files.

    Args:
        folder: Where to.
        table: The table.
        results: One per row, in the table's order.
        phantoms: Measured on invented data: every file says so, and nothing is judged.
        manifest: What was measured on; None without data.
    """
    rows = [(row, result, cells(table, row, result, phantoms)) for row, result in zip(table.rows, results, strict=True)]
    write_text(folder / "table.csv", _csv(rows, phantoms))
    write_json(folder / "table.json", _json(table, rows, phantoms, manifest))
    write_text(folder / "table.md", _markdown(table, rows, phantoms))
    write_text(folder / "table.tex", latex(table, rows, _title(table, phantoms), BANNER if phantoms else ""))
    write_text(folder / "table.html", _html(table, rows, phantoms, manifest))


COLUMNS = (
    "row", "words", "metric", "measured", "low", "high", "paper", "paper_source", "verdict", "cases", "patients",
    "failed_cases", "state", "remarks", "hours", "device_hours", "device", "peak_memory_gib", "memory", "data",
    "most_frequent_class",
)  # fmt: skip


def _csv(rows: Rows, phantoms: bool) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, result, cells_of_row in rows:
        cost, of = result.cost, result.measured
        facts = [of.cases, of.patients, of.failed, result.state, "; ".join(remarks(row, result))]
        if cost.starts:
            facts += [f"{cost.seconds / 3600:.4f}", f"{cost.device_seconds / 3600:.4f}", cost.device]
            facts += [f"{cost.peak_gib:.3f}", cost.memory]
        else:
            facts += [""] * 5
        for cell in cells_of_row:
            estimate = cell.measured or Estimate(math.nan)
            metrics = [_plain(value) for value in (estimate.value, estimate.low, estimate.high)]
            paper = ["", ""] if cell.paper is None else [_plain(cell.paper.value), cell.paper.source]
            line = [
                row.name,
                row.words,
                cell.metric.key,
                *metrics,
                *paper,
                cell.verdict,
                *facts,
                INVENTED if phantoms else REAL,
                _plain(cell.baseline),
            ]
            writer.writerow([without_formulas(each) if isinstance(each, str) else each for each in line])
    return file.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def _json(table: Table, rows: Rows, phantoms: bool, manifest: Manifest | None) -> dict:
    return {
        "table": table.name,
        "title": _title(table, phantoms),
        "invented_data": phantoms,
        "source": table.source,
        "data": {"wanted": table.data} | ({"manifest": str(manifest.path), "cases": len(manifest)} if manifest else {}),
        "threshold_rule": table.rule,
        "notes": [*([BANNER] if phantoms else []), *table.notes],
        "rows": [
            {
                "row": row.name,
                "words": row.words,
                "state": result.state,
                "remarks": remarks(row, result),
                "cases": result.measured.cases,
                "patients": result.measured.patients,
                "failed_cases": result.measured.failed,
                "cost": {
                    "hours": result.cost.seconds / 3600,
                    "device_hours": result.cost.device_seconds / 3600,
                    "starts": result.cost.starts,
                    "device": result.cost.device,
                    "peak_memory_gib": result.cost.peak_gib,
                    "memory": result.cost.memory,
                },
                "metrics": {
                    cell.metric.key: {
                        "measured": plain(cell.measured) if cell.measured is not None else None,
                        "paper": cell.paper.value if cell.paper is not None else None,
                        "paper_source": cell.paper.source if cell.paper is not None else "",
                        "verdict": cell.verdict,
                        "most_frequent_class": cell.baseline,
                    }
                    for cell in found
                },
            }
            for row, result, found in rows
        ],
    }


def _title(table: Table, phantoms: bool) -> str:
    return f"{table.title} [{INVENTED}]" if phantoms else table.title


def _reading(table: Table) -> list[str]:
    """Return how to read intervals of test cases; nothing of a table without any."""
    return [READING] if table.data else []


def _markdown(table: Table, rows: Rows, phantoms: bool) -> str:
    lines = [f"# {_title(table, phantoms)}", "", *([f"**{BANNER}**", ""] if phantoms else []), table.source, ""]
    head = ["row", "metric", "measured", "95 % interval", "paper", "verdict", "cases", "cost", "data"]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row, result, found in rows:
        for cell in found:
            known = cell.measured is not None
            shown = cell.metric.number(cell.measured.value) if known else "–"
            values = [
                row.words, cell.metric.words, f"{shown} ({cell.beside()})" if cell.beside() else shown,
                interval(cell.measured, cell.metric) if known else "", cell.metric.printed(cell.paper), cell.verdict,
                str(result.measured.cases or ""), cost_words(result), "invented" if phantoms else "real",
            ]  # fmt: skip
            lines.append("| " + " | ".join(value.replace("|", "\\|") for value in values) + " |")
    notes_of_rows = [f"- {row.words}: {'; '.join(texts)}" for row, result, _ in rows if (texts := remarks(row, result))]
    notes = [f"- {note}" for note in (*_reading(table), *table.notes)]
    return "\n".join([*lines, "", *notes_of_rows, "", *notes, ""])


def _html(table: Table, rows: Rows, phantoms: bool, manifest: Manifest | None) -> str:
    from ...eval.report.templating import environment, inlined

    templates = environment()
    templates.filters.update(interval=interval)
    return templates.get_template("reproduce.html.j2").render(
        table=table,
        title=_title(table, phantoms),
        rows=[
            {"row": row, "result": result, "cells": found, "remarks": remarks(row, result), "cost": cost_words(result)}
            for row, result, found in rows
        ],
        banner=BANNER if phantoms else "",
        reading=_reading(table),
        manifest=manifest,
        done=sum(result.state == DONE for _, result, _ in rows),
        css=inlined("report.css"),
    )
