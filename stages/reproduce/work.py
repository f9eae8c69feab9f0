"""What a step is given to work with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import UserError


@dataclass(frozen=True)
class Work:
    """One step of one row, with everything resolved.

    Attributes:
        recipe: The recipe to run: small on phantoms, the row's labels in it.
        data: The manifest.
        out: The step's own folder.
        before: Folders of the row's earlier steps, by their kind (`pretrain`, `tile`, `extract`, `finetune`, `mil`).
        cache: Folder for decoded files; None for the usual place.
        given: Encoder weights that the user gave for the row.
        phantoms: Whether the data are invented and everything is small.
        download: Whether weights may be fetched from timm's hub.
        rule: Rule for thresholds on validation.
    """

    recipe: Any
    data: Path
    out: Path
    before: Mapping[str, Path]
    cache: Path | None = None
    given: Path | None = None
    phantoms: bool = False
    download: bool = False
    rule: str = "youden"

    def encoder(self, asked: str, network: str = "vit") -> Path | None:
        """Return the weights that a fine-tuning starts from.

        Args:
            asked: As `Finetune.encoder`.
            network: `vit`, or timm's name.

        Returns:
            Encoder folder or checkpoint; None from scratch: as asked, or on phantoms where a checkpoint is missing.
        """
        if self.given is not None:
            return self.given
        if asked == "pretrain":
            return self.before["pretrain"] / "encoder"
        if asked == "none" or (self.phantoms and not self.download):
            return None
        if asked.startswith("timm:") and self.download:
            from .download import fetch

            return fetch(asked.removeprefix("timm:"), self.out / "start")
        raise UserError(f"needs weights: {asked}")

    def tile_encoder(self, asked: str) -> str:
        """Return the encoder of tiles, as `clinvit extract --encoder` takes it."""
        if self.given is None and asked.startswith("timm:") and self.download:
            return asked
        encoder = self.encoder(asked)
        if encoder is None:
            raise UserError(f"needs weights: {asked}")
        return str(encoder)
