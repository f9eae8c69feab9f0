"""All tables of all tasks, found by name."""

import importlib
from collections.abc import Sequence

from ...core.errors import UserError
from .table import Row, Table

# What tables' names begin with, and the modules below `tasks` that hold them.
MODULES = {"thorax": "thorax.tables", "slides": "slides.tables", "erdes": "erdes.tables", "video": "erdes.video_tables"}


def tables(*beginnings: str) -> dict[str, Table]:
    """Name to table, in the order of the tasks: all, or those that begin so."""
    found: dict[str, Table] = {}
    for beginning in beginnings or MODULES:
        found |= importlib.import_module(f"clinvit.tasks.{MODULES[beginning]}").TABLES
    return found


def find_table(name: str) -> Table:
    """The table of this name.

    Raises:
        UserError: There is none.
    """
    beginning = name.partition("/")[0]
    known = tables(beginning) if beginning in MODULES else tables()
    if name not in known:
        from ...datasets.manifest.tables import nearest

        raise UserError(f"no table {name!r}{nearest(name, known)}; `clinvit reproduce --list` shows all.")
    return known[name]


def chosen_rows(table: Table, names: Sequence[str]) -> list[Row]:
    """The rows of these names, in the table's order.

    Raises:
        UserError: One of them is none.
    """
    known = {row.name: row for row in table.rows}
    for name in names:
        if name not in known:
            from ...datasets.manifest.tables import nearest

            raise UserError(f"{table.name}: no row {name!r}{nearest(name, known)}; it has {', '.join(known)}.")
    return [row for row in table.rows if row.name in names]


def listing() -> str:
    """Every table and row with the paper's values, as text."""
    return "\n\n".join(_told(table) for table in tables().values())


def _told(table: Table) -> str:
    width = max(len(row.name) for row in table.rows) + 2
    lines = [table.name, f"  {table.title}", f"  {table.source}", f"  data: {table.data or 'none needed'}"]
    for row in table.rows:
        metrics = ", ".join(f"{metric.words} {metric.printed(row.paper.get(metric.key))}" for metric in table.metrics)
        lines.append(f"    {row.name:{width}}{row.words}: {metrics}")
    return "\n".join(lines)
