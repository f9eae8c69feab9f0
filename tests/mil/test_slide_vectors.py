"""Slide vectors: the mean, what our aggregators see, and slide encoders of others by their tensors' names."""

import clinvit
import numpy as np
import pytest
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.slides.hdf5 import FeatureFile, read_attention, read_tiles, write_features, write_slide_vector
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.mil.aggregator import CHUNK, WHOLE
from clinvit.mil.model import MilCard, save_mil
from clinvit.mil.recipe import AGGREGATORS, Mil, build_aggregator, settings
from clinvit.mil.slide_vectors import load_slide_encoder
from torch import nn

WIDTH, HIDDEN, ATTENTION, TILES = 12, 8, 6, 30


@pytest.fixture
def tiles():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(TILES, WIDTH)).astype(np.float32))


def linear(state, name, out, into):
    layer = nn.Linear(into, out)
    state[f"{name}.weight"], state[f"{name}.bias"] = layer.weight.data, layer.bias.data
    return layer


def gated(state, prefix):
    """The gate as MIL-Lab, CLAM and CHIEF name it: two layers that are multiplied, and a third on top."""
    a = linear(state, f"{prefix}attention_a.0", ATTENTION, HIDDEN)
    b = linear(state, f"{prefix}attention_b.0", ATTENTION, HIDDEN)
    c = linear(state, f"{prefix}attention_c", 1, ATTENTION)
    return lambda h: c(a(h).tanh() * b(h).sigmoid()).softmax(dim=0).T


def saved(folder, state):
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
@pytest.mark.parametrize("layers", [1, 2])
def test_feather_like_abmil_is_pooled_as_mil_lab_does(tmp_path, tiles, prefix, layers):
    torch.manual_seed(0)
    state = {}
    embed = nn.Sequential()
    for layer in range(layers):  # Linear, ReLU, Dropout, Linear, ReLU
        embed += nn.Sequential(linear(state, f"patch_embed.{3 * layer}", HIDDEN, HIDDEN if layer else WIDTH), nn.ReLU())
    weights = gated(state, "global_attn.")
    linear(state, "classifier", 3, HIDDEN)
    encoder = load_slide_encoder(saved(tmp_path, {f"{prefix}{name}": value for name, value in state.items()}))
    found = encoder.pooled(tiles)
    h = embed(tiles)
    torch.testing.assert_close(found.attention, weights(h)[0])
    torch.testing.assert_close(found.vector, (weights(h) @ h)[0])
    assert (encoder.name, encoder.width) == ("abmil (MIL-Lab)", WIDTH) and len(encoder.sha256) == 64


def test_chief_pools_the_tile_features_themselves(tmp_path, tiles):
    torch.manual_seed(0)
    state = {"organ_embedding": torch.zeros(19, 768)}
    embed = linear(state, "attention_net.0", HIDDEN, WIDTH)
    weights = gated(state, "attention_net.3.")
    for name, sizes in {"classifiers": (2, HIDDEN), "att_head.fc1": (ATTENTION, HIDDEN), "att_head.fc2": (1, ATTENTION),
                        "text_to_vision.0": (HIDDEN, 768), "instance_classifiers.0": (2, HIDDEN)}.items():  # fmt: skip
        linear(state, name, *sizes)
    encoder = load_slide_encoder(saved(tmp_path, state))
    found = encoder.pooled(tiles)
    torch.testing.assert_close(found.vector, (weights(embed(tiles).relu()) @ tiles)[0])
    assert encoder.name == "chief"


def test_clam_is_pooled_as_its_classifier_sees_the_bag(tmp_path, tiles):
    torch.manual_seed(0)
    state = {}
    embed = linear(state, "attention_net.0", HIDDEN, WIDTH)
    weights = gated(state, "attention_net.3.")
    linear(state, "classifiers", 2, HIDDEN)
    for number in range(2):
        linear(state, f"instance_classifiers.{number}", 2, HIDDEN)
    encoder = load_slide_encoder(saved(tmp_path, state))
    h = embed(tiles).relu()
    torch.testing.assert_close(encoder.pooled(tiles).vector, (weights(h) @ h)[0])
    assert encoder.name == "clam_sb"


@pytest.mark.parametrize("name", AGGREGATORS)
def test_models_of_ours_give_one_vector_with_weights_that_sum_to_1(tmp_path, tiles, name):
    recipe = Mil(aggregator=name, hidden=HIDDEN)
    hidden, attention, _ = settings(recipe)
    torch.manual_seed(0)
    card = MilCard(("a", "b"), {}, False, name, hidden, attention or None, "bag", WIDTH)
    save_mil(tmp_path / "model", build_aggregator(recipe, WIDTH, 2), card)
    encoder = load_slide_encoder(tmp_path / "model")
    found = encoder.pooled(tiles.half())
    # What the classifier sees, by class where there is a map of each; of the others the mean of the features.
    wide = {"mean": WIDTH, "max": 2 * WIDTH, "transmil": WIDTH, "clam_mb": 2 * HIDDEN}
    assert found.vector.shape == (wide.get(name, HIDDEN * (2 if "mil" in name else 1)),)
    assert len(found.attention) == TILES and found.attention.sum() == pytest.approx(1, abs=1e-4)
    assert encoder.card.labels == ("a", "b") and encoder.sha256


def test_what_the_classifier_sees_gives_its_logits(tiles):
    torch.manual_seed(0)
    model = build_aggregator(Mil(aggregator="gated_attention", hidden=HIDDEN), WIDTH, 2).eval()
    out = model(tiles[None])
    torch.testing.assert_close(model.head(out.pooled[:, 0]), out.logits)


def test_large_bags_are_pooled_in_chunks_as_small_ones(tmp_path):
    torch.manual_seed(0)
    model = build_aggregator(Mil(aggregator="gated_attention", hidden=4), 3, 1).eval()
    big = torch.randn(1, WHOLE + CHUNK // 2, 3)
    with torch.no_grad():
        whole = model(big)
        h = model.embed(big)
        expected = model.attention(h).softmax(dim=1).transpose(1, 2) @ h
    torch.testing.assert_close(whole.pooled, expected, atol=1e-5, rtol=1e-4)


def test_the_mean_is_the_mean(tiles):
    found = load_slide_encoder("mean").pooled(tiles)
    torch.testing.assert_close(found.vector, tiles.mean(dim=0))
    torch.testing.assert_close(found.attention, torch.full((TILES,), 1 / TILES))


def test_other_features_and_other_files_are_refused_in_one_line(tmp_path, tiles):
    state = {}
    linear(state, "patch_embed.0", HIDDEN, WIDTH)
    gated(state, "global_attn.")
    encoder = load_slide_encoder(saved(tmp_path, state))
    with pytest.raises(DataError, match=f"width 5, but abmil .MIL-Lab. takes {WIDTH}"):
        encoder.pooled(torch.zeros(3, 5))
    with pytest.raises(DataError, match="not finite"):
        encoder.pooled(torch.full((3, WIDTH), torch.nan))
    with pytest.raises(UserError, match="no slide encoder that is known here"):
        load_slide_encoder(saved(tmp_path, {"blocks.0.weight": torch.zeros(2, 2)}))
    for start, name in (("vision_encoder.blocks.0.attn.qkv", "TITAN"), ("image_resampler.latents", "PRISM")):
        with pytest.raises(UserError, match=f"looks like {name}, whose network is not built here") as found:
            load_slide_encoder(saved(tmp_path, {f"{start}.weight": torch.zeros(2, 2)}))
        assert "TRIDENT" in str(found.value)
    del state["global_attn.attention_b.0.weight"]
    with pytest.raises(UserError, match="do not fit together"):
        load_slide_encoder(saved(tmp_path, state))
    with pytest.raises(UserError, match="neither 'mean', nor a model folder"):
        load_slide_encoder(tmp_path / "nothing")


def test_files_are_laid_out_as_trident_does(tmp_path):
    coords = np.arange(2 * TILES).reshape(TILES, 2) * 64
    grid = TileGrid(coords, np.ones(TILES, np.float32), 64, 32.0, 0.0, 64, 0.5, 9000, 9000)
    write_features(tmp_path / "s.h5", np.ones((TILES, WIDTH), np.float32), grid, {"encoder": "vit"})
    attention = np.linspace(0, 1, TILES, dtype=np.float32)
    out = tmp_path / "vectors" / "s.h5"
    write_slide_vector(out, np.ones(5, np.float32), attention, tmp_path / "s.h5", {"encoder": "vit, pooled by mean"})
    with FeatureFile(out) as file:
        assert (file.count, file.dim, file.attributes["encoder"]) == (1, 5, "vit, pooled by mean")
        np.testing.assert_array_equal(file.read(), np.ones((1, 5)))
    np.testing.assert_array_equal(read_attention(out), attention)
    back = read_tiles(out)
    np.testing.assert_array_equal(back.coords, coords)
    assert back.tile_um == 32.0 and back.mpp == 0.5


def test_a_model_of_patients_is_loaded_but_scores_no_single_files(tmp_path, tiles):
    recipe = Mil(aggregator="gated_attention", hidden=HIDDEN)
    own = {"unit": "patient", "rule": "max"}
    card = MilCard(("a",), {}, False, "gated_attention", HIDDEN, 128, "bag", WIDTH, aggregation=own)
    save_mil(tmp_path / "model", build_aggregator(recipe, WIDTH, 1), card)
    model = clinvit.load(tmp_path / "model")
    assert model.labels == ("a",)
    with pytest.raises(UserError, match="its thresholds are for a patient, not for single slides"):
        model.predict(tmp_path / "s.h5")
    with pytest.raises(UserError, match="its thresholds are for a patient"):
        load_slide_encoder(tmp_path / "model")
