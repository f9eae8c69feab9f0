"""What the README shows works: its Python runs, its commands and files exist."""

import re
from pathlib import Path

import pytest
from clinvit.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("tasks/*/README.md"))]


def blocks(language: str) -> list[str]:
    return [code for page in PAGES for code in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code):
    exec(compile(code, "README", "exec"), {})


@pytest.mark.parametrize(
    "line", sorted({m for page in PAGES for m in re.findall(r"^ *(clinvit .*)$", page.read_text(), re.M)})
)
def test_commands_are_understood(line):
    words = line.split("#")[0].replace("'", "").split()[1:]
    options, rest = build_parser().parse_known_args(words)
    assert options.verb == words[0] and (not rest or "recipes" in options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
