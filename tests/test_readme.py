"""What the README shows works: its Python runs, its commands and files exist."""

import re
from pathlib import Path

import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli.command import parse
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("tasks/*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
MADE = {  # pages of the docs that `docs/hooks.py` makes
    "benchmarks.md", "security.md", "contributing.md", "changelog.md", "tasks/thorax.md", "tasks/slides.md",
    "tasks/erdes.md", "tasks/images.md", "tasks/clips.md", "reference/commands.md", "reference/recipes.md",
    "reference/python.md", "reference/papers.md", "contribute/architecture.md",
}  # fmt: skip


def blocks(language: str) -> list[str]:
    return [code for page in PAGES for code in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)]


def joined(page: Path) -> str:
    """Return a page whose commands stand in one line each."""
    return re.sub(r" \\\n *", " ", page.read_text())


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, readers_folder, monkeypatch):
    monkeypatch.chdir(readers_folder)
    exec(compile(code, "README", "exec"), {})


@pytest.fixture(scope="module")
def readers_folder(tmp_path_factory):
    """What the README's reader has by then: a model, an encoder and new cases."""
    folder = tmp_path_factory.mktemp("reader")
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
    card = ModelCard(("Mass",), {}, False, "full", "vit", "mean", arch, (0.5,), (0.25,), View("squash", None), 40)
    torch.manual_seed(0)
    save_model(folder / "runs/ft/model", build_model(card), card)
    save_encoder(folder / "runs/mae/encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    (folder / "new-cases").mkdir()
    for number in (1, 2):
        Image.new("L", (40, 40), 80 * number).save(folder / f"new-cases/case-{number}.png")
    return folder


@pytest.mark.parametrize(
    "line", sorted({m for page in PAGES for m in re.findall(r"^ *(clinvit .*)$", joined(page), re.M)})
)
def test_commands_are_understood(line):
    words = line.split("#")[0].replace("'", "").split()[1:]
    assert parse(words).verb == words[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    made = {ROOT / "docs" / name for name in MADE}
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            path = (page.parent / target).resolve()
            assert path.exists() or path in made, target
