"""Hostile inputs end before PyTorch is loaded: in one line, within 10 s and 500 MB, nothing imported or written."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.core.weight_files import refuse_hostile
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View

ARCH = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
# Runs commands in one process; says of each how it ended, what it said, and whether PyTorch was loaded by then.
RUN = """
import contextlib, io, json, sys, time
from clinvit.cli import main
from clinvit.core.platform import forget_peak_memory, peak_memory
forget_peak_memory()
for command in json.loads(sys.stdin.read()):
    said, start = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(command)
    print(json.dumps([code, said.getvalue(), "torch" in sys.modules, peak_memory() / 1e6, time.process_time() - start]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with hostile inputs of all kinds, and sound ones beside them."""
    place = tmp_path_factory.mktemp("hostile")
    card = ModelCard(("a", "b"), {}, False, "full", "vit", "mean", ARCH, (0.5,), (0.25,), View("squash", None), 40)
    for name, changes in CARDS.items():
        save_model(place / name, build_model(card), card)
        path = place / name / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    save_encoder(place / "encoder", ViT(ARCH), EncoderCard(ARCH, (0.5,), (0.25,), "mae"))
    deep = "[" * 10_000 + "]" * 10_000
    save_encoder(place / "deep_encoder", ViT(ARCH), EncoderCard(ARCH, (0.5,), (0.25,), "mae"))
    (place / "deep_encoder/encoder.json").write_text(deep)
    _weights(place)
    rows = {"id": ["1"], "path": ["1.png"], "patient": ["1"], "split": ["test"], "a": ["1"]}
    for folder, facts in (("data", "{}"), ("deep_data", deep)):
        (place / folder).mkdir()
        pd.DataFrame(rows).to_csv(place / folder / "manifest.csv", index=False)
        (place / folder / "manifest.json").write_text(facts)
    aliases = "\n".join(f"l{n + 1}: &l{n + 1} [*l{n}, *l{n}]" for n in range(25))
    for folder in ("tiles", "run"):
        (place / folder).mkdir()
        (place / folder / "recipe.yaml").write_text(f"l0: &l0 [1]\n{aliases}\n")
    (place / "module.yaml").write_text("optim: this.Zen\n")
    predictions = {"id": ["1"], "patient": ["1"], "split": ["test"], "status": ["ok"], "reason": [""]}
    pd.DataFrame(predictions | {"y_a": [1], "p_a": [0.5]}).to_csv(place / "p.csv", index=False)
    (place / "p.model.json").write_text(deep)
    (place / "shards/160px-v3").mkdir(parents=True)
    index = {"shards": [["../../victim", 8192]], "places": {"0" * 32: [0, 0, 1, 32, 32]}, "unread": []}
    (place / "shards/160px-v3/index.json").write_text(f"{json.dumps(index)}\n{'0' * 32}\n")
    (place / "victim.txt").write_text("precious")
    (place / ".out.csv.lock").symlink_to("victim.txt")
    return place


CARDS = {
    "giant": {"network": "vit_giant_patch14_224"},
    "deep": {"arch": ARCH.to_dict() | {"width": 1600, "depth": 40, "heads": 16}},
    "neighbours": {"mode": "knn", "reference_cases": 300_000_000, "neighbours": 20},
    "sound": {},
}


class Code:
    def __reduce__(self):
        return os.system, ("touch PWNED",)


def _weights(place: Path) -> None:
    torch.save({"model": {"pos_embed": torch.zeros(1).expand(1, 4_000_000, 1000)}}, place / "expanded.pth")
    old = {"pos_embed": torch.zeros(8).as_strided((100_000, 100_000), (0, 0))}
    torch.save(old, place / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({f"w{i}": view for i, view in enumerate([torch.zeros(10**5)] * 5000)}, place / "many_views.pth")
    torch.save({"state_dict": Code()}, place / "code.pth")
    torch.save({"w": torch.zeros(8)}, place / "stored.pth")
    with zipfile.ZipFile(place / "stored.pth") as stored, zipfile.ZipFile(place / "packed.pth", "w") as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry), zipfile.ZIP_DEFLATED)
    (place / "damaged.safetensors").write_bytes((64).to_bytes(8, "little") + b"{" + b"x" * 63)


WEIGHTS = {
    "expanded.pth": "pos_embed asks for 1.6e+10 bytes of memory, but the file holds 4 of it",
    "old.pth": "pos_embed asks for 4e+10 bytes of memory",
    "many_views.pth": "its tensors are 2e+09 bytes, many times the file",
    "code.pth": "the file asks to run `",
    "packed.pth": "is compressed, which no file of PyTorch's is",
    "damaged.safetensors": "not a readable safetensors file",
    "giant": "its card has at least 1e+08 weights",
    "deep": "its card has at least 1.23e+09 weights",
    "neighbours": "its card has at least 3e+08 weights",
    "deep_encoder": "not readable JSON (nested deeper than 64)",
}
DATA = ["--data", "data", "--out", "out"]


def commands() -> list[tuple[list[str], str]]:
    """Return command lines and what each must say."""
    found = []
    for name, words in WEIGHTS.items():
        found += [(["weights", "inspect", name], words), (["finetune", "thorax", *DATA, "--encoder", name], words)]
    lines = {
        "expanded.pth": ["pretrain thorax ENCODER", "extract thorax ENCODER", "check thorax data ENCODER",
                         "audit PLACE data --out out", "extract slides --tiles data ENCODER"],
        "giant": ["predict thorax 1.png --model PLACE", "export PLACE --to onnx --out out",
                  "recalibrate PLACE p.csv --out out", "merge base=encoder a=PLACE b=sound --out out",
                  "compress PLACE --margin 0.01 --out out", "distil thorax TEACHER"],
    }  # fmt: skip
    for name, texts in lines.items():
        for text in texts:
            text = text.replace("PLACE", name)
            text = text.replace("ENCODER", f"--encoder {name}").replace("TEACHER", f"--teacher sound,{name}")
            needs = text.split()[0] in ("pretrain", "extract", "distil")
            found.append((text.split() + DATA * needs, WEIGHTS[name]))
    deep = "deep_data/manifest.json: not readable JSON (nested deeper than 64)"
    aliases = "run/recipe.yaml: not readable YAML (it has aliases"
    for verb in ("pretrain", "finetune"):
        found.append(([verb, "thorax", "--data", "deep_data", "--out", "out"], deep))
        found.append(([verb, "thorax", "--data", "data", "--out", "run"], aliases))
        found.append(([verb, "thorax", *DATA, "--config", "module.yaml"], "'optim' is a group of keys"))
        found.append(
            ([verb, "thorax", *DATA, "--cache", "file://shards"], "160px-v3/index.json: not made with your key")
        )
    found.append((["check", "thorax", "deep_data"], deep))
    found.append((["predict", "thorax", "deep_data/manifest.csv", "--model", "sound"], deep))
    tiles = "tiles/recipe.yaml: not readable YAML"
    found.append((["extract", "slides", *DATA, "--tiles", "tiles", "--encoder", "encoder"], tiles))
    found.append((["evaluate", "p.csv", "--out", "out"], "p.model.json: not readable JSON"))
    found.append((["predict", "thorax", "1.png", "--model", "sound", "--out", "out.csv"], ".out.csv.lock: a link"))
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="links and peak memory are asked for as POSIX has them")
def test_hostile_inputs_end_before_pytorch_is_loaded(place):
    asked = commands()
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=place, input=json.dumps([command for command, _ in asked]), text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    for (command, words), (code, said, loaded, peak, seconds) in zip(asked, ends, strict=True):
        line = " ".join(command)
        assert code == 2 and words in said and said.count("\n") == 1, (line, said)
        assert not loaded and peak < 500 and seconds < 10, (line, peak, seconds)
    assert sorted(place.rglob("*")) == before and (place / "victim.txt").read_text() == "precious"


def test_sound_weights_pass(tmp_path):
    weight = torch.zeros(100, 100)
    content = {
        "model": {"a": weight, "tied": weight, "t": weight.t(), "part": weight[:3], "half": weight.half(),
                  "p": torch.nn.Parameter(weight), "q": torch.quantize_per_tensor(weight, 1.0, 0, torch.qint8)},
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(weight)]).state_dict(),
        "epoch": 3, "best": {1, 2}, "numbers": [1, "x"],
    }  # fmt: skip
    for name, new in (("new.pth", True), ("old.pth", False)):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=new)
        refuse_hostile(tmp_path / name)
    save_encoder(tmp_path / "encoder", ViT(ARCH), EncoderCard(ARCH, (0.5,), (0.25,), "mae"))
    refuse_hostile(tmp_path / "encoder")
    refuse_hostile(tmp_path / "nothing")


def test_texts_pass(tmp_path):
    """Their letters are instructions of pickles too: `i` and `c` ask for something by name."""
    for name, text in (("p.csv", "id,patient\nc,d\n1,2\n"), ("t.yaml", "cost: 1\nitems:\n- x\n"), ("v.json", "{}")):
        (tmp_path / name).write_text(text)
        refuse_hostile(tmp_path / name)


def test_a_pickle_that_no_checkpoint_is_allocates_nothing(tmp_path):
    """An index of the memo and a length of bytes are taken from the file: 2 GB and 1 TB here."""
    path = tmp_path / "w.pth"
    for content in (b"\x80\x04}r\xff\xff\xff\x7f.", b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b"."):
        path.write_bytes(content)
        refuse_hostile(path)  # left to its reader
    path.write_bytes(b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85R.")
    with pytest.raises(UserError, match=r"asks to run `os\.system`"):
        refuse_hostile(path)
