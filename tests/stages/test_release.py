"""`clinvit audit` on phantoms: a page of numbers that may leave the house, and a list that may not."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.datasets.manifest.seen import TRAINED_ON, write_hashes
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from PIL import Image

ARCH = Architecture(32, 2, 2, image_size=(32, 32), patch_size=8)
QUICK = ("--text-images", "0")  # `test_burned_text` looks at them
LONG = "Quixadotter"  # part of every name: must not leave


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """40 patients of two sites with three images each; a patient has a pattern, a site a brightness."""
    root, rng, rows = tmp_path_factory.mktemp("archive"), np.random.default_rng(0), []
    for patient in range(40):
        own = rng.normal(0, 40, (4, 4)).repeat(8, axis=0).repeat(8, axis=1)
        site = patient % 2
        for number in range(3):
            name = f"{LONG}_{patient}_{number}"
            pixels = 110 + own + 20 * site + rng.normal(0, 8, (32, 32))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{name}.png")
            split = ("train", "val", "test")[patient % 3]
            rows.append([name, f"{name}.png", f"{LONG}{patient}", split, int(rng.integers(0, 2)), f"{LONG}-{site}"])
    columns = ["id", "path", "patient", "split", "Mass", "site"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "manifest.csv", index=False)
    (root / "manifest.json").write_text(json.dumps({"labels": ["Mass"]}))
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    save_encoder(folder, ViT(ARCH), EncoderCard(ARCH, (0.45,), (0.2,)))
    return folder


@pytest.mark.slow
def test_an_encoder_is_audited(archive, encoder, tmp_path, capsys):
    assert (
        main(["audit", str(encoder), str(archive), "--out", str(tmp_path / "audit"), "--labels", "Mass", *QUICK]) == 0
    )
    said = json.loads((tmp_path / "audit/audit.json").read_text())
    assert said["images"] == 120 and said["patients"] == 40 and said["of"] == "encoder"
    assert said["head"]["auroc"]["value"] > 0.7, "patterns of patients are in the features of a random network, too"
    assert said["probes"]["site"]["values"] == 2 and said["robustness"][0]["finding"] == "Mass"
    assert any("Membership" in note for note in said["notes"])
    pairs = pd.read_csv(tmp_path / "audit/candidates.csv")
    assert len(pairs) and (pairs["patient"] != pairs["other_patient"]).all()
    assert "stay in the house" in capsys.readouterr().out
    for name in ("audit.html", "audit.json"):
        text = (tmp_path / "audit" / name).read_text()
        assert LONG not in text, "no name, number, path or site may leave"
        assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_one_image_or_one_patient_is_refused_in_one_line(archive, encoder, tmp_path, capsys):
    table = pd.read_csv(archive / "manifest.csv")
    for rows, words in ((table.head(1), "one image"), (table.head(3), "two patients")):
        place = archive / "few.csv"
        rows.to_csv(place, index=False)
        assert main(["audit", str(encoder), str(place), "--out", str(tmp_path / "few")]) == 2
        error = capsys.readouterr().err.strip()
        assert words in error and len(error.splitlines()) == 1


def test_a_finding_that_nobody_has_or_that_is_no_column_is_named(archive, encoder, tmp_path, capsys):
    table = pd.read_csv(archive / "manifest.csv").iloc[::4].assign(Mass=1)
    table.to_csv(archive / "all.csv", index=False)
    words = ["audit", str(encoder), str(archive / "all.csv"), "--out", str(tmp_path / "audit"), *QUICK]
    assert main(words) == 0
    assert "No robustness index against site, for all or none have it: Mass." in capsys.readouterr().out
    assert main([*words, "--labels", "Mass,Nodule"]) == 2
    error = capsys.readouterr().err.strip()
    assert "Nodule" in error and len(error.splitlines()) == 1


@pytest.mark.slow
def test_a_model_is_attacked_by_its_losses_alone_and_beside_shadow_heads(archive, tmp_path, capsys):
    """Half of the patients were trained on; the model, random, knows nothing of them."""
    card = ModelCard(("Mass",), {}, False, "full", "vit", "mean", ARCH, (0.45,), (0.2,), View("squash", None), 32)
    torch.manual_seed(0)
    model = save_model(tmp_path / "model", build_model(card), card)
    table = pd.read_csv(archive / "manifest.csv")
    write_hashes(model / TRAINED_ON, table["id"][:60])
    assert main(["audit", str(model), str(archive), "--out", str(tmp_path / "audit"), *QUICK]) == 0
    said = json.loads((tmp_path / "audit/audit.json").read_text())
    for name in ("membership", "shadow"):
        assert said[name]["low"] < 0.5 < said[name]["high"] and said["membership"]["members"] == 60
    assert "heads that never saw the case: AUROC" in capsys.readouterr().out
    assert LONG not in (tmp_path / "audit/audit.html").read_text()


@pytest.mark.slow
def test_a_patient_alarm_is_made_and_warns_of_wrong_claims(archive, tmp_path, capsys):
    """Images of the archive claim their own patient, then another one; and a patient whom nobody has seen."""
    card = ModelCard(("Mass",), {}, False, "full", "vit", "mean", ARCH, (0.45,), (0.2,), View("squash", None), 32)
    torch.manual_seed(0)
    model, alarm = save_model(tmp_path / "model", build_model(card), card), tmp_path / "alarm.safetensors"
    audit = ["audit", str(model), str(archive), "--out", str(tmp_path / "audit"), *QUICK]
    assert main([*audit, "--alarm", str(alarm), "--alarm-rate", "0.01"]) == 2
    assert "needs 99" in capsys.readouterr().err
    assert main([*audit, "--alarm", str(alarm), "--alarm-rate", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "exact 95 % interval" in said and "stays in the hospital" in said
    assert LONG.encode() not in alarm.read_bytes() and "alarm" not in (tmp_path / "audit/audit.json").read_text()
    table = pd.read_csv(archive / "manifest.csv")
    wrong = dict(zip(table["patient"].unique(), np.roll(table["patient"].unique(), 7)))
    new = table.assign(split="test", id="new" + table["id"])[::3]
    new = pd.concat([new, new.assign(id="wrong" + new["id"], patient=new["patient"].map(wrong))])
    stranger = new[:1].assign(id="stranger", patient="stranger")
    pd.concat([new, stranger]).to_csv(archive / "new.csv", index=False)
    predict = ["predict", "thorax", str(archive / "new.csv"), "--model", str(model), "--out", str(tmp_path / "p.csv")]
    assert main([*predict, "--alarm", str(alarm), "--audit", str(tmp_path / "log.jsonl")]) == 0
    out = capsys.readouterr().out
    found = pd.read_csv(tmp_path / "p.csv", dtype={"patient_alarm": str}, keep_default_na=False)
    rate = found["patient_alarm"].eq("1").groupby(found["id"].str.startswith("wrong")).mean()
    assert rate[True] > 0.5 and rate[False] < 0.1
    assert found.set_index("id").loc["stranger", "patient_alarm"] == "" and "1 not looked at" in out
    flagged = found[found["patient_alarm"] == "1"]
    assert flagged["warning"].str.contains("patient alarm: unlike the earlier images").all()
    assert f"{len(flagged)} of 80 images" in out and f'"patient_alarms":{len(flagged)}' in (
        tmp_path / "log.jsonl"
    ).read_text().replace(": ", ":")
    assert main([*predict, "--alarm", str(alarm), "--resume"]) == 0, "the whole table is there"
    other = save_model(tmp_path / "other", build_model(card), card)
    assert main([*predict[:3], "--model", str(other), "--out", str(tmp_path / "q.csv"), "--alarm", str(alarm)]) == 2
    assert "an alarm of another model" in capsys.readouterr().err


def test_an_alarm_of_an_encoder_is_refused(archive, encoder, tmp_path, capsys):
    common = ["audit", str(encoder), str(archive), "--out", str(tmp_path / "audit")]
    assert main([*common, "--alarm", str(tmp_path / "alarm.safetensors"), "--alarm-rate", "0.1"]) == 2
    assert "not of an encoder" in capsys.readouterr().err
    assert main([*common, "--reident", "last_blocks", "--reident-blocks", "3"]) == 2
    assert "the encoder has 2" in capsys.readouterr().err
