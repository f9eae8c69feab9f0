"""Training of an encoder with idle hidden units, by the features of the encoder that it was: no label is needed.

Idle units: `backbone.idle`, RePaViT (Xu et al. 2025). What is learned is a regression of normed tokens, as in FitNets
(Romero et al. 2015) but of equal width, so that nothing is projected.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.encoder import open_vit
from ..backbone.idle import activation_changes, anneal, idle_of, put_active_first, without_idle
from ..backbone.sizes import Architecture
from ..backbone.vit import Tokens, ViT
from ..core.errors import UserError
from ..datasets.loading.loaders import View
from ..datasets.loading.source import Source
from ..datasets.transforms.views import TrainView
from ..engine.run_folder import rank
from .idle_recipe import Idle
from .method import Method, refuse_other_size
from .sheets import feature_sheet

LOOKED_AT = 64  # cases by which the units are chosen, and the features compared at the end
AT_ONCE = 16


class IdleStudent(nn.Module):
    """A ViT with idle units.

    Args:
        encoder: The ViT.
        layers: Last blocks whose tokens are learned.
    """

    def __init__(self, encoder: ViT, layers: int):
        super().__init__()
        self.encoder, self.layers = encoder, layers

    def forward(self, x: Tensor) -> list[Tokens]:
        """Return the normed tokens of the last blocks for (B, C, [T,] H, W) normalised input."""
        return self.encoder.last_layers(x, self.layers)


class IdleDistillation(Method[Idle]):
    """Training of an encoder with idle units.

    Logged beside the loss: `cosine` of its features and the full encoder's (`pooled`), as trained: idle units are not
    wholly linear before the ramp is over.
    """

    name, image = "idle", "features.png"
    model: IdleStudent

    def __init__(self, model: IdleStudent, recipe: Idle, source: Source):
        super().__init__(model, recipe, source)
        vit = model.encoder
        with torch.device(next(vit.parameters()).device):
            full = ViT(without_idle(vit.arch), final_norm=not isinstance(vit.norm, nn.Identity))
        full.load_state_dict(vit.state_dict())
        # In a list: not a part of the module, neither trained nor saved; it comes from `--encoder` again.
        self.full = [full.requires_grad_(False).eval()]

    @classmethod
    def build(cls, recipe: Idle, arch: Architecture | None = None) -> IdleStudent:
        """Return the ViT of the encoder that training goes on from, with idle units.

        Raises:
            UserError: There is no such encoder, or it can have no idle units.
        """
        refuse_other_size(recipe.augment, recipe.model)
        if arch is None:
            raise UserError("--encoder is missing: the encoder whose features are to be learned with fewer matmuls.")
        torch.manual_seed(recipe.run.seed)
        model = recipe.model
        vit = ViT(idle_of(arch, recipe.idle), drop_path=model.drop_path, checkpoint_blocks=model.checkpoint_blocks)
        return IdleStudent(vit, min(recipe.layers, arch.depth))

    @classmethod
    def start_from(cls, model: nn.Module, path: Path) -> str:
        """Set the weights of the full encoder, and leave the final norm out where it has none."""
        assert isinstance(model, IdleStudent)
        report = super().start_from(model, path)
        if isinstance(open_vit(path)[0].norm, nn.Identity):
            model.encoder.norm = nn.Identity()
        return report

    @classmethod
    def view(cls, recipe: Idle) -> View:
        """Return what crops and flips."""
        return TrainView(recipe.augment, recipe.data.clip, recipe.model.frames)

    def on_train_start(self) -> None:
        """Set the rate of the first step; choose the units where the training is a new one."""
        super().on_train_start()
        self.full[0].to(self.device, next(self.model.parameters()).dtype)
        if self.global_step == 0:
            self._choose_active()

    def begin(self, batch: dict[str, Tensor], index: int) -> None:
        """Set how linear idle units are."""
        ramp = self.recipe.idle_ramp
        anneal(self.model, min(1.0, self.progress / ramp) if ramp else 1.0)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch (`Idle`)."""
        x = self.pixels(batch)
        with torch.no_grad():
            wanted = self.full[0].last_layers(x, self.model.layers)
        found = self.model(x)
        self.tally({"cosine": cosines(found[-1], wanted[-1]).mean().detach()})
        return token_loss(found, wanted)

    @torch.no_grad()
    def on_train_end(self) -> None:
        """Say how alike the features are in the end, on cases as they are."""
        if rank() == 0:
            vit = self.kept.eval()
            found = torch.cat([cosines(vit(x), self.full[0](x)) for x in self._looked_at()])
            print(
                f"features of {len(found):,} of the cases as they are: cosine to the full encoder's "
                f"{found.mean():.4f} on average, {found.min():.4f} at least"
            )

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Return the features of a few cases as colours, (height, width, 3) uint8."""
        vit = self.kept
        training = vit.training
        sheet = feature_sheet(vit.eval(), self._shown(self.evenly(6 if self.recipe.model.frames == 1 else 3)))
        vit.train(training)
        return sheet

    def _choose_active(self) -> None:
        """Let those hidden units stay active that the activation changes most."""
        vit = self.kept.eval()
        changes = activation_changes(vit, self._looked_at())
        put_active_first(vit, changes)
        vit.train()
        if rank() == 0:
            active, hidden = sum(vit.arch.block_active), sum(map(len, changes))
            print(f"idle units: {hidden - active:,} of {hidden:,} become linear")

    def _looked_at(self) -> list[Tensor]:
        """Return some cases as they are, in batches."""
        positions = self.evenly(LOOKED_AT)
        parts = np.array_split(positions, -(-len(positions) // AT_ONCE))
        return [self._shown(part) for part in parts]

    def _shown(self, positions: np.ndarray) -> Tensor:
        """Return cases as they are, (B, C, [T,] S, S) normalised."""
        return self.normalised(self.without_augmentation(positions))


def token_loss(found: list[Tokens], wanted: list[Tokens]) -> Tensor:
    """Return the mean over blocks and kinds of token of the squared error over the square of what is wanted.

    Args:
        found: Tokens of the last blocks, (B, D) class tokens or None, (B, N, D) patches.
        wanted: The same of the full encoder.
    """
    both = list(zip(found, wanted, strict=True))
    pairs = [(one.patches, other.patches) for one, other in both]
    pairs += [(one.cls, other.cls) for one, other in both if one.cls is not None and other.cls is not None]
    parts = [F.mse_loss(one.float(), other.float()) / other.float().square().mean() for one, other in pairs]
    return torch.stack(parts).mean()


def pooled(tokens: Tokens) -> Tensor:
    """Return (B, D) or (B, 2 D) features: the class token, where there is one, and the mean of the patches."""
    mean = tokens.patches.mean(dim=1)
    return mean if tokens.cls is None else torch.cat([tokens.cls, mean], dim=1)


def cosines(found: Tokens, wanted: Tokens) -> Tensor:
    """Return (B,) cosines of the pooled features of two encoders."""
    return F.cosine_similarity(pooled(found).float(), pooled(wanted).float(), dim=1)
