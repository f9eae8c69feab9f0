"""The ViT: shapes, positions, parity with timm, gathering before projection."""

import pytest
import timm
import torch
from clinvit.backbone.patches import gather_patches, scatter_patches
from clinvit.backbone.positions import resize_positions, sine_1d, sine_2d, sine_3d
from clinvit.backbone.sizes import SIZES, Architecture, architecture
from clinvit.backbone.vit import LastTokensBlock, ViT, make_blocks


def small(**fields) -> Architecture:
    return Architecture(**({"width": 48, "depth": 2, "heads": 3, "image_size": (32, 32), "patch_size": 8} | fields))


def test_equals_timm():
    torch.manual_seed(0)
    theirs = timm.models.VisionTransformer(32, 8, 3, num_classes=0, embed_dim=48, depth=2, num_heads=3).eval()
    ours = ViT(small(channels=3, positions="learned")).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).sequence(), theirs.forward_features(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size, millions", [("tiny", 5.5), ("small", 21.7), ("base", 85.8), ("large", 303.3)])
def test_sizes_are_the_papers(size, millions):
    with torch.device("meta"):
        vit = ViT(architecture(size, channels=3))
    assert sum(p.numel() for p in vit.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert set(SIZES) >= {"tiny", "small", "base", "large", "huge", "giant"}


def test_the_paper_counts_its_encoder():
    with torch.device("meta"):
        assert sum(p.numel() for p in ViT(architecture("small", channels=3)).parameters()) == 21_665_664
        assert sum(p.numel() for p in ViT(architecture("base", channels=3)).parameters()) == 85_798_656


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch", [8, 14, 16])
@pytest.mark.parametrize("class_token", [True, False])
def test_shapes(channels, patch, class_token):
    vit = ViT(small(channels=channels, patch_size=patch, image_size=(2 * patch, 3 * patch), class_token=class_token))
    tokens = vit(torch.randn(2, channels, 2 * patch, 3 * patch))
    assert tokens.patches.shape == (2, 6, 48)
    assert (tokens.cls is not None) == class_token
    assert tokens.sequence().shape == (2, 6 + class_token, 48)
    # Another size than trained, not square: positions are resampled.
    assert vit(torch.randn(2, channels, 4 * patch, 2 * patch)).patches.shape == (2, 8, 48)


def test_clip_and_still_share_the_model():
    vit = ViT(small(frames=4, tubelet=2, positions="sine3d", class_token=False))
    assert vit(torch.randn(2, 1, 4, 32, 32)).patches.shape == (2, 32, 48)
    assert vit.patch_embed.proj.weight.shape == (48, 1, 2, 8, 8)


def test_visible_ids_choose_tokens_before_projection():
    """Without blocks, the visible tokens equal the same tokens of the whole image."""
    torch.manual_seed(0)
    vit = ViT(small(depth=0)).eval()
    images = torch.randn(2, 1, 32, 32)
    ids = torch.stack([torch.randperm(16)[:5], torch.randperm(16)[:5]])
    whole, part = vit(images).patches, vit(images, ids).patches
    torch.testing.assert_close(part, whole.gather(1, ids.unsqueeze(-1).expand(-1, -1, 48)))


def test_gradient_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    plain = ViT(small())
    saving = ViT(small(), checkpoint_blocks=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 1, 32, 32)
    for vit in (plain, saving):
        vit(images).patches.square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("fused", [True, False])
def test_last_tokens_are_those_of_the_whole_block(fused):
    last = make_blocks(48, 2, 3, last=LastTokensBlock)[-1]
    whole = make_blocks(48, 1, 3)[0]
    whole.load_state_dict(last.state_dict())
    last.attn.fused_attn = whole.attn.fused_attn = fused
    tokens = torch.randn(2, 10, 48)
    found, expected = last(tokens, 7), whole(tokens)[:, -7:]
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip(last.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_compiles_without_graph_breaks():
    vit = ViT(small())
    explained = torch._dynamo.explain(vit)(torch.randn(2, 1, 32, 32), torch.arange(4).expand(2, -1))
    assert explained.graph_break_count == 0


def test_patches_and_back():
    clip = torch.randn(2, 3, 4, 16, 24)
    patches = gather_patches(clip, 8, 2)
    assert patches.shape == (2, 2 * 2 * 3, 3, 2, 8, 8)
    assert torch.equal(scatter_patches(patches, (2, 2, 3)), clip)


def test_sine_tables_equal_the_official_ones(golden):
    ref = golden("mae_image_norm0")
    torch.testing.assert_close(sine_2d(4, 4, 48), ref.state["pos_embed"][0, 1:], atol=1e-6, rtol=0)
    torch.testing.assert_close(sine_2d(4, 4, 32), ref.state["decoder_pos_embed"][0, 1:], atol=1e-6, rtol=0)
    assert sine_1d(10, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("width", [48, 192, 384, 768, 1408])
def test_3d_sine_tells_every_token_apart(width):
    table = sine_3d((2, 3, 4), width)
    assert table.shape == (24, width)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 1e-3


def test_resizing_positions_and_back_is_close():
    table = sine_2d(14, 14, 64)
    bigger = resize_positions(table, (1, 14, 14), (1, 28, 28))
    back = resize_positions(bigger, (1, 28, 28), (1, 14, 14))
    assert (back - table).abs().mean() < 0.02
    assert resize_positions(table, (1, 14, 14), (1, 14, 14)) is table
    with pytest.raises(ValueError, match="196 positions"):
        resize_positions(table, (1, 13, 13), (1, 14, 14))


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"image_size": (33, 32)}, "multiple of the patch size"),
        ({"heads": 5}, "multiple of heads"),
        ({"channels": 2}, "channels is 1 or 3"),
        ({"frames": 3, "tubelet": 2}, "multiple of the tubelet"),
    ],
)
def test_wrong_sizes_say_so(fields, words):
    with pytest.raises(ValueError, match=words):
        small(**fields)


def test_wrong_input_says_so():
    vit = ViT(small())
    with pytest.raises(ValueError, match="takes 1 channels"):
        vit(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match="does not divide"):
        vit(torch.randn(1, 1, 30, 32))
