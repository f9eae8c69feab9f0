"""Invented slides as bags of tile features: what was asked of their difficulty is there."""

import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.slides.bag_table import read_bag_table
from clinvit.phantoms.bags import Difficulty, tile_features, write_bag_table


def test_a_finding_moves_its_share_of_the_tiles_by_the_signal():
    asked = Difficulty((400, 400), share=0.25, signal=3.0, width=8)
    plain, ill = tile_features(asked, True, 7)
    without, none = tile_features(Difficulty((400, 400), 0.25, 0.0, 8), True, 7)
    assert plain.shape == (400, 8) and not tile_features(asked, False, 7)[1].any() and none.sum() == ill.sum()
    np.testing.assert_allclose(np.linalg.norm((plain - without)[ill], axis=1), 3.0, rtol=1e-4)
    assert not (plain - without)[~ill].any()
    shares = [tile_features(asked, True, seed)[1].mean() for seed in range(40)]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)


def test_a_positive_slide_has_a_tile_with_the_finding():
    rare = Difficulty((20, 60), share=0.001)
    assert all(tile_features(rare, True, seed)[1].sum() == 1 for seed in range(10))


def test_slides_are_read_as_bags_and_are_the_same_again(tmp_path):
    asked = Difficulty((5, 9), width=4)
    bags = read_bag_table(write_bag_table(tmp_path / "slides.csv", asked, slides=6, seed=3))
    assert bags.targets[:, 0].tolist() == [0, 1] * 3 and bags.width == 4
    assert all(5 <= bags.count(row) <= 9 for row in range(6))
    again = write_bag_table(tmp_path / "again.csv", asked, slides=6, seed=3)
    assert again.read_bytes() == (tmp_path / "slides.csv").read_bytes()
    other = write_bag_table(tmp_path / "other.csv", asked, slides=6, seed=4)
    assert other.read_bytes() != again.read_bytes()


@pytest.mark.parametrize("wrong", [{"tiles": (9, 5)}, {"share": 0.0}, {"signal": -1.0}, {"width": 0}])
def test_an_impossible_difficulty_is_refused(wrong):
    with pytest.raises(UserError, match="tiles rise from 1"):
        Difficulty(**wrong)
