"""Mixup and cutmix with unknown targets."""

import pytest
import torch
from clinvit.finetune.mixing import erase_batch, mix_batch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are constant at the number of the case, which is also the first target."""
    numbers = torch.arange(count, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(-1, 1, 12, 16).clone(), numbers.view(-1, 1).repeat(1, 2)


@pytest.mark.parametrize("alphas", [(0.8, 0), (0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize("seed", range(8))
def test_targets_are_mixed_in_the_share_of_the_pixels(alphas, seed):
    images, targets = batch()
    mixed, mixed_targets = mix_batch(images, targets, *alphas, seeded(seed))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), mixed_targets[:, 0])
    assert mixed.shape == images.shape
    assert torch.equal(images, batch()[0])
    assert torch.equal(targets, batch()[1])


def test_cutmix_pastes_one_rectangle():
    images, targets = batch(2)
    kinds = [mix_batch(images, targets, 0, 1.0, seeded(seed))[0].unique().numel() for seed in range(20)]
    assert max(kinds) == 2  # pixels of either partner, none in between


def test_mixup_blends_all_pixels_alike():
    images, targets = batch()
    mixed = mix_batch(images, targets, 0.8, 0, seeded())[0]
    assert torch.equal(mixed, mixed[:, :, :1, :1].expand_as(mixed))


def test_an_unknown_target_stays_unknown_for_both_partners():
    images, targets = batch()
    targets[2, 1] = torch.nan
    for seed in range(20):
        mixed = mix_batch(images, targets, 0.8, 1.0, seeded(seed))[1]
        unknown = mixed[:, 1].isnan()
        partners = torch.arange(5)[unknown].tolist()
        assert 2 in partners
        assert len(partners) in (1, 2)
        assert not mixed[:, 0].isnan().any()


def test_clips_share_the_rectangle_over_time():
    clips = torch.arange(4.0).view(-1, 1, 1, 1, 1).expand(-1, 1, 3, 12, 16)
    for seed in range(5):
        mixed = mix_batch(clips, torch.zeros(4, 1), 0, 1.0, seeded(seed))[0]
        assert torch.equal(mixed[:, :, 0], mixed[:, :, 1])
        assert torch.equal(mixed[:, :, 0], mixed[:, :, 2])


def test_the_generator_decides():
    images, targets = batch()
    first, again = (mix_batch(images, targets, 0.8, 1.0, seeded(7)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    torch.manual_seed(1)
    assert torch.equal(mix_batch(images, targets, 0.8, 1.0, seeded(7))[0], first[0])


def test_off_means_untouched():
    images, targets = batch()
    assert mix_batch(images, targets, 0, 0)[0] is images


def test_erasing_fills_one_rectangle_with_normal_noise():
    images = torch.full((200, 1, 40, 60), 7.0)
    erased = erase_batch(images, 0.25, seeded(3))
    assert (images == 7).all(), "the input stays"
    hit = [case for case in erased if (case != 7).any()]
    assert 30 < len(hit) < 72
    shares = []
    for case in hit:
        hole = (case[0] != 7).nonzero()
        (top, left), (bottom, right) = hole.min(0).values, hole.max(0).values
        assert len(hole) == (bottom - top + 1) * (right - left + 1)
        shares.append(len(hole) / (40 * 60))
    assert min(shares) > 0.01 and max(shares) < 0.35
    noise = torch.cat([case[case != 7] for case in hit])
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


def test_erasing_takes_the_same_place_in_every_frame():
    clip = erase_batch(torch.full((1, 3, 8, 30, 30), 7.0), 1.0, seeded(1))[0]
    holes = clip != 7
    assert holes.any() and (holes == holes[:1, :1]).all()
    assert not torch.equal(clip[:, 0], clip[:, 1]), "each frame has its own noise"


def test_the_generator_decides_what_is_erased():
    images = torch.rand(8, 1, 32, 32)
    assert torch.equal(erase_batch(images, 0.5, seeded(2)), erase_batch(images, 0.5, seeded(2)))
