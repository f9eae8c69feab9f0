"""All tables of all tasks, found by name."""

from collections.abc import Iterable, Sequence

from ...core.errors import UserError
from ..task import Task
from .table import Row, Table


def find_table(name: str, tasks: Iterable[Task]) -> tuple[Table, Task]:
    """Return the table of this name, and the task that it is of.

    Raises:
        UserError: There is none.
    """
    tasks = list(tasks)
    named = [task for task in tasks if task.name == name.partition("/")[0]]
    known = {each: (table, task) for task in named or tasks for each, table in task.tables().items()}
    if name not in known:
        from ...datasets.manifest.tables import nearest

        raise UserError(f"no table {name!r}{nearest(name, known)}; `clinvit reproduce --list` shows all.")
    return known[name]


def chosen_rows(table: Table, names: Sequence[str]) -> list[Row]:
    """Return the rows of these names, in the table's order.

    Raises:
        UserError: One of them is none.
    """
    known = {row.name: row for row in table.rows}
    for name in names:
        if name not in known:
            from ...datasets.manifest.tables import nearest

            raise UserError(f"{table.name}: no row {name!r}{nearest(name, known)}; it has {', '.join(known)}.")
    return [row for row in table.rows if row.name in names]


def listing(tasks: Iterable[Task]) -> str:
    """Return every table and row with the paper's values, as text."""
    return "\n\n".join(_listed(table) for task in tasks for table in task.tables().values())


def _listed(table: Table) -> str:
    width = max(len(row.name) for row in table.rows) + 2
    lines = [table.name, f"  {table.title}", f"  {table.source}", f"  data: {table.data or 'none needed'}"]
    for row in table.rows:
        metrics = ", ".join(f"{metric.words} {metric.printed(row.paper.get(metric.key))}" for metric in table.metrics)
        lines.append(f"    {row.name:{width}}{row.words}: {metrics}{'' if row.steps else f'; not run: {row.note}'}")
    return "\n".join(lines)
