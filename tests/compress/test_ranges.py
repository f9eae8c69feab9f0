"""Levels of activations and weights: RepQ-ViT's formulas, number by number."""

import numpy as np
import pytest
import torch
from clinvit.compress import ranges
from clinvit.compress.ranges import best_channel_levels, best_levels, levels_between, log_sqrt2, seen_by_layers
from torch import nn

RANDOM = np.random.default_rng(0)


def test_uniform_levels_by_the_formula():
    x = np.linspace(-1.3, 3.1, 1001)
    for bits in (4, 8):
        delta = (3.1 + 1.3) / (2**bits - 1)
        zero = round(1.3 / delta)
        stored = np.clip(np.round(x / delta) + zero, 0, 2**bits - 1)
        np.testing.assert_allclose(
            levels_between(-1.3, 3.1, bits).restored(x, bits), (stored - zero) * delta, atol=1e-12
        )
    assert levels_between(2.0, 3.0).zero == 0, "0 is always a level: what is padded stays 0"
    assert levels_between(0.0, 0.0).restored(np.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("outliers", [0, 30])
def test_of_three_percentiles_the_one_that_loses_least_is_taken(outliers):
    values = RANDOM.normal(size=200_000)
    values[:outliers] = 60
    losses = {}
    for share in (0.999, 0.9999, 0.99999):
        levels = levels_between(np.quantile(values, 1 - share), np.quantile(values, share))
        losses[float(levels.scale)] = np.square(values - levels.restored(values)).mean()
    assert float(best_levels(values).scale) == min(losses, key=losses.get)


def test_channels_have_ranges_of_their_own():
    values = RANDOM.normal(size=(5000, 3)) * [1, 20, 0.1] + [0, 5, 0]
    levels = best_channel_levels(values)
    for channel in range(3):
        alone = best_levels(values[:, channel])
        assert levels.scale[channel] == alone.scale and levels.zero[channel] == alone.zero


def test_powers_of_the_square_root_of_2_by_the_formula():
    x = np.array([1.0, 0.71, 0.5, 0.3, 2**-20.2, 2.0**-127.4, 2.0**-130, 0.0])
    wanted = []
    for value in x:
        q = round(-2 * np.log2(value)) if value else 999
        wanted.append(0.0 if q > 255 else 2.0 ** -np.ceil(q / 2) * (1 + (np.sqrt(2) - 1) * (q % 2)))
    np.testing.assert_allclose(log_sqrt2(x), wanted, rtol=1e-12)
    assert wanted[-3] > 0 and wanted[-2] == 0
    some = RANDOM.uniform(0.01, 1, 1000)
    assert np.abs(log_sqrt2(some) / some - 1).max() <= 2**0.25 - 1 + 1e-9, "half a step of the square root of 2"


def test_what_layers_see_is_whole_however_few_fit_in_memory(monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 5), nn.Linear(5, 2)).eval()
    x = torch.randn(20, 3, 4)
    whole = dict(seen_by_layers(network, x, ["0", "2", "3"]))
    np.testing.assert_array_equal(whole["0"], x.flatten(0, 1))
    assert whole["2"].shape == (60, 6) and not network[0]._forward_pre_hooks
    monkeypatch.setattr(ranges, "_MOST_VALUES", 10)
    for name, values in seen_by_layers(network, x, ["0", "2", "3"]):
        np.testing.assert_array_equal(values, whole[name])
