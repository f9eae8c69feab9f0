"""Models of several hospitals become one, by the command; what does not go together is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import fingerprint, load_encoder, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.datasets.manifest.seen import TRAINED_ON, read_hashes, write_hashes
from clinvit.finetune.model import ModelCard, build_model, load_card, load_model, save_model
from clinvit.finetune.recipe import View

ARCH = Architecture(32, 2, 2, image_size=(32, 32), patch_size=8)


def encoder(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    return save_encoder(folder, ViT(ARCH), EncoderCard(ARCH, (0.5,), (0.25,), "mae"))


def site(folder: Path, base: Path, labels: tuple[str, ...], seed: int) -> Path:
    """A model as if it had been fine-tuned from an encoder."""
    card = ModelCard(
        labels, {label: f"1 = {label} present" for label in labels}, False, "full", "vit", "mean", ARCH, (0.5,),
        (0.25,), View("squash", None), 40, thresholds={label: {"value": 0.5} for label in labels},
        encoder={"method": "mae", "sha256": fingerprint(base)},
    )  # fmt: skip
    torch.manual_seed(seed)
    model = build_model(card)
    load_encoder(model.encoder, base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_model(folder / "model", model, card)
    write_hashes(folder / "model" / TRAINED_ON, [f"case {seed}"])
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """An encoder and two sites' models from it, one without the second label, and a model from another encoder."""
    root = tmp_path_factory.mktemp("sites")
    one, two = encoder(root / "pre0/encoder", 0), encoder(root / "pre1/encoder", 1)
    site(root / "a", one, ("Square", "Bar"), 2)
    site(root / "b", one, ("Square",), 3)
    site(root / "other", two, ("Square", "Bar"), 4)
    return root


def merge(root, *words, out="merged", **options) -> int:
    more = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return main(["merge", *map(str, words), "--out", str(root / out), *more])


@pytest.mark.parametrize("method", ["orthogonal", "average", "task-arithmetic", "ties"])
def test_two_sites_become_one(sites, small_images, tmp_path, method, capsys):
    root = sites
    base = f"base={root / 'pre0/encoder'}"
    assert merge(tmp_path, base, f"north={root / 'a'}", f"south={root / 'b/model'}", method=method) == 0
    assert "weights" in capsys.readouterr().out
    card = load_card(tmp_path / "merged/model")
    assert card.labels == ("Square", "Bar") and not card.thresholds and not card.calibration
    assert [each["name"] for each in card.merge["models"]] == ["north", "south"] and card.merge["method"] == method
    assert len(read_hashes(tmp_path / "merged/model" / TRAINED_ON)) == 2
    words = [small_images(5, ()), "--model", tmp_path / "merged/model", "--out", tmp_path / "p.csv"]
    assert main(["predict", "thorax", *map(str, words)]) == 0
    table = pd.read_csv(tmp_path / "p.csv")
    assert (table["status"] == "ok").all() and np.isfinite(table[["p_Square", "p_Bar"]]).all(axis=None)
    assert table["p_Square"].nunique() > 1


def test_a_model_with_itself_is_that_model_by_average(sites, tmp_path):
    root = sites
    same = f"base={root / 'pre0/encoder'}", f"one={root / 'a'}", f"two={root / 'a'}"
    assert merge(tmp_path, *same, method="average") == 0
    merged, own = load_model(tmp_path / "merged/model")[0], load_model(root / "a/model")[0]
    x = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(merged(x), own(x), atol=1e-5, rtol=1e-5)


def test_what_does_not_go_together_is_refused(sites, tmp_path, capsys):
    root = sites
    base, a = f"base={root / 'pre0/encoder'}", f"a={root / 'a'}"

    def refused(*words, **options):
        assert merge(tmp_path, *words, **options) == 2
        assert not (tmp_path / "merged/model").exists()
        return capsys.readouterr().err

    assert "another encoder" in refused(base, a, f"b={root / 'other'}")
    assert "two models" in refused(base, a)
    assert "base=ENCODER" in refused(a, f"b={root / 'b'}")
    assert "alpha" in refused(base, a, f"b={root / 'b'}", alpha=2)
    for name, change in (
        ("mean", {"mean": (0.1,)}),
        ("meaning", {"meaning": {"Square": "1 = no square", "Bar": "1 = Bar present"}}),
        ("start", {"encoder": {}}),
        ("idle hidden units: its units have an order of their own", {"arch": replace(ARCH, block_active=(8, 8))}),
    ):
        shutil.rmtree(tmp_path / "changed", ignore_errors=True)
        shutil.copytree(root / "a/model", tmp_path / "changed")
        replace(load_card(tmp_path / "changed"), **change).write(tmp_path / "changed")
        words = refused(base, a, f"changed={tmp_path / 'changed'}")
        assert "changed" in words and (name in words or name == "meaning"), words
    model, card = load_model(root / "a/model")
    with torch.no_grad():
        model.encoder.blocks[0].mlp.fc1.weight[0, 0] = torch.nan
    save_model(tmp_path / "changed", model, card)
    assert "finite" in refused(base, a, f"changed={tmp_path / 'changed'}")
