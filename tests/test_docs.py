"""The pages of `docs/` build without a warning and without a network, and say what the program says."""

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build the pages as a reader would, in a process that can open no connection."""
    out = tmp_path_factory.mktemp("site")
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from mkdocs.__main__ import cli\n"
        "cli(['build', '--strict', '--quiet', '--config-file', sys.argv[1], '--site-dir', sys.argv[2]])"
    )
    command = [sys.executable, "-c", code, str(ROOT / "mkdocs.yml"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_every_verb_recipe_and_public_name_has_its_place(site):
    import clinvit.eval
    from clinvit.cli.command import VERBS
    from clinvit.tasks import all_tasks

    commands = (site / "reference/commands/index.html").read_text()
    assert all(f'id="{verb}"' in commands for verb in VERBS)
    recipes = (site / "reference/recipes/index.html").read_text()
    for task in all_tasks():
        assert all(f"{stage} --recipe {name}:" in recipes for stage, made in task.recipes.items() for name in made)
    python = (site / "reference/python/index.html").read_text()
    assert all(f".{name}" in python for name in clinvit.eval.__all__)


@pytest.mark.slow
def test_the_house_is_drawn_from_its_imports(site):
    page = (site / "contribute/architecture/index.html").read_text()
    assert "stages imports datasets" in page and "backbone imports datasets" not in page


@pytest.mark.slow
def test_pages_ask_nothing_of_the_network(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        for tag in ('src="http', "src='http", '<link rel="stylesheet" href="http', "@import"):
            assert tag not in text, f"{page}: {tag}"


@pytest.mark.slow
def test_the_search_knows_the_words_of_the_glossary(site):
    index = (site / "search/search_index.json").read_text()
    assert "non-inferior" in index and "Glossary" in index
