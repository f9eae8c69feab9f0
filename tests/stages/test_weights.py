"""`clinvit weights` on everything but a ViT, and checkpoints that carry code at every place that reads one."""

import os
import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from clinvit.backbone.encoder import load_encoder, open_vit, read_encoder_card
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.backbone.weights import load_into, read_checkpoint
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.finetune.model import load_model
from clinvit.finetune.recipe import Finetune
from clinvit.finetune.run import finetune
from clinvit.finetune.volumes.networks import NETWORKS, REGISTRY, VolumeClassifier
from clinvit.finetune.volumes.weights import load_published, published_network
from clinvit.mil.clam import Clam
from clinvit.mil.dsmil import DualStream
from clinvit.mil.model import load_mil
from clinvit.mil.slide_encoder import load_tile_encoder
from clinvit.mil.weights import load_official_clam, load_official_dsmil
from clinvit.stages.reproduce.weights import sort_weights
from clinvit.stages.weights import convert_weights, inspect_weights
from clinvit.tasks.erdes.recipes import baseline


class Malicious:
    """Leaves a mark when a pickle of it is opened."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def _reproduce(recipe):
    return lambda path: sort_weights(SimpleNamespace(name="a", steps=[]), [path], {"finetune": recipe}, ["A"])


READERS = {
    "read_checkpoint": read_checkpoint,
    "load_encoder": lambda path: load_encoder(ViT(Architecture(128, 1, 4)), path),
    "open_vit": open_vit,
    "read_encoder_card": read_encoder_card,
    "weights inspect": inspect_weights,
    "weights convert": lambda path: convert_weights(str(path), path.parent / "out"),
    "extract --encoder": lambda path: load_tile_encoder(str(path), "class"),
    "reproduce --weights, vit": _reproduce(Finetune()),
    "reproduce --weights, timm": _reproduce(replace(Finetune(), network="resnet18")),
    "reproduce --weights, volumes": _reproduce(baseline("unet3d")),
    "dsmil": load_official_dsmil,
    "clam": load_official_clam,
    "erdes": load_published,
}
WRITERS = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "pickle": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("suffix", ["pth", "ckpt"])
def test_code_is_refused_and_not_run(tmp_path, reader, suffix):
    marker, path = tmp_path / "owned", tmp_path / f"bad.{suffix}"
    for name, write in WRITERS.items():
        write({"state_dict": {"a": torch.zeros(2)}, "hyper_parameters": Malicious(marker)}, path)
        with pytest.raises(UserError, match="refused: the file asks to run"):
            reader(path)
        assert not marker.exists(), name


@pytest.mark.parametrize("network", ["vit", "resnet18"])
def test_code_in_the_encoder_of_a_fine_tuning_or_in_its_own_checkpoint(cohort, small_recipes, tmp_path, network):
    recipe, manifest, marker = replace(small_recipes[1], network=network), read_manifest(cohort()), tmp_path / "owned"
    bad = {"state_dict": {"a": torch.zeros(2)}, "more": Malicious(marker)}
    torch.save(bad, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"refused: .*system"):
        finetune(recipe, manifest, tmp_path / "one", tmp_path / "cache", tmp_path / "bad.pth")
    (tmp_path / "two/checkpoints").mkdir(parents=True)
    torch.save(bad, tmp_path / "two/checkpoints/last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: refused: .*system"):
        finetune(recipe, manifest, tmp_path / "two", tmp_path / "cache")
    assert not marker.exists()


def test_a_folder_of_hugging_face_starts_a_fine_tuning(cohort, small_recipes, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMAEConfig(
        image_size=64, patch_size=8, hidden_size=128, num_hidden_layers=1, num_attention_heads=4, intermediate_size=512
    )
    transformers.ViTMAEModel(config).save_pretrained(tmp_path / "mae")
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    model, card = load_model(
        finetune(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "c", tmp_path / "mae")
    )
    assert card.encoder["method"] == "mae" and card.arch.depth == 1 and card.arch.channels == 1
    assert next(model.parameters()).isfinite().all()


def test_a_pickle_that_calls_itself_safetensors(tmp_path):
    torch.save(Malicious(tmp_path / "owned"), tmp_path / "model.safetensors")
    for name in ("config.json", "encoder.json"):
        (tmp_path / name).write_text("{}")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(UserError, match="not a readable safetensors"):
            open_vit(path)
    assert not (tmp_path / "owned").exists()


def official_clam(width: int, hidden: int, attention: int, classes: int, branches: bool, dropout: bool) -> dict:
    """Names and shapes of models/model_clam.py."""
    net = f"attention_net.{3 if dropout else 2}"
    shapes = {
        "attention_net.0": (hidden, width), f"{net}.attention_a.0": (attention, hidden),
        f"{net}.attention_b.0": (attention, hidden), f"{net}.attention_c": (classes if branches else 1, attention),
        **{f"instance_classifiers.{c}": (2, hidden) for c in range(classes)},
    }  # fmt: skip
    one = {f"classifiers.{c}": (1, hidden) for c in range(classes)}
    shapes |= one if branches else {"classifiers": (classes, hidden)}
    torch.manual_seed(0)
    state = {f"{name}.weight": torch.randn(shape) / 3 for name, shape in shapes.items()}
    return state | {f"{name}.bias": torch.randn(shape[0]) / 3 for name, shape in shapes.items()}


def clam_forward(state: dict, h: torch.Tensor, branches: bool):
    """Logits (C), attention (A, N) and instance margins (N, C) as the official forward computes them."""
    net = "attention_net.3"

    def linear(name, x):
        return torch.nn.functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    h = linear("attention_net.0", h).relu()
    gated = linear(f"{net}.attention_a.0", h).tanh() * linear(f"{net}.attention_b.0", h).sigmoid()
    attention = linear(f"{net}.attention_c", gated).T.softmax(dim=1)
    pooled = attention @ h
    if branches:
        logits = torch.cat([linear(f"classifiers.{c}", pooled[c]) for c in range(len(pooled))])
    else:
        logits = linear("classifiers", pooled)[0]
    count = sum(name.startswith("instance_classifiers") for name in state) // 2
    pairs = [linear(f"instance_classifiers.{c}", h) for c in range(count)]
    return logits, attention, torch.stack([pair[:, 1] - pair[:, 0] for pair in pairs], dim=1)


@pytest.mark.parametrize("branches", [False, True])
@torch.no_grad()
def test_official_clam(tmp_path, branches):
    state, path = official_clam(12, 8, 6, 3, branches, True), tmp_path / "s_0_checkpoint.pt"
    torch.save(state, path)
    told, out = inspect_weights(path), tmp_path / "model"
    assert f"the aggregator {'clam_mb' if branches else 'clam_sb'}" in told
    assert convert_weights(path, out, ["a", "b", "c"]).startswith("model:")
    model, card = load_mil(out)
    assert isinstance(model, Clam) and card.exclusive and (card.width, card.hidden, card.attention) == (12, 8, 6)
    bag = torch.randn(7, 12)
    found = model.cpu()(bag[None])
    for ours, theirs in zip((found.logits, found.attention, found.instance_logits), clam_forward(state, bag, branches)):
        torch.testing.assert_close(ours[0], theirs)
    # Without dropout the official network has one layer less before its attention.
    bare = official_clam(12, 8, 6, 3, branches, False)
    torch.save(bare, path)
    torch.testing.assert_close(load_official_clam(path)(bag[None]).logits[0], clam_forward(state, bag, branches)[0])


def test_clam_without_gates_is_refused(tmp_path):
    state = official_clam(12, 8, 6, 2, False, True)
    bare = {name: value for name, value in state.items() if ".attention_" not in name}
    torch.save(bare | {"attention_net.3.module.0.weight": torch.zeros(6, 8)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="not aggregator weights of CLAM"):
        inspect_weights(tmp_path / "x.pt")


@pytest.mark.parametrize("kind", ["dsmil", "self_vit_mil"])
def test_official_dsmil_becomes_a_model_folder(tmp_path, kind):
    theirs, path = DualStream(10, 2, linear=kind == "self_vit_mil").eval(), tmp_path / "aggregator.pth"
    torch.save({f"module.{name}": value for name, value in theirs.state_dict().items()}, path)
    assert f"the aggregator {kind}" in inspect_weights(path)
    for labels in (None, ["a"]):
        with pytest.raises(UserError, match="has 2 output"):
            convert_weights(path, tmp_path / "model", labels)
    convert_weights(path, tmp_path / "model", ["LUAD", "LUSC"])
    model, card = load_mil(tmp_path / "model")
    x = torch.randn(1, 5, 10)
    torch.testing.assert_close(model.cpu()(x).logits, theirs(x).logits)
    assert card.labels == ("LUAD", "LUSC") and not card.exclusive
    assert f"{kind}, labels LUAD, LUSC" in inspect_weights(tmp_path / "model")
    with pytest.raises(UserError, match="model folder already"):
        convert_weights(tmp_path / "model", tmp_path / "again")


def published(tmp_path, name: str, how: str, **fields):
    """A baseline of ERDES as its authors publish it."""
    torch.manual_seed(0)
    model = VolumeClassifier(name, 1, **fields).eval()
    state = {f"net.{key}": value for key, value in model.state_dict().items()}
    if how == "safetensors":
        safetensors.torch.save_file(state, tmp_path / "x.safetensors")
        return model, tmp_path / "x.safetensors"
    torch.save({"pytorch-lightning_version": "2.5", "epoch": 3, "state_dict": state}, tmp_path / "x.ckpt")
    return model, tmp_path / "x.ckpt"


@pytest.mark.parametrize("name, how", [("unet3d", "safetensors"), ("unetplusplus", "lightning"), ("vnet", "lightning")])
def test_a_baseline_of_erdes(tmp_path, name, how):
    pytest.importorskip("monai")
    theirs, path = published(tmp_path, name, how)
    assert f"the baseline {name} of ERDES" in inspect_weights(path)
    convert_weights(path, tmp_path / "model", ["non_rd_vs_rd"], recipe_of=baseline)
    model, card = load_model(tmp_path / "model")
    assert card.network == name and card.arch.frames == 96 and card.pool == "mean" and card.labels == ("non_rd_vs_rd",)
    own = theirs.state_dict()
    assert all(torch.equal(value.cpu(), own[key]) for key, value in model.state_dict().items())
    with pytest.raises(UserError, match="has 1 output"):
        convert_weights(path, tmp_path / "model", None)
    convert_weights(path, tmp_path / "selective", ["a"], 0.3, recipe_of=baseline)
    assert (load_model(tmp_path / "selective")[1].pool, load_model(tmp_path / "selective")[1].pool_ratio) == (
        "topk",
        0.3,
    )
    given = sort_weights(SimpleNamespace(name="a", steps=[SimpleNamespace(trains="model")]), [path],
                         {"finetune": baseline(name)}, ["a"])  # fmt: skip
    assert given.model == path and given.encoder is None


KINDS = [(name, pool) for name in NETWORKS for pool in ("mean", "topk") if pool == "mean" or REGISTRY[name].complete]


@pytest.mark.parametrize(
    "name, pool", [pytest.param(*kind, marks=pytest.mark.slow if "senet154" in kind else ()) for kind in KINDS]
)
def test_every_baseline_is_told_by_its_names(name, pool):
    pytest.importorskip("monai")
    state = VolumeClassifier(name, 1, pool=pool).state_dict()
    assert published_network({f"net.{key}": value for key, value in state.items()}) == (name, pool)


def test_another_size_of_a_baseline_is_refused(tmp_path):
    pytest.importorskip("monai")
    _, path = published(tmp_path, "vit3d", "lightning", frames=32)
    with pytest.raises(UserError, match="in vit3d for 96 frames of 128 px"):
        inspect_weights(path)


@pytest.mark.slow
def test_a_residual_network_with_selective_pooling_needs_its_share(tmp_path):
    pytest.importorskip("monai")
    _, path = published(tmp_path, "resnet3d", "safetensors", pool="topk", pool_ratio=0.5)
    assert "the baseline resnet3d of ERDES" in inspect_weights(path)
    with pytest.raises(UserError, match="--pool-ratio"):
        convert_weights(path, tmp_path / "model", ["a"])
    convert_weights(path, tmp_path / "model", ["a"], 0.5, recipe_of=baseline)
    with pytest.raises(UserError, match="in \\(0, 1\\]"):
        convert_weights(path, tmp_path / "model", ["a"], 1.5)


def test_what_an_encoder_does_not_take(tmp_path):
    vit = ViT(Architecture(128, 1, 4, image_size=(32, 32), patch_size=8))
    torch.save(vit.state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match="--labels are for models"):
        convert_weights(tmp_path / "x.pth", tmp_path / "out", ["a"])
    with pytest.raises(UserError, match="--pool-ratio"):
        convert_weights(tmp_path / "x.pth", tmp_path / "out", None, 0.5)
    told = convert_weights(tmp_path / "x.pth", tmp_path / "out")
    assert "loaded" in told and load_into(ViT(vit.arch), read_checkpoint(tmp_path / "x.pth")).loaded
    assert read_encoder_card(tmp_path / "out").arch.width == 128
