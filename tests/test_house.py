"""The house as DESIGN draws it: who imports whom, nothing heavy at import, one version, no work left behind."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from clinvit.datasets.loading.isolation import PRELOAD

ROOT = Path(__file__).resolve().parents[1]
LEAVES = {"errors", "files", "locking"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "locking": {"errors", "files"},
    "backbone": LEAVES,
    "engine": LEAVES,
    "datasets": LEAVES,
    "pretrain": LEAVES | {"backbone", "engine", "datasets"},
    "finetune": LEAVES | {"backbone", "engine", "datasets"},
    "eval": LEAVES | {"datasets"},
    "tasks": LEAVES | {"backbone", "engine", "datasets", "pretrain", "finetune", "eval"},
    "arguments": LEAVES | {"", "tasks"},
    "cli": LEAVES | {"", "arguments", "backbone", "engine", "datasets", "pretrain", "finetune", "eval", "tasks"},
    "": LEAVES,
}
SOURCES = sorted(
    path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0].removesuffix(".py") in {*ALLOWED, "__init__"}
)


def room(parts: tuple[str, ...]) -> str:
    """The room of a module given by its path below the package."""
    return parts[0] if parts and parts[0] != "__init__" else ""


def imports(path: Path):
    """Rooms of ours that a file imports, with the whole module path."""
    own = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = own[: len(own) - node.level]
            module = (*base, *(node.module.split(".") if node.module else ()))
            for name in node.names:
                yield (*module, name.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "clinvit":
            for name in node.names:
                yield (*node.module.split(".")[1:], name.name)
        elif isinstance(node, ast.Import):
            for name in node.names:
                assert name.name.split(".")[0] != "clinvit", f"{path}: import by relative path"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    here = room(path.relative_to(ROOT).with_suffix("").parts)
    for module in imports(path):
        there = room(module)
        if there not in ALLOWED:
            there = ""
        assert there == here or there in ALLOWED[here], f"{here or 'top level'} imports {'.'.join(module)}"
        if here == "eval" and there == "datasets":
            assert module[1] == "tables", "eval reads tables only"


def test_every_package_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = {path.parent.relative_to(ROOT).parts for path in SOURCES if path.name == "__init__.py"}
    assert sorted(listed) == sorted(".".join(("clinvit", *parts)) for parts in rooms)


READERS = {"albumentations", "av", "cv2", "decord", "gdcm", "h5py", "monai", "openslide", "pydicom", "tifffile"}
TORCH = {"torch", "timm", "lightning"}
PAGES = {"jinja2", "matplotlib"}


@pytest.mark.parametrize(
    "modules, unwanted",
    [
        # torchmetrics, which Lightning imports, loads what draws where that is installed.
        (
            "clinvit.pretrain.run, clinvit.finetune.run, clinvit.finetune.predict, clinvit.mil.run",
            READERS,
        ),
        ("clinvit.cli, clinvit.stages.stages, clinvit.tasks.thorax.recipes", TORCH | READERS | PAGES),
        ("clinvit.eval.report.report", TORCH | READERS | PAGES),
        (
            "clinvit.stages.reproduce.catalogue as c; c.listing()",
            TORCH | READERS | PAGES | {"pandas", "scipy", "sklearn"},
        ),
        # What reading processes are sent: they are started anew for every slide.
        (
            f"{', '.join(PRELOAD)}, clinvit.datasets.slides.tiling, clinvit.datasets.quality.looks, "
            "clinvit.datasets.loading.cache, "
            "clinvit.datasets.slides.stream, clinvit.datasets.transforms.augment, "
            "clinvit.datasets.transforms.multi_crop, "
            "clinvit.stages.leaks",
            TORCH | PAGES,
        ),
    ],
    ids=["training", "command", "evaluation", "list of tables", "reading processes"],
)
def test_nothing_heavy_is_imported_before_it_is_used(modules, unwanted):
    code = f"import sys, {modules}; print(*sorted({unwanted!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
