"""What a monitor found, as one page that a clinician reads, and as JSON: verdicts first, every plot with its rule."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract import Contract
from ..months import Months
from ..statistics.drift import (
    CALIBRATION,
    IN_BOUNDS,
    OF_TRUTH,
    OUT_OF_BOUNDS,
    SCORES,
    TOO_FEW,
    Watched,
    shown,
)
from .formats import many, number, signed

ROLL_BACK, LOOK = "roll back", "a person looks for the cause"
MOST_PLOTS = 12
_ORDER = (OUT_OF_BOUNDS, TOO_FEW, IN_BOUNDS)
_WIDTH, _HEIGHT, _FLOOR = 260, 96, -1.0  # px of a plot; evidence below is drawn there


def monitor_page(
    found: Sequence[Watched], contract: Contract, months: Months, names: Sequence[str], notes: Sequence[str]
) -> str:
    """Return the page as one self-contained HTML text.

    Args:
        found: What is watched.
        contract: That it is held against.
        months: The cases.
        names: Of their tables.
        notes: Reservations, without names of people.
    """
    from .templating import environment, inlined

    templates = environment()
    templates.filters.update(number=number, many=many)
    rows = sorted(found, key=lambda each: _ORDER.index(each.verdict))
    return templates.get_template("monitor.html.j2").render(
        heading=_capital(verdict(found)),
        sentences=sentences(found, contract, months, names),
        notes=notes,
        rows=[_row(each, contract, months, names) for each in rows],
        plots=[_plot(each) for each in rows if each.path][:MOST_PLOTS],
        more_plots=max(0, sum(bool(each.path) for each in rows) - MOST_PLOTS),
        contract=contract,
        cuts=_cuts(contract),
        names=names,
        cases=len(months.rows),
        patients=len(np.unique(months.cases.patients)),
        css=inlined("report.css"),
    )


def monitor_json(
    found: Sequence[Watched], contract: Contract, months: Months, names: Sequence[str], notes: Sequence[str]
) -> dict[str, Any]:
    """Return what `monitor.json` holds; the arguments are those of `monitor_page`."""
    return {
        "verdict": verdict(found),
        "since": _earliest(found, months, names),
        "roll_back": any(action(each, contract) == ROLL_BACK for each in found),
        "sentences": sentences(found, contract, months, names),
        "notes": list(notes),
        "model_sha256": contract.model,
        "contract_written": contract.written,
        "alpha": contract.alpha,
        "tables": list(names),
        "cases": len(months.rows),
        "patients": len(np.unique(months.cases.patients)),
        "quantities": [_quantity(each, contract, months, names) for each in found],
        "not_watched": contract.not_watched,
    }


def verdict(found: Sequence[Watched]) -> str:
    """Return the verdict on all quantities: the worst, but too few cases of some do not hide that others are shown."""
    verdicts = {each.verdict for each in found}
    return next((each for each in (OUT_OF_BOUNDS, IN_BOUNDS) if each in verdicts), TOO_FEW)


def first_line(found: Sequence[Watched], contract: Contract, months: Months, names: Sequence[str]) -> str:
    """Return the verdict in one line: `out of bounds since row 214 of march.csv (sensitivity of Mass): roll back`."""
    overall = verdict(found)
    if overall != OUT_OF_BOUNDS:
        counts = {each: sum(one.verdict == each for one in found) for each in (IN_BOUNDS, TOO_FEW)}
        few = f"; {counts[TOO_FEW]} with too few cases" if overall == IN_BOUNDS and counts[TOO_FEW] else ""
        return f"{overall} ({counts[overall]} of {len(found)} quantities{few})"
    out = [each for each in found if each.verdict == OUT_OF_BOUNDS]
    first = _earliest(found, months, names)
    what = ", ".join(name(each) for each in out[:3]) + (f" and {len(out) - 3} more" if len(out) > 3 else "")
    back = any(action(each, contract) == ROLL_BACK for each in out)
    return f"{overall} since {_since_words(first)} ({what}): {ROLL_BACK if back else LOOK}"


def sentences(found: Sequence[Watched], contract: Contract, months: Months, names: Sequence[str]) -> list[str]:
    """Say the verdict, what is out of bounds, since when, and what the contract asks for."""
    said = [f"{_capital(first_line(found, contract, months, names))}."]
    for each in found:
        if each.verdict == OUT_OF_BOUNDS:
            said.append(_out_words(each, contract, months, names))
    return said


def name(each: Watched) -> str:
    """Return `sensitivity of Mass`."""
    own = each.reference
    return f"{own.kind} of {own.label}" if own.label else own.kind


def action(each: Watched, contract: Contract) -> str:
    """Return what the contract asks for; empty for what is not out of bounds."""
    if each.verdict != OUT_OF_BOUNDS:
        return ""
    return ROLL_BACK if contract.rollback["when"].get(each.reference.kind) == each.side else LOOK


def _out_words(each: Watched, contract: Contract, months: Months, names: Sequence[str]) -> str:
    """Say since when a quantity is out of bounds, and what it was in the table in which the alarm was raised."""
    table = int(months.tables[each.since])
    own = each.by_table[table]
    return (
        f"{_capital(name(each))}{_part_words(each, contract)}: {_value(each, own.value)} over "
        f"{many(own.patients, 'patient')} of {names[table]}, {_value(each, each.value)} over all {each.patients:,}; "
        f"{each.side} its bounds of {_bounds(each)} since {_since_words(_since(each, months, names))}: "
        f"{action(each, contract)}{_to(each, contract)}."
    )


def _to(each: Watched, contract: Contract) -> str:
    return f" to {contract.rollback['to']}" if action(each, contract) == ROLL_BACK else ""


def _row(each: Watched, contract: Contract, months: Months, names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": _capital(name(each)),
        "part": _part_words(each, contract).strip(" ()"),
        "verdict": each.verdict,
        "since": _since_words(_since(each, months, names)) if each.verdict == OUT_OF_BOUNDS else "",
        "side": each.side,
        "action": action(each, contract),
        "why": _why_few(each),
        "patients": each.patients,
        "value": _value(each, each.value),
        "between": f"{_value(each, each.low)} to {_value(each, each.high)}" if each.patients else "",
        "reference": _value(each, each.reference.value[each.part]),
        "bounds": _bounds(each),
        "evidence": number(each.evidence, 1),
        "limit": number(each.limit, 1),
        "tables": [(_value(each, one.value), one.patients) for one in each.by_table],
    }


def _quantity(each: Watched, contract: Contract, months: Months, names: Sequence[str]) -> dict[str, Any]:
    own, kind = each.reference, each.reference.kind

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else round(shown(kind, value), 6)

    return {
        "quantity": kind,
        "label": own.label,
        "verdict": each.verdict,
        "since": _since(each, months, names),
        "side": each.side,
        "action": action(each, contract),
        "patients": each.patients,
        "edge": contract.edges[each.part] if kind == SCORES else None,
        "value": plain(each.value),
        "low": plain(each.low),
        "high": plain(each.high),
        "reference": plain(own.value[each.part]),
        "reference_patients": own.patients,
        "bounds": [plain(own.low[each.part]), plain(own.high[each.part])],
        "evidence_log10": round(each.evidence, 4),
        "alarm_at_log10": round(each.limit, 4),
        "by_table": [
            {"table": table, "patients": one.patients, "value": plain(one.value)}
            for table, one in zip(names, each.by_table)
        ],
    }


def _since(each: Watched, months: Months, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the case at which the alarm was raised, by date, table and row."""
    if each.since is None:
        return None
    place, truth = each.since, each.reference.kind in OF_TRUTH
    return {
        "date": months.dates[truth][place] or None,
        "table": names[months.tables[place]],
        "row": int(months.rows[place]),
    }


def _earliest(found: Sequence[Watched], months: Months, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the first alarm in time; one by a truth that came later counts when that came."""
    out = [each for each in found if each.since is not None]
    if not out:
        return None

    def when(each: Watched) -> tuple[str, int]:
        truth = each.reference.kind in OF_TRUTH
        return str(months.dates[truth][each.since]), int(months.times[truth][each.since])

    return _since(min(out, key=when), months, names)


def _since_words(since: dict[str, Any] | None) -> str:
    if since is None:
        return ""
    where = f"row {since['row']} of {since['table']}"
    return f"{since['date']}, {where}" if since["date"] else where


def _value(each: Watched, value: float) -> str:
    own = shown(each.reference.kind, value)
    return signed(own) if each.reference.kind == CALIBRATION else number(own)


def _bounds(each: Watched) -> str:
    own = each.reference
    return f"{_value(each, own.low[each.part])} to {_value(each, own.high[each.part])}"


def _part_words(each: Watched, contract: Contract) -> str:
    if each.reference.kind == SCORES:
        return f" (share of scores up to {contract.edges[each.part]:g})"
    return " (truth minus score)" if each.reference.kind == CALIBRATION else ""


def _why_few(each: Watched) -> str:
    if each.verdict != TOO_FEW:
        return ""
    if each.patients:
        return "a change worth noticing is not ruled out"
    return "no case with known truth yet" if each.reference.kind in OF_TRUTH else "no case yet"


def _cuts(contract: Contract) -> list[tuple[str, str]]:
    if contract.exclusive:
        return []
    return [(label, number(cut)) for label, cut in zip(contract.labels, contract.cuts())]


def _plot(each: Watched) -> dict[str, Any]:
    """Return the line of the evidence over patients and the height of the alarm, in px."""
    path = np.clip(each.path, _FLOOR, None)
    top = max(each.limit * 1.25, float(path.max()) * 1.05)

    def height(value: float) -> float:
        return round(_HEIGHT * (1 - (value - _FLOOR) / (top - _FLOOR)), 1)

    steps = np.linspace(0, _WIDTH, max(2, len(path)))[: len(path)]
    return {
        "name": _capital(name(each)),
        "verdict": each.verdict,
        "points": " ".join(f"{x:.1f},{height(float(y))}" for x, y in zip(steps, path)),
        "alarm": height(each.limit),
        "width": _WIDTH,
        "height": _HEIGHT,
        "patients": each.patients,
        "alt": f"Evidence against the bounds after each of {many(each.patients, 'patient')}: largest "
        f"{number(each.evidence, 1)}, alarm at {number(each.limit, 1)}.",
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
