"""Networks of timm that are no plain ViT as encoders: probes, LoRA, heat maps, input sizes, files and folders."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors.torch
import timm
import torch
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.explain.relevance import relevance_maps
from clinvit.finetune.adaptation import NORMS, adapt
from clinvit.finetune.classifier import Classifier, NearestNeighbours, TimmClassifier
from clinvit.finetune.model import build_model, load_card, load_model, save_model
from clinvit.finetune.new_card import make_card
from clinvit.finetune.predict import pooled_features
from clinvit.finetune.run import finetune
from clinvit.finetune.starts import NetworkStart, find_start
from clinvit.finetune.timm_encoder import TimmEncoder, as_map
from clinvit.finetune.timm_weights import load_network
from clinvit.mil.slide_encoder import load_tile_encoder
from clinvit.stages.export import export_stage
from clinvit.stages.weights import convert_weights, inspect_weights

SWIN = "swin_tiny_patch4_window7_224"
SMALL_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 24, "num_heads": [1, 2, 4, 8]}


def small_swin(**settings):
    torch.manual_seed(5)
    return timm.create_model(SWIN, **{key: tuple(value) if isinstance(value, list) else value for key, value in
                                      {**SMALL_SWIN, **settings}.items()})  # fmt: skip


@pytest.fixture
def hub_folder(tmp_path):
    """A small Swin as timm's hub has it: `config.json` and `model.safetensors`."""
    folder = tmp_path / "swin-hub"
    folder.mkdir()
    network = small_swin(num_classes=5)
    safetensors.torch.save_file(
        {name: t.contiguous() for name, t in network.state_dict().items()}, folder / "model.safetensors"
    )
    config = {
        "architecture": SWIN, "num_classes": 5, "model_args": SMALL_SWIN,
        "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.4] * 3, "std": [0.2] * 3},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint without last layer, named as timm's network."""
    torch.manual_seed(4)
    network = timm.create_model("resnet10t", num_classes=0)
    path = tmp_path / "resnet10t.safetensors"
    safetensors.torch.save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)
    return path


def image_recipe(small_recipes, px=64, **fields):
    recipe = small_recipes[1]
    return replace(
        recipe, model=replace(recipe.model, image_size=px), augment=replace(recipe.augment, size=px),
        data=replace(recipe.data, cache_px=px), optim=replace(recipe.optim, epochs=2, layer_decay=1.0), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet10t", "test_vit2", "densenet121", "test_vit"])
def test_tokens_map_and_vector_are_of_the_same_features(name):
    px = 224 if name.startswith("swin") else 160 if name.startswith("test") else 64
    encoder = TimmEncoder(name, 1, (px, px)).eval()
    x = torch.randn(2, 1, px, px)
    with torch.no_grad():
        features = encoder.features(x)
        found = as_map(encoder.network, features)
        assert found.shape[1] == encoder.network.num_features
        vector = encoder(x, "mean")
        assert vector.shape == (2, encoder.width("mean"))
        if not encoder.by_token:
            torch.testing.assert_close(vector, encoder.network(x))
        tokens = encoder.tokens(x).patches
        flat = found.flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens[:, -flat.shape[1] :], flat)


@pytest.mark.parametrize(
    "mode, fields",
    [
        ("linear", {}), ("attentive", {"pool": "attention"}), ("knn", {}), ("norm", {}), ("bitfit", {}),
        ("lora", {"lora_rank": 2}), ("full", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["hub_folder", "checkpoint"])
def test_every_mode_learns_and_is_read_back(cohort, small_recipes, tmp_path, request, source, mode, fields):
    path = request.getfixturevalue(source)
    recipe = image_recipe(small_recipes, mode=mode, **fields)
    manifest = read_manifest(cohort(patients=20))
    folder = finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", path)
    card = load_card(folder)
    assert card.network == (SWIN if source == "hub_folder" else "resnet10t") and card.mode == mode
    assert card.encoder["network"] == card.network
    if source == "hub_folder":
        assert card.mean == pytest.approx((0.4,)) and card.settings == SMALL_SWIN
    else:  # the file states none
        assert card.mean == recipe.data.mean
    model, _ = load_model(folder)
    kind = {"linear": Classifier, "attentive": Classifier, "knn": NearestNeighbours}.get(mode, TimmClassifier)
    assert isinstance(model, kind)
    table = read_predictions(tmp_path / "run" / "predictions.csv").table
    assert (table["status"] == "ok").all()
    x = torch.randn(3, 1, 64, 64)
    with torch.no_grad():
        assert pooled_features(model)(x).shape[0] == 3
    start = find_start(path)
    frozen = TimmEncoder(start.network, 1, (64, 64), start.settings)
    load_network(frozen, start.weights)
    if kind is not TimmClassifier:  # the encoder is as it was
        for name, tensor in frozen.state_dict().items():
            torch.testing.assert_close(model.encoder.state_dict()[name], tensor)


@pytest.mark.parametrize("name, px", [(SWIN, 64), ("resnet10t", 64), ("test_vit2", 160), ("test_vit", 160)])
@pytest.mark.parametrize("mode, fields", [("linear", {}), ("knn", {}), ("full", {})])
def test_a_heat_map_by_gradient_of_every_kind(cohort, small_recipes, name, px, mode, fields):
    recipe = replace(image_recipe(small_recipes, px), mode=mode, network=name, **fields)
    start = NetworkStart(name, None, "", (0.5,) * 3, (0.2,) * 3, (px, px))
    card = make_card(recipe, read_manifest(cohort(patients=5)), start)
    torch.manual_seed(0)
    model = build_model(card).eval()
    # The second label is the first's opposite, so that each place speaks for one of them.
    if mode == "knn":
        near = torch.nn.functional.normalize(torch.randn(6, model.encoder.width("mean")), dim=1)
        first = torch.tensor([0.0, 1, 1, 0, 1, 0])
        model.remember(near, torch.stack([first, 1 - first], dim=1))
    else:
        last = model.head if mode == "linear" else model.network.get_classifier()
        torch.nn.init.normal_(last.weight)
        last.weight.data[1] = -last.weight.data[0]
    maps = relevance_maps(model, torch.randn(2, 1, px, px), torch.tensor([[0, 1], [1, 0]]), "gradient")
    assert maps.shape[:2] == (2, 2) and maps.shape[2] == maps.shape[3] > 1
    assert torch.isfinite(maps).all() and maps.max() > 0
    with pytest.raises(UserError, match="attention is for ViT models"):
        relevance_maps(model, torch.randn(1, 1, px, px), torch.tensor([[0]]), "attention")


def test_a_grad_cam_is_that_of_the_formula():
    model = TimmClassifier("resnet10t", 2, 1).eval()
    x = torch.randn(1, 1, 64, 64)
    found = relevance_maps(model, x, torch.tensor([[1]]), "gradient")[0, 0]
    features = model.network.forward_features(x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.network.forward_head(features)[0, 1], features)
    wanted = (slope.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).clamp(min=0)[0]
    torch.testing.assert_close(found, wanted.detach())


@pytest.mark.parametrize("mode, fields, names", [
    ("norm", {}, "norm"), ("bitfit", {}, "bias"), ("lora", {"lora_rank": 2}, "lora_"),
])  # fmt: skip
@pytest.mark.parametrize("name", [SWIN, "resnet10t"])
def test_only_what_is_meant_to_learn_learns(cohort, small_recipes, name, mode, fields, names):
    recipe = replace(image_recipe(small_recipes), mode=mode, network=name, **fields)
    start = NetworkStart(name, None, "", (0.5,) * 3, (0.2,) * 3, (224, 224))
    model = build_model(make_card(recipe, read_manifest(cohort(patients=5)), start))
    trained, total = adapt(model, recipe)
    learning = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    assert 0 < trained < total / 2
    head = "network.fc." if name == "resnet10t" else "network.head.fc."
    assert {f"{head}weight", f"{head}bias"} <= set(learning)
    rest = [key for key in learning if not key.startswith(head)]
    parts = {key: model.get_submodule(key.rpartition(".")[0]) for key in rest}
    if mode == "norm":
        assert rest and all(isinstance(part, NORMS) for part in parts.values())
    else:
        assert rest and all(names in key for key in rest)
    if mode == "lora":
        assert any("attn" in key for key in rest) == (name == SWIN)
        norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
        assert not any(norm.training for norm in norms)  # what learns nothing keeps its statistics


def test_tables_of_positions_are_fitted_to_the_input_as_timm_does(hub_folder):
    encoder = TimmEncoder(SWIN, 3, (64, 64), SMALL_SWIN).eval()
    report = load_network(encoder, hub_folder / "model.safetensors")
    assert "fitted to the input size" in str(report)
    theirs = small_swin(
        pretrained=True, img_size=64, num_classes=0,
        pretrained_cfg_overlay={"file": str(hub_folder / "model.safetensors"), "num_classes": 5},
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), theirs(x))


def test_an_input_that_a_network_does_not_take_names_the_one_it_was_made_for(cohort, small_recipes, tmp_path):
    recipe = replace(image_recipe(small_recipes, 40), network="test_vit2")
    with pytest.raises(UserError, match=r"takes no input of 40 x 40 px .* for 160 px: set --model.image_size 160"):
        finetune(recipe, read_manifest(cohort(patients=10)), tmp_path / "run", tmp_path / "cache")


def test_a_misspelt_name_gets_the_nearest(cohort, small_recipes, tmp_path, capsys):
    recipe = replace(image_recipe(small_recipes), network="swin_tiny_patch4_window_224")
    with pytest.raises(UserError, match=f"did you mean {SWIN!r}"):
        finetune(recipe, read_manifest(cohort(patients=10)), tmp_path / "run", tmp_path / "cache")
    data = cohort(patients=10, folder="b")
    command = ["finetune", "images", "--data", str(data), "--out", str(tmp_path / "c"), "--encoder"]
    assert main([*command, "resnet1O1"]) == 2
    assert "Did you mean 'resnet101'" in capsys.readouterr().err


def test_gated_units_that_no_config_names_are_named(tmp_path):
    """Virchow's config is of a plain ViT; the gate is an argument of the call that its page shows."""
    arguments = {"embed_dim": 48, "depth": 1, "num_heads": 3, "num_classes": 0, "mlp_ratio": 5.3375, "img_size": 28}
    gated = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    state = timm.create_model("vit_tiny_patch16_224", **arguments, **gated, patch_size=14).state_dict()
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    plain = timm.create_model("vit_tiny_patch16_224", **arguments, patch_size=14)
    with pytest.raises(UserError, match='"mlp_layer": "SwiGLUPacked"'):
        load_network(SimpleNamespace(network=plain), tmp_path / "w.safetensors", head=True)


def test_what_says_two_networks_is_refused(hub_folder, checkpoint, tmp_path):
    with pytest.raises(UserError, match=f"holds {SWIN}"):
        find_start(hub_folder, "resnet18")
    with pytest.raises(UserError, match="not a checkpoint of this network"):
        load_network(TimmEncoder("resnet18", 1, None), checkpoint)
    renamed = tmp_path / "weights.safetensors"
    renamed.write_bytes(checkpoint.read_bytes())
    with pytest.raises(UserError, match="--network NAME says which"):
        find_start(renamed)
    assert find_start(renamed, "resnet10t").network == "resnet10t"


def test_settings_of_a_card_are_values_and_open_no_file():
    for bad in ({"checkpoint_path": "x"}, {"norm_layer": "os.system"}, {"pretrained": True}, {"pretrained_cfg": {}}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            TimmClassifier("resnet10t", 2, 1, None, bad)


def test_settings_of_a_folder_are_values_and_no_code(hub_folder):
    config = json.loads((hub_folder / "config.json").read_text())
    for bad in ("os.system", {"a": 1}, "Linear"):
        (hub_folder / "config.json").write_text(json.dumps(config | {"model_args": {"norm_layer": bad}}))
        with pytest.raises(UserError, match="model_args norm_layer"):
            find_start(hub_folder)


def test_a_tile_encoder_from_a_folder_gives_what_the_network_gives(hub_folder):
    encoder = load_tile_encoder(str(hub_folder), "pooled")
    tiles = torch.randint(0, 255, (2, 224, 224, 3), dtype=torch.uint8)
    network = small_swin(num_classes=5).eval()
    x = ((tiles.permute(0, 3, 1, 2) / 255) - 0.4) / 0.2
    with torch.no_grad():
        wanted = network.forward_head(network.forward_features(x), pre_logits=True)
        torch.testing.assert_close(encoder(tiles), wanted, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="it gives --features pooled"):
        load_tile_encoder(str(hub_folder), "class4_mean")


def test_inspect_says_which_network_it_is(hub_folder, checkpoint):
    assert f"the network {SWIN} of timm, by its config.json" in inspect_weights(hub_folder)
    assert "the network resnet10t of timm, by the name of the file" in inspect_weights(checkpoint)
    with pytest.raises(UserError, match=r"serves as it is.* It becomes no encoder folder"):
        convert_weights(checkpoint, checkpoint.parent / "out")


def test_a_network_at_another_size_goes_to_timm_and_its_probe_to_a_graph(cohort, small_recipes, tmp_path):
    manifest = read_manifest(cohort(patients=5))
    start = NetworkStart(SWIN, None, "", (0.5,) * 3, (0.2,) * 3, (224, 224), SMALL_SWIN)
    whole = make_card(replace(image_recipe(small_recipes), network=SWIN), manifest, start)
    torch.manual_seed(0)
    folder = save_model(tmp_path / "whole", build_model(whole).eval(), whole)
    export_stage(folder, "timm", tmp_path / "timm")  # compares both
    said = json.loads((tmp_path / "timm" / "timm.json").read_text())
    assert said["arguments"]["img_size"] == [64, 64] and said["arguments"]["depths"] == [1, 1, 1, 1]
    probe = make_card(replace(image_recipe(small_recipes), network="resnet10t", mode="linear"), manifest, start)
    folder = save_model(
        tmp_path / "probe", build_model(replace(probe, settings={})).eval(), replace(probe, settings={})
    )
    with pytest.raises(UserError, match="no probe's: export to onnx or torch"):
        export_stage(folder, "timm", tmp_path / "no")
    export_stage(folder, "torch", tmp_path / "torch")  # compares both
    assert list((tmp_path / "torch").glob("*.pt2"))


@pytest.fixture
def plain_folder(tmp_path):
    """A small plain ViT on a grid of 4 x 6 patches, as timm's hub has it."""
    folder = tmp_path / "plain"
    folder.mkdir()
    torch.manual_seed(3)
    settings = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": [64, 96]}
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, **settings)
    safetensors.torch.save_file(
        {name: t.contiguous() for name, t in network.state_dict().items()}, folder / "model.safetensors"
    )
    stated = {"input_size": [3, 64, 96], "mean": [0.4] * 3, "std": [0.2] * 3}
    config = {"architecture": "vit_tiny_patch16_224", "model_args": settings, "pretrained_cfg": stated}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_plain_vit_in_a_folder_of_timm_is_fine_tuned_as_one_of_ours(
    plain_folder, hub_folder, cohort, small_recipes, tmp_path
):
    """As a network of timm it takes neither another grid nor the training of its last blocks."""
    start = find_start(plain_folder, ours=True)
    assert start.arch.image_size == (64, 96) and start.mean == (0.4, 0.4, 0.4) and not start.assumed_statistics
    assert isinstance(find_start(plain_folder), NetworkStart)
    assert find_start(plain_folder, "vit_tiny_patch16_224", ours=True).network == "vit_tiny_patch16_224"
    assert isinstance(find_start(hub_folder, ours=True), NetworkStart)
    recipe = image_recipe(small_recipes, mode="last_blocks", last_blocks=1)
    folder = finetune(recipe, read_manifest(cohort(patients=20)), tmp_path / "run", tmp_path / "cache", plain_folder)
    card = load_card(folder)
    assert card.network == "vit" and card.arch.image_size == (64, 64) and card.arch.width == 48
    assert card.mean == pytest.approx((0.4,)) and isinstance(load_model(folder)[0], Classifier)


def test_an_attention_before_the_head_is_not_lost(plain_folder):
    config = json.loads((plain_folder / "config.json").read_text())
    config["model_args"]["global_pool"] = "map"
    (plain_folder / "config.json").write_text(json.dumps(config))
    assert isinstance(find_start(plain_folder, ours=True), NetworkStart)
