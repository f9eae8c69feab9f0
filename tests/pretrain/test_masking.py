"""Masks: the official running cells, and what holds for every draw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clinvit.pretrain.masking import draw_masks, noise, random_masking, running_cells, tube_masking, visible_count
from hypothesis import given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@given(st.integers(2, 300), st.floats(0.05, 0.95), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_masks_are_a_partition(tokens, ratio, seed):
    if int(tokens * (1 - ratio)) == 0:
        with pytest.raises(ValueError, match="none of"):
            visible_count(tokens, ratio)
        return
    draw = noise(3, tokens, torch.Generator().manual_seed(seed))
    visible, masked = random_masking(draw, ratio)
    assert visible.shape[1] == int(tokens * (1 - ratio))
    assert torch.equal(torch.cat([visible, masked], 1).sort(1).values, torch.arange(tokens).expand(3, -1))
    again = noise(3, tokens, torch.Generator().manual_seed(seed))
    assert torch.equal(draw, again)


@pytest.mark.parametrize("name, decode_ratio", [("maps_8x14x14", 0.5), ("maps_q", 0.25)])
def test_running_cells_equal_the_official_maps(name, decode_ratio):
    with np.load(GOLDEN / "running_cell.npz") as file:
        dropped = torch.from_numpy(file[name]).flatten(1)
    ids = running_cells(torch.arange(4), (8, 14, 14), decode_ratio)
    assert torch.equal(torch.ones_like(dropped).scatter(1, ids, False), dropped)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8), st.floats(0.1, 0.95), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_tubes_mask_the_same_places_in_every_slot(times, rows, columns, ratio, seed):
    places = rows * columns
    draw = noise(3, places, torch.Generator().manual_seed(seed))
    if places == int(places * ratio):
        return
    visible, masked = tube_masking(draw, times, ratio)
    assert visible.shape[1] == times * (places - int(places * ratio))
    everything = torch.cat([visible, masked], 1).sort(1).values
    assert torch.equal(everything, torch.arange(times * places).expand(3, -1))
    by_time = (visible % places).view(3, times, -1)
    assert torch.equal(by_time, by_time[:, :1].expand_as(by_time))


def test_videomae_v2_keeps_its_published_numbers_of_tokens():
    draw = torch.Generator().manual_seed(0)
    masks = draw_masks((8, 14, 14), 3, draw, mask="tube", mask_ratio=0.9, decoder_mask="running_cell", decode_ratio=0.5)
    assert masks.visible_ids.shape == (3, 160) and masks.target_ids.shape == (3, 784)
    seen = (masks.target_ids.unsqueeze(2) == masks.visible_ids.unsqueeze(1)).any(2)
    assert torch.equal(masks.loss_mask, ~seen) and seen.sum() == 3 * 80
    giant = draw_masks((8, 16, 16), 1, draw, mask="tube", mask_ratio=0.9)
    assert giant.visible_ids.shape == (1, 208) and giant.target_ids.shape == (1, 2048 - 208)


def test_what_the_encoder_saw_can_be_left_out():
    options = {"mask": "tube", "mask_ratio": 0.9, "decoder_mask": "running_cell", "decode_ratio": 0.5}
    whole = draw_masks((8, 14, 14), 3, torch.Generator().manual_seed(1), **options)
    less = draw_masks((8, 14, 14), 3, torch.Generator().manual_seed(1), **options, reconstruct_visible=False)
    assert less.loss_mask is None and less.target_ids.shape == (3, 784 - 80)
    assert torch.equal(less.target_ids.flatten(), whole.target_ids[whole.loss_mask])
    with pytest.raises(ValueError, match="multiple of 4 temporal positions"):
        draw_masks((6, 14, 14), 3, torch.Generator(), **options, reconstruct_visible=False)


def test_a_random_share_of_tubes_reaches_every_slot():
    draw = torch.Generator().manual_seed(0)
    masks = draw_masks((4, 8, 8), 5, draw, mask="tube", mask_ratio=0.75, decode_ratio=0.5)
    assert masks.target_ids.shape == (5, 96)
    assert all(len(torch.unique(ids // 64)) == 4 for ids in masks.target_ids)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"mask": "cell"}, "unknown mask 'cell'"),
        ({"decoder_mask": "tube"}, "unknown decoder mask"),
        ({"decode_ratio": 0.1}, "0.25, 0.5 or 0.75"),
        ({"mask_ratio": 1.0}, "not between 0 and 1"),
        ({"grid": (8, 7, 14)}, "do not fit a grid of 7 x 14"),
    ],
)
def test_masks_that_cannot_be_drawn_say_so(change, words):
    options = {"grid": (8, 14, 14), "mask": "tube", "mask_ratio": 0.9, "decoder_mask": "running_cell"}
    with pytest.raises(ValueError, match=words):
        draw_masks(batch=2, generator=torch.Generator(), **(options | {"decode_ratio": 0.5} | change))


def test_shares_of_two_processes_make_the_whole():
    options = {"mask": "tube", "mask_ratio": 0.9, "decoder_mask": "running_cell", "decode_ratio": 0.5}
    whole = draw_masks((8, 14, 14), 4, torch.Generator().manual_seed(2), **options)
    halves = [whole.share(rank, 2) for rank in range(2)]
    for part, *of_halves in zip(whole, *halves):
        assert torch.equal(part, torch.cat(of_halves))
