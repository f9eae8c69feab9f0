"""Make pages when the docs are built: from parsers, recipes, tables, docstrings, and pages that live elsewhere.

MkDocs calls the functions `on_*` (https://www.mkdocs.org/dev-guide/plugins/#events). Nothing made here is committed, so
that no page can say what the program no longer does.
"""

import dataclasses
import importlib
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

# Pages that are read where they live, too: their path in the repository, and in the docs.
ELSEWHERE = {
    "benchmarks/README.md": "benchmarks.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{f"tasks/{name}/README.md": f"tasks/{name}.md" for name in ("thorax", "slides", "erdes", "images", "clips")},
}
# Rooms whose public names are the Python reference.
PUBLIC = ("", "pretrain", "finetune", "eval", "backbone", "datasets")

COMMANDS = "What `--help-all` prints, without the keys of recipes: those are in [Recipes](recipes.md)."
RECIPES = """A recipe holds every value of a run. Each line below is a key that a YAML file (`--config`) or an option
(`--optim.epochs 50`) may change; the first lines say what a recipe costs and gives."""


def on_startup(command: str, dirty: bool) -> None:
    """Copy the public rooms under the package's name to where mkdocstrings looks for them: nothing else is parsed."""
    from clinvit.core.files import own_folder, write_text

    shown = ROOT / "build/docs_package/clinvit"
    sources = [ROOT / name for name in ("__init__.py", "api.py", "train.py")]
    sources += [path for room in filter(None, PUBLIC) for path in (ROOT / room).rglob("*.py")]
    for source in sources:
        target = shown / source.relative_to(ROOT)
        own_folder(target.parent)
        write_text(target, source.read_text(encoding="utf-8"))


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    made = {
        "reference/commands.md": commands(),
        "reference/recipes.md": recipes(),
        "reference/python.md": python(),
        "reference/papers.md": papers(),
        **{target: moved(source, target) for source, target in ELSEWHERE.items()},
    }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def commands() -> str:
    """Return every verb's whole help, for each task that it knows."""
    from clinvit.cli.command import VERBS, verb_module, verb_parser
    from clinvit.tasks import load, names

    os.environ["COLUMNS"] = "110"
    parts = ["# Commands", "", COMMANDS, ""]
    parts += ["| verb | from what to what |", "|---|---|"]
    parts += [f"| [{verb}](#{verb}) | {words.replace('|', chr(92) + '|')} |" for verb, words in VERBS.items()]
    for verb in VERBS:
        module = verb_module(verb)
        parts += ["", f"## {verb}", ""]
        for task in map(load, names()) if hasattr(module, "TASKS") else [None]:
            parser = verb_parser(verb, module, task)
            if hasattr(module, "RECIPES"):
                parser.more = lambda everything: ""
            text = parser.full_help(True).rstrip()
            if task is None:
                parts += ["```text", text, "```", ""]
            else:
                parts += [f'??? note "{verb} {task.name}"', "", "    ```text", *indented(text), "    ```", ""]
    return "\n".join(parts)


def recipes() -> str:
    """Return every task's recipes: what each is for, and all its keys with their values."""
    from clinvit.tasks import load, names

    parts = ["# Recipes", "", RECIPES, ""]
    for task in map(load, names()):
        parts += ["", f"## {task.name}", ""]
        for stage, made in task.recipes.items():
            for name, make in made.items():
                words = (make.__doc__ or "").strip().splitlines()
                title = words[0].rstrip(".").replace('"', "'") if words else ""
                about = "\n".join(line.removeprefix("    ") for line in words)
                parts += [f'??? note "{stage} --recipe {name}: {title}"', ""]
                parts += ["    ```text", *indented(about), "    ```", ""]
                parts += ["    ```yaml", *indented("\n".join(keys(make()))), "    ```", ""]
    return "\n".join(parts)


def keys(value: Any, before: str = "") -> Iterator[str]:
    """Yield `key: value` for every field of nested dataclasses."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from keys(inner, f"{before}{field.name}.")
        else:
            yield f"{before}{field.name}: {'null' if inner is None else inner}"


def python() -> str:
    """Return the page of all public names, which mkdocstrings fills from docstrings."""
    parts = ["# Python", ""]
    parts += ["What stays from version to version. All of it is typed; see [From Python](../tutorials/python.md).", ""]
    for room in PUBLIC:
        package = importlib.import_module(f"clinvit.{room}".rstrip("."))
        parts += [f"## {package.__name__}", ""]
        for name in sorted(package.__all__):
            thing = getattr(package, name)
            if not name.startswith("__") and getattr(thing, "__module__", "").startswith("clinvit"):
                parts += [f"::: {thing.__module__}.{name}", ""]
    return "\n".join(parts)


def papers() -> str:
    """Return what `clinvit reproduce --list` prints."""
    asked = [sys.executable, "-m", "clinvit.cli", "reproduce", "--list"]
    listing = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT.anchor)
    head = "# The papers' tables\n\nEvery table and row that `clinvit reproduce TABLE` measures or prints."
    return f"{head}\n\n```text\n{listing.stdout.rstrip()}\n```\n"


def moved(source: str, target: str) -> str:
    """Return a page of the repository with its links made those of the docs, or of the file's name where it is no page.

    Args:
        source: Its path in the repository.
        target: Its path in the docs.
    """
    folder, here = posixpath.dirname(source), posixpath.dirname(target)

    def link(match: re.Match[str]) -> str:
        words, goal = match.groups()
        path, _, anchor = goal.partition("#")
        if "://" in goal or not path:
            return match[0]
        place = posixpath.normpath(posixpath.join(folder, path))
        page = ELSEWHERE.get(place, place.removeprefix("docs/") if place.startswith("docs/") else None)
        page = "index.md" if place == "README.md" else page
        if page is None:
            return f"`{place}`" if words == place or words.startswith("`") else f"{words} (`{place}`)"
        return (
            f"[{words}]({posixpath.relpath(page, here or '.')}{'#' + anchor if anchor and place in ELSEWHERE else ''})"
        )

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, (ROOT / source).read_text(encoding="utf-8"))


def indented(text: str) -> list[str]:
    """Return the lines of a block inside of an admonition."""
    return [f"    {line}".rstrip() for line in text.splitlines()]
