"""Weights of strangers bound what is allocated for them: packed archives, expanded tensors, cards of giants."""

import io
import json
import re
import zipfile

import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, open_vit, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.backbone.weights import read_checkpoint
from clinvit.core.errors import UserError
from clinvit.core.files import write_json, wrong_checksum
from clinvit.core.platform import forget_peak_memory, peak_memory
from clinvit.core.tensors import built_within, refuse_expanded
from clinvit.finetune.classifier import TimmClassifier
from torch import nn


def saved(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.fixture
def within():
    """The test must not take more than 300 MB of memory."""
    forget_peak_memory()
    before = peak_memory()
    yield
    assert peak_memory() - before < 3e8


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"pos_embed": torch.zeros(1).expand(1, 4_000_000, 1000)}},
        {"pos_embed": torch.zeros(8).as_strided((100_000, 100_000), (0, 0))},
        {"state": [{"deep": (torch.zeros(1).expand(10**9),)}]},
        {f"w{i}": view for i, view in enumerate([torch.zeros(10**6)] * 500)},
        {"w": torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (10**10,))},
        {"w": torch.empty(10**10, device="meta")},
    ],
    ids=["one", "strided", "deep in it", "many views of one", "sparse", "meta"],
)
def test_tensors_larger_than_their_file_are_refused(tmp_path, within, content):
    path = saved(tmp_path, content)
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}: refused: "):
        read_checkpoint(path)


def test_sound_tensors_pass(tmp_path):
    weight = torch.zeros(1000, 1000)
    content = {
        "model": {"a": weight, "tied": weight, "t": weight.t(), "part": weight[:3]},
        "epoch": 3,
        "args": [1, "x"],
    }
    content["model"]["same"] = content["model"]
    path = saved(tmp_path, content)
    refuse_expanded(path, torch.load(path, weights_only=True))


@pytest.mark.parametrize("how", ["packed", "overlapping"])
def test_archives_that_inflate_are_refused_before_they_are_read(tmp_path, within, how):
    path, packed = saved(tmp_path, {"w": torch.zeros(10)}), tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            member = zipfile.ZipInfo(entry.filename)
            member.compress_type = zipfile.ZIP_DEFLATED if how == "packed" else zipfile.ZIP_STORED
            with new.open(member, "w") as file:
                for part in [bytes(10**6)] * 400 if "/data/" in entry.filename else [old.read(entry)]:
                    file.write(part)
    with packed.open("rb") as file:  # on disk: the test itself must not take the memory
        data = file.read(10**5) if how == "overlapping" else file.read()
        if how == "overlapping":
            file.seek(-2000, io.SEEK_END)
            data += file.read()
    path.write_bytes(data)
    forget_peak_memory()
    assert wrong_checksum(path)
    with pytest.raises(UserError, match="not a readable PyTorch checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(100_000, 100_000), lambda: torch.zeros(30_000, 100_000), lambda: torch.arange(10**9),
        lambda: [nn.Linear(1000, 1000) for _ in range(10_000)], lambda: torch.full((10**10,), 1.0),
        lambda: TimmClassifier("vit_gigantic_patch14_clip_224", 2, 1), lambda: nn.Module().register_buffer(
            "cases", torch.empty(300_000_000, 16)
        ),
    ],
    ids=["a layer", "zeros", "arange", "many layers", "full", "timm", "a buffer"],
)  # fmt: skip
def test_a_network_much_larger_than_its_weights_is_not_built(within, build):
    with pytest.raises(UserError, match="card: its card asks for a much larger network"), built_within("card", {}):
        build()


def test_a_network_of_its_weights_is_built():
    network = TimmClassifier("resnet18", 2, 1)
    with built_within("card", network.state_dict()):
        TimmClassifier("resnet18", 2, 1)


def test_an_encoder_whose_positions_are_expanded_is_one_line(tmp_path, within):
    arch = Architecture(16, 1, 2, image_size=(32, 32), patch_size=8)
    vit = ViT(arch)
    save_encoder(tmp_path / "encoder", vit, EncoderCard(arch, (0.5,), (0.25,)))
    card = EncoderCard.read(tmp_path / "encoder").to_dict()
    for change in ({"image_size": [80_000, 80_000]}, {"width": 100_000}, {"depth": 10**7}, {"mlp_ratio": 1e6}):
        write_json(tmp_path / "encoder" / "encoder.json", card | {"arch": card["arch"] | change})
        with pytest.raises(UserError, match="encoder"):
            open_vit(tmp_path / "encoder")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_more_tensors_than_any_network_has(tmp_path, within, suffix):
    """Each of a few bytes in the file, and some thousand in memory."""
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        head = json.dumps({f"a{number}": empty for number in range(100_000)}).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(60_000):
                archive.writestr(f"w/data/{number}", b"")
    with pytest.raises(UserError, match=rf"w{suffix}: .*more (tensors )?than any network has"):
        read_checkpoint(path)
