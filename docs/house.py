"""Draw the house from its imports when the docs are built: rooms as boxes, arrows to what each imports."""

import ast
import html
from collections import Counter
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGE = "contribute/architecture.md"

# From the ground up: a room imports rooms of lines above it in this list.
FLOORS = (
    ("core",),
    ("backbone", "engine", "datasets", "eval"),
    ("phantoms", "pretrain", "finetune"),
    ("mil", "explain", "compress"),
    ("stages",),
    ("tasks",),
    ("cli",),
)
WIDTH, HEIGHT, GAP, FLOOR = 150, 44, 24, 96


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the house, with the drawing of its imports."""
    page = (ROOT / "docs/contribute/house.txt").read_text(encoding="utf-8")
    page = page.replace("{{drawing}}", drawing(ROOT)).replace("{{rooms}}", rooms(ROOT))
    files.append(File.generated(config, PAGE, content=page))
    return files


def imports(root: Path) -> Counter[tuple[str, str]]:
    """Count the imports between rooms.

    Args:
        root: The repository.

    Returns:
        Number of import statements by (importing room, imported room).
    """
    known = {room for floor in FLOORS for room in floor}
    found: Counter[tuple[str, str]] = Counter()
    for room in known & {path.name for path in root.iterdir() if path.is_dir()}:
        for path in (root / room).rglob("*.py"):
            depth = len(path.relative_to(root).parts) - 1
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level > depth and node.module:
                    target = node.module.split(".")[0]
                    if target in known and target != room:
                        found[room, target] += 1
    return found


def rooms(root: Path) -> str:
    """Return a table of the rooms: the first line of each one's docstring, its files and lines."""
    lines = ["| room | what is in it | files | lines |", "|---|---|---|---|"]
    for floor in FLOORS:
        for room in floor:
            files = list((root / room).rglob("*.py"))
            if not files:
                continue
            words = (
                ast.get_docstring(ast.parse((root / room / "__init__.py").read_text(encoding="utf-8"))) or ""
            ).splitlines()
            count = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
            lines.append(f"| `{room}` | {words[0] if words else ''} | {len(files)} | {count:,} |")
    return "\n".join(lines)


def drawing(root: Path) -> str:
    """Return an SVG of the house, readable on light and dark pages."""
    counts = imports(root)
    present = [tuple(room for room in floor if (root / room).is_dir()) for floor in FLOORS]
    present = [floor for floor in present if floor]
    across = max(map(len, present)) * (WIDTH + GAP)
    place = {}
    for level, floor in enumerate(reversed(present)):
        left = (across - len(floor) * (WIDTH + GAP) + GAP) / 2
        for number, room in enumerate(floor):
            place[room] = (left + number * (WIDTH + GAP), 10 + level * FLOOR)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {len(present) * FLOOR}" role="img" '
        'style="width:100%;max-width:720px" font-family="inherit" font-size="14">',
        "<title>Rooms and their imports</title>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>',
    ]
    for (room, target), number in sorted(counts.items()):
        (x, y), (to_x, to_y) = place[room], place[target]
        down = to_y > y
        start = (x + WIDTH / 2, y + (HEIGHT if down else 0))
        end = (to_x + WIDTH / 2, to_y - 2 if down else to_y + HEIGHT + 2)
        weight = 0.6 + min(number, 40) / 16
        parts.append(
            f'<line x1="{start[0]:.0f}" y1="{start[1]:.0f}" x2="{end[0]:.0f}" y2="{end[1]:.0f}" stroke="currentColor" '
            f'stroke-width="{weight:.1f}" opacity=".28" marker-end="url(#end)"><title>{room} imports {target}: {number}'
            "</title></line>"
        )
    for room, (x, y) in place.items():
        parts.append(
            f'<rect x="{x:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#0d9488" opacity=".95"/>'
            f'<text x="{x + WIDTH / 2:.0f}" y="{y + 27}" text-anchor="middle" fill="#fff">{html.escape(room)}</text>'
        )
    return "".join(parts) + "</svg>"
