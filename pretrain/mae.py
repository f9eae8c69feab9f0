"""Masked autoencoder: encode the visible tokens, decode the chosen masked ones, compare pixels.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"; decoder masking after VideoMAE V2
(Wang et al. 2023).
"""

from typing import NamedTuple

from torch import Tensor

from ..backbone.patches import as_clip, gather_patches
from ..backbone.vit import ViT
from ..backbone.weights import State, join_biases
from .decoder import NAMES, EncoderDecoder, take_decoder
from .masking import Masks
from .recipe import Decoder

TARGETS = ("pixels", "patch", "channel")
DECODER = Decoder()  # of MAE


class Reconstruction(NamedTuple):
    """What a forward pass gives: the loss, and both sides of it.

    Attributes:
        loss: Scalar: squared error, mean over a token's values, then over the decoded tokens that count.
        prediction: (B, m, V) for the `target_ids`, values in order frame, row, column, channel.
        target: (B, m, V), normalised as the model's `target` says.
    """

    loss: Tensor
    prediction: Tensor
    target: Tensor


class MaskedAutoencoder(EncoderDecoder):
    """A ViT encoder and a light decoder that reconstructs masked patches.

    Args:
        encoder: As of `EncoderDecoder`.
        decoder: Size of the decoder.
        target: `pixels` (the thorax paper), `patch` (MAE: normalised over all values of a patch) or `channel`
            (VideoMAE: per channel over the tubelet).
    """

    def __init__(self, encoder: ViT, decoder: Decoder = DECODER, target: str = "pixels"):
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; known: {', '.join(TARGETS)}")
        super().__init__(encoder, decoder, encoder.arch.values_per_patch)
        self.target = target

    def forward(self, x: Tensor, masks: Masks, pixels: Tensor | None = None) -> Reconstruction:
        """Reconstruct the tokens `target_ids` from the tokens `visible_ids`.

        Args:
            x: (B, C, H, W) or (B, C, T, H, W), normalised.
            masks: What the encoder sees, what is reconstructed, and which of that counts in the loss.
            pixels: The same in 0..1, where the target is made of that (VideoMAE); default `x`.
        """
        prediction = self.predict(x, masks.visible_ids, masks.target_ids)
        target = self.targets(x if pixels is None else pixels, masks.target_ids)
        each = (prediction.float() - target).square().mean(dim=-1)
        loss = each.mean() if masks.loss_mask is None else (each * masks.loss_mask).sum() / masks.loss_mask.sum()
        return Reconstruction(loss, prediction, target)

    def targets(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the (B, m, V) float32 targets of the tokens `ids`; gathered first, normalised after."""
        arch = self.encoder.arch
        patches = gather_patches(as_clip(x), arch.patch_size, arch.tubelet, ids).float()
        values = patches.permute(0, 1, 3, 4, 5, 2)
        return normalise_targets(values.flatten(2, 4), self.target).flatten(2)


def normalise_targets(values: Tensor, how: str) -> Tensor:
    """Normalise targets (B, m, P, C), P the pixels of a token.

    `patch` (MAE): mean and unbiased variance over all P*C values, epsilon 1e-6 inside the root.
    `channel` (VideoMAE): per channel over the P pixels, epsilon 1e-6 outside the root.
    """
    if how == "pixels":
        return values
    if how == "patch":
        mean = values.mean(dim=(2, 3), keepdim=True)
        return (values - mean) / (values.var(dim=(2, 3), keepdim=True) + 1e-6).sqrt()
    # Not `var`, which takes several times as long over values that lie apart.
    centred = values - values.mean(dim=2, keepdim=True)
    variance = centred.square().sum(dim=2, keepdim=True) / (values.shape[2] - 1)
    return centred / (variance.sqrt() + 1e-6)


def load_official(mae: MaskedAutoencoder, state: dict[str, Tensor]) -> None:
    """Load a whole official checkpoint of MAE, VideoMAE or VideoMAE V2, encoder and decoder, strictly.

    Args:
        mae: A model of the same sizes and channels; for VideoMAE its decoder has no `embed_bias`.
        state: Names as in the official models (section "model" of the file).
    """
    if _is_video(state):
        ours = {_from_video(name): value for name, value in join_biases(state).items()}
        # VideoMAE's files hold no position tables.
        ours |= {name: value for name, value in mae.state_dict().items() if name.endswith("pos_embed")}
    else:
        ours = {name if name.startswith(NAMES) else f"encoder.{name}": value for name, value in state.items()}
    mae.load_state_dict(ours, strict=True)


def load_decoder(mae: MaskedAutoencoder, state: State) -> str:
    """Set the decoder from a whole checkpoint where that has one of the same sizes; return what became of it, in words.

    Args:
        mae: The model.
        state: From `whole_state`.
    """
    named = {_from_video(name): value for name, value in state.items()} if _is_video(state) else state
    found = {name: value for name, value in named.items() if name.startswith(NAMES)}
    # A mask token alone is DINOv2's.
    return take_decoder(mae, found if "decoder_pred.weight" in found else {})


def _is_video(state: State) -> bool:
    return "encoder_to_decoder.weight" in state


def _from_video(name: str) -> str:
    """Return a name of VideoMAE's pre-training model as ours, which is MAE's."""
    for theirs, ours in (
        ("encoder_to_decoder.", "decoder_embed."),
        ("decoder.head.", "decoder_pred."),
        ("decoder.", "decoder_"),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
