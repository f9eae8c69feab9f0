"""Buttons for Colab and Kaggle, and the address to clone, follow the address in `pyproject.toml`."""

import importlib.util
import json
import re

import pytest

from .conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
ADDRESS = "https://github.com/owner/clinvit"


@pytest.fixture(scope="module")
def buttons():
    spec = importlib.util.spec_from_file_location("buttons", ROOT / "docs/buttons.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_as_the_script_writes_them(buttons):
    address = buttons.repository((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert buttons.notebook(text, path.name, address) == text, f"{path.name}: run docs/buttons.py"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert buttons.readme(text, [path.name for path in NOTEBOOKS], address) == text, "README: run docs/buttons.py"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_address_gives_both_buttons_and_the_clone_and_its_removal_takes_them_away(buttons, path):
    text = path.read_text(encoding="utf-8")
    with_buttons = buttons.notebook(text, path.name, ADDRESS)
    first, install = (("".join(cell["source"])) for cell in json.loads(with_buttons)["cells"][:2])
    place = f"owner/clinvit/blob/main/examples/{path.name}"
    assert f"(https://colab.research.google.com/github/{place})" in first
    assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/{place})" in first
    assert f'REPOSITORY = "{ADDRESS}"' in install
    assert buttons.notebook(with_buttons, path.name, ADDRESS) == with_buttons
    assert buttons.notebook(with_buttons, path.name, "") == buttons.notebook(text, path.name, "")


def test_readme_gets_them_too(buttons):
    text, names = (ROOT / "README.md").read_text(encoding="utf-8"), [path.name for path in NOTEBOOKS]
    found = buttons.readme(text, names, ADDRESS)
    assert found.count("colab.research.google.com") == found.count("kaggle.com") == len(names)
    assert f"git clone {ADDRESS} && cd clinvit" in found and buttons.UNKNOWN not in found
    assert buttons.readme(found, names, ADDRESS) == found and buttons.readme(found, names, "") == text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_of_code_installs_where_nothing_is_installed(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    source = "".join(cells[0]["source"])
    assert "git clone --depth 1 $REPOSITORY clinvit-src" in source and './clinvit-src[all]"' in source
    assert "import clinvit" not in source and re.search(r'find_spec\("clinvit"\) is None', source)
    # Every later cell finds its own files: nothing but the package is taken from a checkout.
    assert not re.search(r"clinvit-src|/examples/", "".join("".join(cell["source"]) for cell in cells[1:]))


@pytest.mark.parametrize("address", ["https://gitlab.com/owner/clinvit", "owner/clinvit", "https://github.com/owner"])
def test_an_address_that_no_service_opens_is_refused(buttons, address):
    with pytest.raises(ValueError, match="OWNER/NAME"):
        buttons.repository(f'[project]\nurls = {{ Repository = "{address}" }}\n')
    assert buttons.repository("[project]\n") == ""
    assert buttons.repository(f'[project]\nurls = {{ Repository = "{ADDRESS}.git" }}\n') == ADDRESS
