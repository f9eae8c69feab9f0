"""Mixup and cutmix with unknown targets."""

import pytest
import torch
from clinvit.finetune.mixing import mix_batch


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
