"""The masked autoencoder against the official MAE, VideoMAE V2 and Hugging Face's, and its own promises."""

import pytest
import torch
from clinvit.backbone.sizes import IMAGENET_STATISTICS, Architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.mae import MaskedAutoencoder, load_official
from clinvit.pretrain.masking import Masks, decoder_masking, random_masking, tube_masking
from clinvit.pretrain.recipe import Decoder


def tiny_mae(meta: dict, target: str) -> MaskedAutoencoder:
    arch = Architecture(
        meta["embed_dim"], meta["depth"], meta["num_heads"], image_size=(meta["img_size"],) * 2,
        patch_size=meta["patch_size"], channels=3,
    )  # fmt: skip
    decoder = Decoder(meta["decoder_embed_dim"], meta["decoder_depth"], meta["decoder_num_heads"])
    return MaskedAutoencoder(ViT(arch), decoder, target).eval()


@pytest.mark.parametrize("name, target", [("mae_image_norm0", "pixels"), ("mae_image_norm1", "patch")])
def test_equals_the_official_mae(golden, name, target):
    ref = golden(name)
    mae = tiny_mae(ref.meta, target)
    load_official(mae, ref.state)
    visible, hidden = random_masking(ref.inputs["noise"], ref.meta["mask_ratio"])
    mask = torch.ones_like(ref.outputs["mask"]).scatter(1, visible, 0)
    assert torch.equal(mask, ref.outputs["mask"])

    images = ref.inputs["images"]
    with torch.no_grad():
        latent = mae.encoder(images, visible).sequence()
        out = mae(images, Masks(visible, hidden))
    torch.testing.assert_close(latent, ref.outputs["latent"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.loss, ref.outputs["loss"], atol=1e-5, rtol=1e-5)
    index = hidden.unsqueeze(-1).expand_as(out.prediction)
    torch.testing.assert_close(out.prediction, ref.outputs["pred"].gather(1, index), atol=1e-5, rtol=1e-5)
    # `patches` of the golden file are the plain pixels; the normalised ones are pinned by the loss.
    if target == "pixels":
        torch.testing.assert_close(out.target, ref.outputs["patches"].gather(1, index))


@pytest.mark.parametrize("norm", [False, True])
def test_equals_hugging_face(norm):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=192, image_size=32,
        patch_size=8, decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=128, mask_ratio=0.75, norm_pix_loss=norm, layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    arch = Architecture(48, 2, 3, image_size=(32, 32), patch_size=8, channels=3)
    ours = MaskedAutoencoder(ViT(arch), Decoder(32, 1, 2), "patch" if norm else "pixels").eval()
    load_official(ours, from_hugging_face(theirs.state_dict()))
    images, draw = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    with torch.no_grad():
        expected = theirs(images, noise=draw)
        got = ours(images, Masks(*random_masking(draw, 0.75)))
    torch.testing.assert_close(got.loss, expected.loss, atol=1e-5, rtol=1e-5)


def from_hugging_face(state: dict) -> dict:
    """Names of ViTMAEForPreTraining to the official ones; query, key and value are joined."""
    names = [
        ("vit.embeddings.patch_embeddings.projection", "patch_embed.proj"), ("vit.embeddings.", ""),
        ("position_embeddings", "pos_embed"), ("vit.encoder.layer", "blocks"), ("vit.layers", "blocks"),
        ("vit.layernorm", "norm"), ("decoder.decoder_layers", "decoder_blocks"), ("decoder.", ""),
        ("attention.output.dense", "attn.proj"), ("attention.attention.", "attn."),
        ("attention.o_proj", "attn.proj"), ("attention.q_proj", "attn.query"),
        ("attention.k_proj", "attn.key"), ("attention.v_proj", "attn.value"),
        ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"),
        ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
    ]  # fmt: skip
    out = {}
    for key, value in state.items():
        for old, new in names:
            key = key.replace(old, new)
        out[key] = value
    out["decoder_pos_embed"] = out["decoder_pos_embed"] if "decoder_pos_embed" in out else out.pop("decoder_pos")
    for key in [key for key in out if ".attn.query." in key]:
        parts = [out.pop(key.replace("query", part)) for part in ("query", "key", "value")]
        out[key.replace("query", "qkv")] = torch.cat(parts)
    return out


def official_video(golden) -> tuple:
    """The official pre-training model on its golden clip: reference, our model, normalised clip and clip in 0..1."""
    ref = golden("videomae_v2_pretrain")
    meta = ref.meta
    arch = Architecture(
        meta["encoder_embed_dim"], meta["encoder_depth"], meta["encoder_num_heads"],
        image_size=(meta["img_size"],) * 2, patch_size=meta["patch_size"], frames=meta["frames"],
        tubelet=meta["tubelet_size"], channels=3, class_token=False, positions="sine1d",
    )  # fmt: skip
    decoder = Decoder(meta["decoder_embed_dim"], meta["decoder_depth"], meta["decoder_num_heads"], embed_bias=False)
    mae = MaskedAutoencoder(ViT(arch), decoder, "channel").eval()
    load_official(mae, ref.state)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in IMAGENET_STATISTICS)
    return ref, mae, ref.inputs["video"], ref.inputs["video"] * std + mean


def ids_where(mask: torch.Tensor) -> torch.Tensor:
    return mask.nonzero()[:, 1].view(len(mask), -1)


@pytest.mark.parametrize("masking", ["dual", "full"])
def test_equals_the_official_videomae_v2(golden, masking):
    ref, mae, video, pixels = official_video(golden)
    hidden = ref.inputs["encoder_mask"]
    target = ids_where(~ref.inputs["decoder_mask"] if masking == "dual" else hidden)
    masks = Masks(ids_where(~hidden), target, hidden.gather(1, target) if masking == "dual" else None)
    with torch.no_grad():
        latent = mae.encoder(video, masks.visible_ids).patches
        out = mae(video, masks, pixels)
    torch.testing.assert_close(latent, ref.outputs["encoder"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.prediction, ref.outputs[f"{masking}_pred"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.loss, ref.outputs[f"{masking}_loss"], atol=1e-5, rtol=1e-5)
    expected = ref.outputs["target_all"].gather(1, target.unsqueeze(-1).expand(-1, -1, out.target.shape[-1]))
    torch.testing.assert_close(out.target, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
def test_equals_hugging_face_on_clips(norm, hugging_face_video):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=8, num_channels=3, num_frames=8, tubelet_size=2, hidden_size=48, num_hidden_layers=2,
        num_attention_heads=3, intermediate_size=192, decoder_num_attention_heads=2, decoder_hidden_size=32,
        decoder_num_hidden_layers=1, decoder_intermediate_size=128, norm_pix_loss=norm, layer_norm_eps=1e-6,
        use_mean_pooling=False,
    )  # fmt: skip
    theirs = transformers.VideoMAEForPreTraining(config).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    arch = Architecture(
        48, 2, 3, image_size=(32, 32), patch_size=8, frames=8, tubelet=2, channels=3, class_token=False,
        positions="sine1d",
    )  # fmt: skip
    ours = MaskedAutoencoder(ViT(arch), Decoder(32, 1, 2, embed_bias=False), "channel" if norm else "pixels").eval()
    load_official(ours, hugging_face_video(theirs.state_dict()))
    clips = torch.randn(2, 3, 8, 32, 32)
    visible, hidden = tube_masking(torch.rand(2, 16), 4, 0.75)
    mask = torch.ones(2, 64, dtype=torch.bool).scatter(1, visible, False)
    # Attention does not mind the order of tokens; the loss pairs each with its own target in theirs as in ours.
    mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in IMAGENET_STATISTICS)
    with torch.no_grad():
        expected = theirs(clips.transpose(1, 2), bool_masked_pos=mask)
        got = ours(clips, Masks(visible, hidden), clips * std + mean)
    torch.testing.assert_close(got.loss, expected.loss, atol=1e-5, rtol=1e-5)


def test_decoder_masking_reconstructs_a_part_and_leaves_the_rest_alone():
    torch.manual_seed(0)
    mae = MaskedAutoencoder(ViT(Architecture(32, 1, 2, image_size=(32, 48), patch_size=8)), Decoder(16, 1, 2))
    visible, hidden = random_masking(torch.rand(3, 24), 0.75)
    chosen = decoder_masking(hidden, 0.5)
    out = mae(torch.randn(3, 1, 32, 48), Masks(visible, chosen))
    assert out.prediction.shape == (3, 9, 64)
    assert torch.equal(decoder_masking(hidden, 1.0), hidden)


def test_clips_go_through_the_same_module():
    arch = Architecture(
        32, 1, 2, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, channels=3, class_token=False,
        positions="sine1d",
    )  # fmt: skip
    mae = MaskedAutoencoder(ViT(arch), Decoder(16, 1, 2), "channel")
    visible, hidden = random_masking(torch.rand(2, 32), 0.9)
    out = mae(torch.randn(2, 3, 4, 32, 32), Masks(visible, hidden))
    assert out.prediction.shape == out.target.shape == (2, 29, 3 * 2 * 64)
    out.loss.backward()
    assert mae.encoder.patch_embed.proj.weight.grad.abs().sum() > 0


def test_overfits_one_batch():
    torch.manual_seed(0)
    mae = MaskedAutoencoder(ViT(Architecture(32, 2, 2, image_size=(32, 32), patch_size=8)), Decoder(32, 1, 2))
    images = torch.randn(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    masks = Masks(*random_masking(torch.rand(4, 16), 0.5))
    optimizer = torch.optim.AdamW(mae.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        loss = mae(images, masks).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
