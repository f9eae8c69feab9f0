"""Models of several hospitals become one, by the command; what does not go together is refused."""

import json
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
from clinvit.datasets.manifest.seen import CHOSEN_ON, TRAINED_ON, case_hash, read_hashes, write_hashes
from clinvit.eval.statistics.delong import delong_test
from clinvit.finetune.model import ModelCard, build_model, load_card, load_model, save_model
from clinvit.finetune.recipe import View
from PIL import Image

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
        ("a stem of convolutions", {"arch": replace(ARCH, stem=True)}),
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


@pytest.fixture(scope="module")
def merged(sites, tmp_path_factory):
    """The merge of two sites."""
    root = tmp_path_factory.mktemp("merge")
    base = f"base={sites / 'pre0/encoder'}"
    assert merge(root, base, f"north={sites / 'a'}", f"south={sites / 'b'}") == 0
    return root / "merged/model"


@pytest.fixture(scope="module")
def validation(merged, tmp_path_factory):
    """`validation(square, ...)` writes a hospital's 40 val cases; of `square` patients with Square, most score high."""
    folder, generator = tmp_path_factory.mktemp("validation"), np.random.default_rng(1)
    for number in range(40):
        Image.fromarray(generator.integers(0, 255, (40, 40), np.uint8)).save(folder / f"v{number:02d}.png")
    words = [folder, "--model", merged, "--out", folder / "first.csv"]
    assert main(["predict", "thorax", *map(str, words)]) == 0
    rank = pd.read_csv(folder / "first.csv")["p_Square"].rank(method="first").to_numpy()
    rank = rank + np.where(np.arange(40) % 5 == 0, -15, 0)

    def write(square: int = 20, split: str = "val", bar: int = 4, patient: str | None = None) -> Path:
        names = [f"v{number:02d}" for number in range(40)]
        table = pd.DataFrame({"id": names, "path": [f"{name}.png" for name in names], "split": split})
        table["patient"] = names if patient is None else patient
        table["Square"] = (np.argsort(np.argsort(-rank)) < square).astype(int)
        table["Bar"] = (np.arange(40) < bar).astype(int)
        path = folder / f"{split}{square}{bar}{patient}.csv"
        table.to_csv(path, index=False)
        return path

    return write


def verify(out, merged, *words, **options) -> int:
    more = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return main(["merge", "--verify", f"merged={merged}", *map(str, words), "--out", str(out), *more])


def test_a_site_verifies_calibrates_and_sends_numbers_alone(sites, merged, validation, tmp_path, capsys):
    manifest, before = validation(), (merged / "model.json").read_bytes()
    assert verify(tmp_path / "n", merged, f"own={sites / 'a'}", data=manifest, non_inferiority=0.1) == 0
    out = capsys.readouterr().out
    assert "north: merged minus own on 40 val cases of 40 patients" in out and "Square: " in out
    assert "not worse by 0.1: " in out and "Bar: not judged (no interval" in out
    assert (merged / "model.json").read_bytes() == before
    card = load_card(tmp_path / "n/model")
    verdict = card.merge["sites"]["north"]
    # The verdict is that of the two tables, label by label.
    own, new = (pd.read_csv(tmp_path / "n" / name) for name in ("own.csv", "merged.csv"))
    test = delong_test(own["y_Square"].to_numpy(float), new["p_Square"].to_numpy(), own["p_Square"].to_numpy())
    found = verdict["labels"]["Square"]
    assert found["difference"] == pytest.approx(test.difference.value, abs=1e-12)
    assert found["merged"] - found["own"] == pytest.approx(found["difference"], abs=1e-12)
    fingerprints = {each["name"]: each["sha256"] for each in card.merge["models"]}
    assert verdict["own"] == fingerprints["north"] and list(fingerprints) == ["north", "south"]
    # The copy is calibrated on the cases, and has thresholds for its own scores.
    assert card.calibration["Square"]["method"] == "platt" and card.thresholds["Square"]["value"] is not None
    assert read_hashes(tmp_path / "n/model" / CHOSEN_ON) >= {case_hash("v00")}
    words = [manifest, "--model", tmp_path / "n/model", "--out", tmp_path / "p.csv"]
    assert main(["predict", "thorax", *map(str, words)]) == 0
    shown = pd.read_csv(tmp_path / "p.csv")
    assert shown["p_Square"].mean() == pytest.approx(0.5, abs=0.02) and shown["pred_Square"].nunique() == 2
    # What may leave the hospital names no case, patient or path.
    text = (tmp_path / "n/verdict.json").read_text()
    assert "v00" not in text and str(tmp_path) not in text and ".png" not in text


def test_every_sites_verdict_is_collected_in_the_card(sites, merged, validation, tmp_path, capsys):
    manifest = validation()
    assert verify(tmp_path / "n", merged, f"own={sites / 'a'}", data=manifest) == 0
    north = tmp_path / "n/verdict.json"
    assert verify(tmp_path / "s", merged, f"own={sites / 'b/model'}", north, data=manifest, calibrate="intercept") == 0
    assert list(load_card(tmp_path / "s/model").merge["sites"]) == ["north", "south"]
    south = tmp_path / "s/verdict.json"
    assert load_card(tmp_path / "s/model").calibration["Square"]["method"] == "intercept"
    assert verify(tmp_path / "all", merged, north, south) == 0
    card = load_card(tmp_path / "all/model")
    assert set(card.merge["sites"]) == {"north", "south"} and not card.calibration
    assert main(["export", str(tmp_path / "all/model"), "--to", "card", "--out", str(tmp_path / "card")]) == 0
    assert "what sites found" in (tmp_path / "card/README.md").read_text()


def test_what_cannot_be_verified_is_refused_in_one_line(sites, merged, validation, tmp_path, capsys):
    good, own = validation(), f"own={sites / 'a'}"

    def refused(*words, of=merged, **options):
        capsys.readouterr()
        assert verify(tmp_path / "out", of, *words, **options) == 2
        assert not (tmp_path / "out").exists()
        error = capsys.readouterr().err.strip().splitlines()
        return error[-1]

    assert "no label with 10 patients" in refused(own, data=validation(square=0, bar=0))
    assert "no label with 10 patients" in refused(own, data=validation(patient="one"))
    assert "margin 5" in refused(own, data=good, non_inferiority=5)
    assert "'yoden'" in refused(own, data=good, threshold="yoden")
    assert "no case in the split val" in refused(own, data=validation(split="train"))
    assert "not one of the models" in refused(f"own={sites / 'other'}", data=good)
    assert "not a merged model" in refused(own, of=sites / "a/model", data=good)
    assert "own=MODEL --data" in refused(own)
    assert "belongs to --verify" not in refused(own, data=good, alpha=0.5)
    (tmp_path / "v.json").write_text('{"kind": "verdict of a site", "site": "north"}')
    assert "not a verdict" in refused(tmp_path / "v.json")
    assert "no such file" in refused(tmp_path / "none.json")
    assert verify(tmp_path / "n", merged, own, data=good) == 0
    document = json.loads((tmp_path / "n/verdict.json").read_text())
    for change, words in (
        ({"merged": "0"}, "another merged model"), ({"site": "east"}, "merged were north, south"),
        ({"labels": {"Square": {"own": "much"}}}, "damaged"),
    ):  # fmt: skip
        (tmp_path / "v.json").write_text(json.dumps(document | change))
        assert words in refused(tmp_path / "v.json")
    assert "calibrated already" in refused(own, of=tmp_path / "n/model", data=good)
    trained = shutil.copytree(merged, tmp_path / "trained")
    write_hashes(trained / TRAINED_ON, ["v01", "v02"])
    assert "trained on 2 of 40 val cases" in refused(own, of=trained, data=good)
    write_hashes(trained / TRAINED_ON, [])
    model, card = load_model(trained)
    with torch.no_grad():
        model.head.weight[:] = torch.nan
    save_model(trained, model, card)
    assert "NaN or infinite" in refused(own, of=trained, data=good)


def test_cases_that_several_sites_trained_on_are_counted(sites, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copytree(sites / name, tmp_path / name)
        write_hashes(tmp_path / name / "model" / TRAINED_ON, ["same", name])
    assert merge(tmp_path, f"base={sites / 'pre0/encoder'}", tmp_path / "a", tmp_path / "b") == 0
    assert "1 training cases are in several models" in capsys.readouterr().out
    card = load_card(tmp_path / "merged/model")
    assert card.merge["shared_cases"] == 1 and [each["name"] for each in card.merge["models"]] == ["a", "b"]
