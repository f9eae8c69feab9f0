"""Latent prediction: the features of what the encoder does not see, predicted from what it sees (V-JEPA 2, I-JEPA).

Assran et al. 2025, "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning"; Assran et
al. 2023, "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture". Here the predictor has
sine-cosine positions instead of rotary ones.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.vit import ViT
from .decoder import EncoderDecoder
from .masking import Grid, Masks
from .recipe import Decoder


class LatentPredictor(EncoderDecoder):
    """An encoder, and a predictor of the features that another encoder, its moving average, gives to masked tokens.

    Args:
        encoder: The ViT to pre-train.
        predictor: Size of the predictor.
        sets: Sets of masks; each has a mask token of its own, which starts at zero.
    """

    def __init__(self, encoder: ViT, predictor: Decoder, sets: int):
        super().__init__(encoder, predictor, encoder.arch.width)
        self.mask_token = nn.Parameter(torch.zeros(sets, 1, predictor.width))

    def forward(self, x: Tensor, masks: list[Masks]) -> list[Tensor]:
        """Return the predicted features (B, m, D) of the `target_ids` of each set of masks.

        Args:
            x: (B, C, H, W) or (B, C, T, H, W), normalised.
            masks: A set for each mask token.
        """
        tokens = self.mask_token.unsqueeze(1)
        return [
            self.predict(x, one.visible_ids, one.target_ids, token) for one, token in zip(masks, tokens, strict=True)
        ]


@torch.no_grad()
def latent_targets(encoder: ViT, x: Tensor) -> Tensor:
    """Return the features to predict (B, N, D) of all tokens, each normalised over its channels (no affine)."""
    features = encoder(x).patches.float()
    return F.layer_norm(features, features.shape[-1:])


def latent_loss(predicted: list[Tensor], targets: Tensor, masks: list[Masks]) -> Tensor:
    """Return the mean absolute error over the masked tokens, then the mean over the sets of masks.

    Args:
        predicted: Of each set (B, m, D).
        targets: (B, N, D) of `latent_targets`.
        masks: The sets.
    """
    losses = [
        (one.float() - chosen(targets, mask.target_ids)).abs().mean()
        for one, mask in zip(predicted, masks, strict=True)
    ]
    return torch.stack(losses).mean()


def chosen(tokens: Tensor, ids: Tensor) -> Tensor:
    """Return the tokens (B, m, D) of `ids` (B, m) among (B, N, D)."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def block_masks(
    grid: Grid, batch: int, generator: torch.Generator, *, blocks: int, area: float, ratio: tuple[float, float]
) -> Masks:
    """Draw a set of masks: several blocks, of one size for the whole batch, over the whole length of a clip.

    Target is what lies in any block, visible is the rest. Every case keeps as many of both as the one that has the
    fewest, the first of them in the order of the grid, so that a batch is a tensor. A case without a visible token is
    drawn again.

    Args:
        grid: Tokens along time, height and width.
        batch: B.
        generator: Source of every draw; the masks are on its device.
        blocks: Blocks of a case.
        area: Share of a frame that a block covers.
        ratio: Least and greatest height over width of a block.
    """
    times, rows, columns = grid
    height, width = block_size(rows, columns, area, ratio, generator)
    hidden = _hidden(batch, rows, columns, height, width, blocks, generator)
    while (full := hidden.flatten(1).all(dim=1)).any():
        hidden[full] = _hidden(int(full.sum()), rows, columns, height, width, blocks, generator)
    over_time = hidden.unsqueeze(1).expand(-1, times, -1, -1).flatten(1)
    return Masks(_first(~over_time), _first(over_time))


def block_size(
    rows: int, columns: int, area: float, ratio: tuple[float, float], generator: torch.Generator
) -> tuple[int, int]:
    """Draw height and width of a block, in tokens; never the whole frame, of which nothing would be visible."""
    share = torch.rand(1, generator=generator, device=generator.device).item()
    aspect = ratio[0] + share * (ratio[1] - ratio[0])
    tokens = int(rows * columns * area)
    height, width = round((tokens * aspect) ** 0.5), round((tokens / aspect) ** 0.5)
    height, width = min(max(height, 1), rows), min(max(width, 1), columns)
    if (height, width) == (rows, columns):
        height, width = (rows - 1, columns) if rows > 1 else (rows, columns - 1)
    if not height * width:
        raise ValueError(f"blocks need more than a grid of {rows} x {columns} tokens; use smaller patches")
    return height, width


def _hidden(
    batch: int, rows: int, columns: int, height: int, width: int, blocks: int, generator: torch.Generator
) -> Tensor:  # fmt: skip
    """Return (B, H, W) what any of a case's blocks covers."""
    device = generator.device
    top = torch.randint(rows - height + 1, (batch, blocks, 1), generator=generator, device=device)
    left = torch.randint(columns - width + 1, (batch, blocks, 1), generator=generator, device=device)
    row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
    in_rows, in_columns = (row >= top) & (row < top + height), (column >= left) & (column < left + width)
    return (in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)).any(dim=1)


def _first(mask: Tensor) -> Tensor:
    """Return (B, n) indices of the first n true values of each row (B, N), n those of the row with the fewest."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, : int(mask.sum(dim=1).min())]
