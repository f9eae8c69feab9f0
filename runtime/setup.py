"""Package the modules of ClinViT that `clinvit-runtime predict` can reach, as they are, under `clinvit_runtime`.

They are found by following the imports from the command's file, also those within functions; all are relative, so that
the same files make another package. What an `__init__` offers by names for others is not followed.
"""

import ast
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NAME, START = "clinvit_runtime", "cli/light_command.py"
ROOT = Path(__file__).resolve().parents[1]


def needed(root: Path = ROOT, start: str = START) -> list[Path]:
    """Return the files that a module may import, relative to the root; with itself, and the packages around them."""
    waiting, found = [Path(start)], set()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += [folder / "__init__.py" for folder in file.parents]
        if file != Path("__init__.py"):
            waiting += _imported(root, file)
    return sorted(found)


def _imported(root: Path, file: Path) -> list[Path]:
    """Return the modules of ours that a file imports where its code runs; not those that only a type checker sees."""
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for part in branch.body
        for node in ast.walk(part)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in skipped:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split(".") if node.module else ())
            for place in [base, *(base / name.name for name in node.names)]:
                options = (place.with_suffix(".py") if place.name else Path(), place / "__init__.py")
                found += [path for path in options if path.name and (root / path).is_file()]
    return found


class BuildFromRoot(build_py):
    """Copies the modules from the folder above, where ClinViT has them."""

    def run(self) -> None:
        """Copy them into the wheel."""
        for file in needed():
            to = Path(self.build_lib, NAME, file)
            to.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(ROOT / file), str(to))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return the files that were copied."""
        return [str(Path(self.build_lib, NAME, file)) for file in needed()]


if __name__ == "__main__":
    setup(packages=[NAME], package_dir={NAME: "."}, cmdclass={"build_py": BuildFromRoot})
