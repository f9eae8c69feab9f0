"""Training on images and their reports from its recipe."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..backbone.report_heads import ReportCard, ReportHeads
from ..backbone.sizes import Architecture
from ..backbone.vit import ViT
from ..core.errors import UserError
from ..datasets.loading.loaders import View
from ..datasets.loading.source import Source
from ..datasets.transforms.views import TrainView
from .collapse import feature_std, warn_of_collapse
from .method import Method, refuse_other_size
from .report_features import ReportFeatures
from .report_losses import found, info_nce, of_all_processes, sigmoid_loss
from .report_recipe import Reports

_SHOWN = 24  # cases of the image of cosines


class ImagesAndTexts(nn.Module):
    """An encoder of images, and the projections of its features and of the vectors of texts.

    Args:
        encoder: The ViT to pre-train.
        heads: The projections.
        pool: `mean` or `class`.
        bias: Of the logits of SigLIP's loss at the start; None for CLIP's, which has none.
    """

    def __init__(self, encoder: ViT, heads: ReportHeads, pool: str, bias: float | None = None):
        super().__init__()
        self.encoder, self.heads, self.pool = encoder, heads, pool
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def images(self, x: Tensor) -> Tensor:
        """Return (B, E) of length 1 of (B, C, H, W) normalised images."""
        tokens = self.encoder(x)
        if self.pool == "class":
            assert tokens.cls is not None
            return self.heads.of_images(tokens.cls)
        return self.heads.of_images(tokens.patches.mean(dim=1))

    def forward(self, x: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, E) of the images and (B, E) of their texts, by the text encoder's vectors (B, T)."""
        return self.images(x), self.heads.of_texts(vectors)


class ReportPretraining(Method[Reports]):
    """Training of an encoder of images against what reports say; the text encoder stays as it is.

    Logged beside the loss: `found`, the share of images whose text is the nearest in the batch, and `feature_std` of
    the images (near 0 all look alike).
    """

    name, image = "reports", "cosines.png"
    model: ImagesAndTexts

    def __init__(self, model: ImagesAndTexts, recipe: Reports, source: Source):
        reports = source.reports
        if reports is None:  # of an estimate, which reads no data
            reports = ReportFeatures(np.zeros((1, recipe.text_width), np.float32), ((0,),), "", "")
        else:
            model.heads.standardise(torch.from_numpy(reports.vectors))
        super().__init__(model, recipe, source)
        self.reports = reports
        vectors, self.texts_of = reports.wholes() if recipe.text == "report" else (reports.vectors, reports.of_case)
        self.vectors = torch.from_numpy(vectors)

    @classmethod
    def build(cls, recipe: Reports, arch: Architecture | None = None) -> ImagesAndTexts:
        """Return encoder and heads of a recipe, with their random start decided by the seed."""
        refuse_other_size(recipe.augment, recipe.model)
        torch.manual_seed(recipe.run.seed)
        try:
            arch = arch or recipe.model.architecture()
            encoder = ViT(arch, drop_path=recipe.model.drop_path, checkpoint_blocks=recipe.model.checkpoint_blocks)
        except ValueError as error:
            raise UserError(str(error)) from None
        heads = ReportHeads(arch.width, recipe.text_width, recipe.embedding, recipe.temperature)
        return ImagesAndTexts(encoder, heads, recipe.pool, -10.0 if recipe.loss == "siglip" else None)

    @classmethod
    def view(cls, recipe: Reports) -> View:
        """Return what crops."""
        return TrainView(recipe.augment, recipe.data.clip, recipe.model.frames)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch, over the images and texts of all processes."""
        texts = self.texts(batch["row"])
        images, meant = self.model(self.pixels(batch), self.vectors[texts.to(self.vectors.device)].to(self.device))
        images, meant = of_all_processes(images), of_all_processes(meant)
        texts = of_all_processes(texts.to(self.device))
        equal = texts[:, None] == texts[None]
        seen = images.detach()
        self.tally({"found": found(seen, meant.detach(), equal), "feature_std": feature_std(seen)})
        skipped = equal if self.recipe.skip_equal else None
        scale = self.model.heads.scale
        if self.model.bias is None:
            return info_nce(images, meant, scale, skipped)
        return sigmoid_loss(images, meant, scale, self.model.bias, skipped)

    def texts(self, rows: Tensor) -> Tensor:
        """Return (B,) which vector each case is held against in this epoch: of sentences one drawn by the seed."""
        if self.source.reports is None:
            return torch.zeros_like(rows)
        drawn = []
        for case in rows.tolist():
            own = self.texts_of[case]
            seed = np.random.SeedSequence([self.run.seed, self.current_epoch, case]).generate_state(1)[0]
            drawn.append(own[int(seed) % len(own)])
        return torch.tensor(drawn)

    def on_train_batch_end(self, outputs, batch, batch_idx: int) -> None:
        """Keep the scale of cosines at 100 or less, as CLIP does."""
        self.model.heads.limit_scale()
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        """Warn where the images have collapsed."""
        if self.trainer.is_global_zero:
            std = float(self.trainer.callback_metrics["feature_std"])
            warn_of_collapse(std, "training on reports", "Start anew with a lower optim.base_lr.")

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Return the cosines of a few images (rows) and reports (columns), (height, width) uint8, white for the most.

        The diagonal belongs together.
        """
        model, positions = self.final_model, self.evenly(_SHOWN)
        assert isinstance(model, ImagesAndTexts)
        was_training = model.training
        images = model.eval().images(self.pixels({"image": self.without_augmentation(positions)}))
        model.train(was_training)
        wholes, of_case = self.reports.wholes()
        shown = [of_case[case][0] for case in self.dataset.rows[positions].tolist()]
        texts = torch.from_numpy(wholes[shown]).to(self.device)
        cosines = (images @ model.heads.of_texts(texts).T).float().cpu().numpy()
        least, most = cosines.min(), cosines.max()
        grey = np.uint8(255 * (cosines - least) / max(most - least, 1e-6))
        return grey.repeat(16, axis=0).repeat(16, axis=1)

    def save_more(self, folder: Path) -> None:
        """Write the heads beside the encoder."""
        recipe, model = self.recipe, self.final_model
        assert isinstance(model, ImagesAndTexts)
        card = ReportCard(
            model.encoder.arch.width, recipe.text_width, recipe.embedding, recipe.pool, recipe.text_pool,
            recipe.text_tokens, self.reports.text_sha256,
            {"cases": len(self.dataset), "sentences": len(self.reports.vectors)},
        )  # fmt: skip
        card.save(folder, model.heads)
