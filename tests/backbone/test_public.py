"""Public encoders by name: the table's facts, the hub's cache, what is not there, what is fetched when asked."""

import json

import pytest
import safetensors.torch
import timm
import torch
from clinvit.backbone import public
from clinvit.backbone.public import ENCODERS, described, encoder_place, fetch, known_weights, table
from clinvit.cli import main
from clinvit.core.errors import RunError, UserError
from clinvit.finetune.starts import NetworkStart, find_start
from clinvit.finetune.timm_encoder import TimmEncoder
from clinvit.finetune.timm_weights import load_network
from clinvit.mil.slide_encoder import load_tile_encoder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """`cache(hub, **files)` puts files of a repository where the hub's client keeps them."""
    from huggingface_hub import constants, file_download

    place = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(file_download, "HF_HUB_CACHE", str(place), raising=False)

    def put(hub: str, **files):
        folder = place / f"models--{hub.replace('/', '--')}"
        snapshot = folder / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0123")
        for name, write in files.items():
            write(snapshot / name)
        return snapshot

    return put


def test_every_fact_of_the_table_is_there():
    for one in ENCODERS.values():
        assert one.hub.count("/") == 1 and one.licence and one.citation and one.trained_on
        assert one.size_px in (224, 256, 518) and one.width > 0 and one.frames >= 1
        assert all(len(values) == 3 and all(0 < value < 1 for value in values) for values in one.statistics)
        assert not one.network or timm.is_model(one.network)
    text = table()
    assert all(f"\n{name} " in text for name in ENCODERS) and "gated" in text


@pytest.mark.parametrize("name", [name for name, one in ENCODERS.items() if one.network])
def test_settings_make_the_network_whose_width_the_table_states(name):
    one = ENCODERS[name]
    with torch.device("meta"):
        encoder = TimmEncoder(one.network, 3, (one.size_px, one.size_px), one.settings)
    joined = 2 if "and mean" in one.features else 1
    assert encoder.network.num_features * joined == one.width


def test_a_name_whose_weights_are_not_here_says_how_to_fetch_them(cache, cohort, tmp_path, capsys):
    with pytest.raises(UserError, match="`clinvit weights fetch rad-dino` fetches them;"):
        encoder_place("rad-dino")
    with pytest.raises(UserError, match=r"terms are accepted on https://huggingface.co/MahmoodLab/UNI2-h"):
        encoder_place("uni2-h")
    for name in ("resnet18", "timm:swin_tiny_patch4_window7_224", "hf-hub:owner/name"):
        with pytest.raises(UserError, match=f"`clinvit weights fetch {name}`"):
            encoder_place(name)
    data = cohort(patients=5)
    command = ["finetune", "images", "--data", str(data), "--out", str(tmp_path / "run"), "--encoder", "rad-dino"]
    assert main(command) == 2
    assert "weights fetch rad-dino" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="weights fetch virchow2"):
        load_tile_encoder("virchow2", "class_mean")


@pytest.mark.parametrize("name, near", [("rad-dinno", "rad-dino"), ("resnet1O1", "resnet101"), ("uni2_h", "uni2-h")])
def test_a_misspelt_name_gets_the_nearest(name, near):
    with pytest.raises(UserError, match=f"Did you mean '{near}'"):
        encoder_place(name)


def test_a_path_is_itself_whether_it_is_there_or_not(tmp_path):
    for path in (tmp_path, tmp_path / "none.pth", "runs/mae/encoder", "vit.safetensors"):
        assert encoder_place(path) == type(tmp_path)(path)


def test_a_name_in_the_cache_is_the_folder_and_its_facts_are_known(cache):
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=3)

    def weights(path):
        safetensors.torch.save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)

    config = {"architecture": "resnet10t", "num_classes": 3, "pretrained_cfg": {"mean": [0.4] * 3, "std": [0.2] * 3}}
    snapshot = cache(
        "owner/net", **{"config.json": lambda path: path.write_text(json.dumps(config)), "model.safetensors": weights}
    )
    assert encoder_place("hf-hub:owner/net") == snapshot
    start = find_start(snapshot)
    assert isinstance(start, NetworkStart) and start.mean == (0.4, 0.4, 0.4) and not start.assumed_statistics


def test_one_file_of_several_is_read_as_the_network_that_the_table_names(cache, monkeypatch):
    one = ENCODERS["eva-x-ti"]
    torch.manual_seed(0)
    small = {**one.settings, "depth": 2}
    monkeypatch.setitem(ENCODERS, "eva-x-ti", one)
    monkeypatch.setattr(public, "_ENCODERS", tuple(type(one)(**{**vars(o), "settings": small}) if o is one else o
                                                   for o in public._ENCODERS))  # fmt: skip
    network = timm.create_model(one.network, num_classes=0, img_size=224, **small).eval()
    # As EVA's masked pre-training leaves it: a mask token, a norm before the head, other names in the MLP.
    state = {
        name.replace("fc_norm", "norm").replace("mlp.fc1_g", "mlp.w1").replace("mlp.fc1_x", "mlp.w2")
        .replace("mlp.fc2", "mlp.w3").replace("mlp.norm", "mlp.ffn_ln"): t
        for name, t in network.state_dict().items()
    }  # fmt: skip
    state |= {
        "mask_token": torch.zeros(1, 1, 192),
        "lm_head.weight": torch.zeros(2, 192),
        "lm_head.bias": torch.zeros(2),
    }
    snapshot = cache(one.hub, **{one.file: lambda path: torch.save({"module": state}, path)})
    place = encoder_place("eva-x-ti")
    assert place == snapshot / one.file and known_weights(place).name == "eva-x-ti"
    start = find_start(place)
    assert start.network == one.network and start.mean == one.statistics[0] and start.how == "as eva-x-ti"
    encoder = TimmEncoder(start.network, 3, (224, 224), start.settings).eval()
    load_network(encoder, start.weights)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), network(x))


def test_weights_are_fetched_when_asked_and_refusals_are_explained(tmp_path):
    asked = []

    def download(repo_id, allow_patterns):
        asked.append((repo_id, allow_patterns))
        (tmp_path / "model.safetensors").write_bytes(b"")
        return str(tmp_path)

    assert fetch("rad-dino", download) == tmp_path
    assert asked[0][0] == "microsoft/rad-dino" and "config.json" in asked[0][1]
    assert fetch("eva-x-s", download).name == ENCODERS["eva-x-s"].file
    assert asked[-1] == ("MapleF/eva_x", [ENCODERS["eva-x-s"].file])

    class GatedRepoError(Exception):
        pass

    def gated(repo_id, allow_patterns):
        raise GatedRepoError("401")

    with pytest.raises(UserError, match="accepted its terms"):
        fetch("uni2-h", gated)

    def offline(repo_id, allow_patterns):
        raise OSError("no route")

    with pytest.raises(RunError, match=r"could not be fetched from .*/microsoft/rad-dino \(no route"):
        fetch("rad-dino", offline)


def test_the_command_lists_them(capsys):
    assert main(["weights", "list"]) == 0
    assert "dinov3-s" in capsys.readouterr().out
    assert main(["weights", "list", "virchow2"]) == 0
    out = capsys.readouterr().out
    assert "CC BY-NC-ND" in out and "class token and mean of patch tokens, 2560 values" in out
    assert main(["weights", "list", "virchow-2"]) == 2
    assert "Did you mean 'virchow" in capsys.readouterr().err
    assert main(["weights", "fetch"]) == 2
    assert "weights fetch needs a file, folder or name" in capsys.readouterr().err
    assert described("rad-dino").startswith("rad-dino\n  page: https://huggingface.co/microsoft/rad-dino")
