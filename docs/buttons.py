"""Write the address of the repository into README and notebooks: to clone it, to open them on Colab and Kaggle.

    uv run python docs/buttons.py

The address is `Repository` of `[project.urls]` in `pyproject.toml`. Without one there are no buttons, and the first
cell of a notebook asks for the address. `tests/test_buttons.py` holds pages and address together.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from clinvit.core.documents import parse_json
from clinvit.core.files import write_text

ROOT = Path(__file__).resolve().parents[1]
UNKNOWN = "<this repository>"  # stands in README until there is an address
_BUTTONS = re.compile(r"Open in \[Colab\]\(.*")
_MARK = "Notebooks: "  # how README's line of them begins


def repository(pyproject: str) -> str:
    """Return the address of the repository, empty without one; of GitHub, the only one that both services open."""
    address = str(tomllib.loads(pyproject)["project"].get("urls", {}).get("Repository", "")).rstrip("/")
    address = address.removesuffix(".git")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"{address}: Repository of [project.urls] is no address like https://github.com/OWNER/NAME")
    return address


def addresses(address: str, notebook: str) -> tuple[str, str]:
    """Return what opens `examples/NOTEBOOK` on Colab and on Kaggle."""
    place = f"{address.removeprefix('https://github.com/')}/blob/main/examples/{notebook}"
    return (
        f"https://colab.research.google.com/github/{place}",
        f"https://kaggle.com/kernels/welcome?src=https://github.com/{place}",
    )


def _line(address: str, notebook: str) -> str:
    colab, kaggle = addresses(address, notebook)
    return f"Open in [Colab]({colab}) or [Kaggle]({kaggle}) (there: Internet on)."


def notebook(text: str, name: str, address: str) -> str:
    """Return a notebook's file with its buttons below the heading, and with the address in the cell that installs."""
    content: dict[str, Any] = parse_json(text)
    first, install = content["cells"][:2]
    head, *rest = "".join(first["source"]).split("\n\n")
    rest = [part for part in rest if not _BUTTONS.fullmatch(part)]
    first["source"] = "\n\n".join([head, *([_line(address, name)] if address else []), *rest]).splitlines(keepends=True)
    source = "".join(install["source"])
    install["source"] = re.sub(r'REPOSITORY = ".*?"', f'REPOSITORY = "{address}"', source).splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def readme(text: str, names: list[str], address: str) -> str:
    """Return README with the address to clone, and one line of buttons after that of the tutorials."""
    text = re.sub(rf"git clone (?:{UNKNOWN}|https://\S+)", f"git clone {address or UNKNOWN}", text)
    lines = [line for line in text.split("\n") if not line.startswith(_MARK)]
    if address:
        links = " · ".join(
            f"{Path(name).stem.replace('_', ' ')} ([Colab]({colab}), [Kaggle]({kaggle}))"
            for name in names
            for colab, kaggle in [addresses(address, name)]
        )
        place = next(i for i, line in enumerate(lines) if line.startswith("[Tutorials]"))
        place += lines[place:].index("")
        lines.insert(place, f"{_MARK}{links}")
    return "\n".join(lines)


def main() -> None:
    """Write README and all notebooks anew."""
    address = repository((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    notebooks = sorted((ROOT / "examples").glob("*.ipynb"))
    for path in notebooks:
        write_text(path, notebook(path.read_text(encoding="utf-8"), path.name, address))
    page = ROOT / "README.md"
    names = [path.name for path in notebooks]
    write_text(page, readme(page.read_text(encoding="utf-8"), names, address))


if __name__ == "__main__":
    main()
