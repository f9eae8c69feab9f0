"""The conda recipe asks for what `pyproject.toml` asks for, under conda-forge's names."""

import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from .conftest import ROOT

# PyPI's name to conda-forge's, where they differ.
NAMES = {
    "torch": "pytorch",
    "opencv-python-headless": "py-opencv",
    "python-gdcm": "gdcm",
    "matplotlib": "matplotlib-base",
}
OF_EXTRAS = {"docstring_parser", "typeshed_client"}  # what `jsonargparse[signatures]` adds
NOT_ON_CONDA = {"openslide-bin"}  # the library that openslide-python depends on there anyway


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def recipe() -> dict:
    return yaml.safe_load((ROOT / "recipe/recipe.yaml").read_text(encoding="utf-8"))


def of_conda(lines: list[str]) -> dict[str, SpecifierSet]:
    return {name: SpecifierSet(versions.strip()) for name, _, versions in (line.partition(" ") for line in lines)}


def of_pypi(lines: list[str]) -> dict[str, SpecifierSet]:
    found = [Requirement(line) for line in lines]
    return {NAMES.get(each.name, each.name): each.specifier for each in found if each.name != "clinvit"}


def test_what_is_needed_is_the_same(project, recipe):
    asked = of_conda(recipe["requirements"]["run"])
    assert asked.pop("python") == SpecifierSet(project["requires-python"])
    assert {name: asked[name] for name in asked if name not in OF_EXTRAS} == of_pypi(project["dependencies"])
    assert asked.keys() >= OF_EXTRAS and "jsonargparse[signatures]" in " ".join(project["dependencies"])


def test_extras_have_the_same_versions_and_are_named(project, recipe):
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "all"}
    asked = of_pypi([line for lines in extras.values() for line in lines])
    for name in NOT_ON_CONDA:
        asked.pop(name)
    assert of_conda(recipe["requirements"]["run_constraints"]) == asked
    text = (ROOT / "recipe/recipe.yaml").read_text(encoding="utf-8")
    for extra, lines in extras.items():
        for name in of_pypi(lines).keys() - NOT_ON_CONDA:
            (line,) = (line for line in text.splitlines() if line.strip().startswith(f"- {name} "))
            assert extra in line.partition("#")[2].replace(",", "").split(), f"{name}: {extra} is not named"


def test_version_command_and_license_are_the_projects(project, recipe):
    assert recipe["context"]["version"] == project["version"]
    assert recipe["build"]["python"]["entry_points"] == [f"clinvit = {project['scripts']['clinvit']}"]
    assert recipe["about"]["license"] == project["license"] and recipe["about"]["summary"] == project["description"]
