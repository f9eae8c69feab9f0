"""The house as DESIGN draws it: who imports whom, nothing heavy at import, one version, no work left behind."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from clinvit.datasets.loading.isolation import PRELOAD
from setuptools import find_packages

ROOT = Path(__file__).resolve().parents[1]
BASE = {"core", "backbone", "engine", "datasets", "eval"}
# Which rooms a room may import; its own files always. `clinvit` itself, `api` and `train` are the face above all rooms;
# a room's `__init__` may name them.
ALLOWED = {
    "core": set(),
    "backbone": {"core"},
    "engine": {"core"},
    "datasets": {"core"},
    "phantoms": {"core", "datasets"},
    "eval": {"core", "datasets"},
    "pretrain": BASE,
    "finetune": BASE,
    "mil": BASE | {"finetune"},
    "explain": BASE | {"finetune", "mil"},
    "compress": BASE | {"finetune"},
    "stages": BASE | {"phantoms", "pretrain", "finetune", "mil", "explain", "compress"},
    "tasks": BASE | {"phantoms", "pretrain", "finetune", "mil", "explain", "compress", "stages"},
    "cli": BASE | {"phantoms", "pretrain", "finetune", "mil", "explain", "compress", "stages", "tasks", ""},
}
TABLES = {("datasets", "manifest", "tables")}  # the format that eval reads, and nothing else of datasets


def modules() -> dict[tuple[str, ...], Path]:
    """Every module of the product by its path below the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in ALLOWED or parts in (("__init__",), ("api",), ("train",)):
            found[parts[:-1] if parts[-1] == "__init__" else parts] = path
    return found


MODULES = modules()


def room(module: tuple[str, ...]) -> str:
    """The room of a module; empty for the package's own face."""
    return module[0] if module and module[0] in ALLOWED else ""


def imports(path: Path) -> set[tuple[str, ...]]:
    """Modules of ours that a file imports, at the top or later."""
    own = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "clinvit"):
            base = own[: len(own) - node.level] if node.level else ()
            names = tuple(node.module.split(".")) if node.module else ()
            module = (*base, *(names if node.level else names[1:]))
            found |= {(*module, name.name) if (*module, name.name) in MODULES else module for name in node.names}
        elif isinstance(node, ast.Import):
            for name in node.names:
                assert name.name.split(".")[0] != "clinvit", f"{path}: import by relative path"
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: ".".join(module) or "clinvit")
def test_imports_go_one_way(module):
    here = room(module)
    for target in imports(MODULES[module]):
        there = room(target)
        face = len(module) == 1 and there == ""
        assert there == here or here == "" or face or there in ALLOWED[here], f"{here} imports {'.'.join(target)}"
        if here == "eval" and there == "datasets":
            assert target in TABLES, f"eval reads tables only, not {'.'.join(target)}"


def test_no_files_import_each_other_in_a_circle():
    graph = {module: imports(path) & MODULES.keys() - {module} for module, path in MODULES.items()}
    with_imports = True
    while with_imports:  # what imports nothing that is left, or is imported by nothing that is left, is in no circle
        ends = {module for module, targets in graph.items() if not targets}
        graph = {module: targets - ends for module, targets in graph.items() if module not in ends}
        with_imports = bool(ends)
    assert not graph, f"circle among {', '.join(sorted('.'.join(module) for module in graph))}"


def test_the_wheel_holds_exactly_our_rooms():
    listed = {f"clinvit.{name}" for name in find_packages(str(ROOT))}
    packages = {path.parent.relative_to(ROOT).parts for path in MODULES.values()} - {()}
    assert listed == {".".join(("clinvit", *parts)) for parts in packages}


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
        ("clinvit.cli, clinvit.stages.data, clinvit.tasks; [*clinvit.tasks.all_tasks()]", TORCH | READERS | PAGES),
        ("clinvit.eval.report.report", TORCH | READERS | PAGES),
        (
            "clinvit.tasks, clinvit.stages.reproduce.catalogue as c; c.listing(clinvit.tasks.all_tasks())",
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
