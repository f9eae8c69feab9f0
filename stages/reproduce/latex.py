r"""The table as LaTeX, to be taken into a paper by `\input` (packages booktabs and longtable)."""

from ...eval.report.latex import escape
from .cells import Rows, cost_words, interval
from .table import Table


def latex(table: Table, rows: Rows, title: str, banner: str) -> str:
    """Return one `longtable`, a line per row and metric, with the same numbers as the other files.

    Args:
        table: The table.
        rows: Rows, outcomes and cells.
        title: Caption.
        banner: Warning on invented data; empty for real data.
    """
    caption = " ".join(filter(None, [f"{title}.", banner, "95 % intervals in parentheses. Printed:", table.source]))
    head = ["Row", "Metric", "Measured", "Paper", "Verdict", "Cost"]
    lines = [
        "% packages: booktabs, longtable, array",
        r"\begin{longtable}{@{}>{\raggedright}p{38mm}lllp{32mm}p{32mm}@{}}",
        rf"\caption{{{escape(caption)}}}\\",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
    ]
    for row, result, cells in rows:
        for number, cell in enumerate(cells):
            shown = "–" if cell.measured is None else cell.metric.number(cell.measured.value)
            if cell.measured is not None and (between := interval(cell.measured, cell.metric)):
                shown += f" ({between})"
            values = [row.words if not number else "", cell.metric.words, shown, cell.metric.printed(cell.paper)]
            values += ["; ".join(filter(None, [cell.verdict, cell.beside()])), cost_words(result) if not number else ""]
            lines.append(" & ".join(map(escape, values)) + r" \\")
    return "\n".join([*lines, r"\end{longtable}", ""])
