"""The Dockerfile says what the docs promise of its image: targets for CPU and CUDA, no root, nothing fetched later.

Docker itself is not needed here: the instructions are read.
"""

import json
import re
import tomllib
from typing import NamedTuple

import pytest
from packaging.specifiers import SpecifierSet

from .conftest import ROOT

PAGES = (ROOT / "README.md", ROOT / "docs/index.md", ROOT / "Dockerfile")


class Stage(NamedTuple):
    """One stage: the image or stage it begins with, and (instruction, arguments) in their order."""

    begins: str
    lines: list[tuple[str, str]]


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    found: dict[str, Stage] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            begins, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            found[name] = Stage(begins, [])
        else:
            next(reversed(found.values())).lines.append((word, rest))
    return found


def whole(stages: dict[str, Stage], name: str) -> list[tuple[str, str]]:
    """Return the instructions of a stage and of those it begins with."""
    before = whole(stages, stages[name].begins) if stages[name].begins in stages else []
    return before + stages[name].lines


def test_both_targets_are_there_and_cuda_is_the_default(stages):
    assert {"cpu", "cuda"} <= stages.keys() and list(stages)[-1] == "cuda"
    for name, built in (("cpu", "build-cpu"), ("cuda", "build-cuda")):
        assert stages[name].begins == "run"
        assert stages[name].lines == [("COPY", f"--from={built} /opt/clinvit /opt/clinvit")]
        assert ("RUN", 'pip install "/src[all]"') in stages[built].lines
    assert "whl/cpu" in dict(stages["build-cpu"].lines[:1])["RUN"]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_it_runs_without_root_and_fetches_nothing(stages, target):
    lines = whole(stages, target)
    users = [rest for word, rest in lines if word == "USER"]
    assert users and users[-1] not in ("root", "0") and not users[-1].startswith("0:")
    after = lines[max(i for i, (word, _) in enumerate(lines) if word == "USER") :]
    assert not [rest for word, rest in after if word in ("RUN", "ADD")], "something is installed by no root"
    assert not [rest for word, rest in lines if word == "ADD" or (word == "RUN" and re.search("curl|wget|pip", rest))]
    settings = " ".join(rest for word, rest in lines if word == "ENV")
    assert "NO_ALBUMENTATIONS_UPDATE=1" in settings and "HOME=/tmp" in settings
    (entry,) = (rest for word, rest in lines if word == "ENTRYPOINT")
    assert json.loads(entry) == ["clinvit"]


def test_its_python_and_its_extra_are_the_projects(stages):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for stage in stages.values():
        if stage.begins not in stages:
            version = re.fullmatch(r"python:(3\.\d+)-slim", stage.begins).group(1)
            assert version in SpecifierSet(project["requires-python"])
            assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    assert "all" in project["optional-dependencies"]


def test_commands_of_the_pages_fit(stages):
    found = [line for page in PAGES for line in re.findall(r"docker (?:build|run) [^`\n]*", page.read_text())]
    assert found
    for line in found:
        for target in re.findall(r"--target (\S+)", line):
            assert target.strip(":") in stages
        if line.startswith("docker run"):
            assert "--network none" in line and "--user" in line, "it cannot write into the folder of another user"


def test_what_an_image_must_not_hold_is_left_out():
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv", "tests", "runs", "clinvit-demo"} <= set(left_out)
