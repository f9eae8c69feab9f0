"""A frozen text encoder: a local folder of Hugging Face's transformers, and the vectors that it gives of sentences."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.documents import read_json
from ..core.errors import UserError
from ..core.extras import require
from ..core.files import file_sha256, refuse_irregular
from .weights.reading import weight_files

POOLS = ("mean", "class")
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model")


class TextEncoder:
    """Tokenizer and text model of a folder, in eval mode; of CLIP and SigLIP the text half.

    Nothing is downloaded, and no code of the folder is run: a model that comes with code of its own is refused.

    Args:
        folder: With `config.json`, the weights, and the tokenizer's files.
        tokens: A longer text is cut there.
        pool: Of its tokens: `mean`, or `class`, the first.

    Attributes:
        width: Values of a vector.
        sha256: Of weights, configuration and vocabulary.

    Raises:
        UserError: It is no such folder, or `clinvit[text]` is not installed.
    """

    def __init__(self, folder: str | os.PathLike, tokens: int = 128, pool: str = "mean"):
        self.folder, self.pool = Path(folder), pool
        if pool not in POOLS:
            raise UserError(f"pool {pool!r}: one of {', '.join(POOLS)}.")
        self.sha256 = fingerprint(self.folder)
        hub = require("transformers", "text", f"the text encoder {folder}")
        words = hub.utils.logging
        said, shown = words.get_verbosity(), words.is_progress_bar_enabled()
        words.set_verbosity_error()
        words.disable_progress_bar()
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = hub.AutoConfig.from_pretrained(self.folder, **local)
            self._refuse_larger(hub, config)
            self.tokenizer = hub.AutoTokenizer.from_pretrained(self.folder, **local)
            model = hub.AutoModel.from_pretrained(self.folder, dtype=torch.float32, **local)
        except UserError:
            raise
        except Exception as error:  # whatever its parsers raise: the folder is a stranger's
            words_of = " ".join(str(error).split())[:200]
            raise UserError(f"{folder}: not a readable text encoder ({words_of}).") from None
        finally:
            words.set_verbosity(said)
            if shown:
                words.enable_progress_bar()
        model = getattr(model, "text_model", model)
        self.model = (model.get_encoder() if config.is_encoder_decoder else model).eval().requires_grad_(False)
        own = getattr(self.model.config, "max_position_embeddings", None) or tokens
        self.tokens = min(tokens, own)
        if getattr(self.model.config, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
            self.tokens = min(tokens, own - 2)  # two of its positions are kept for padding
        with torch.inference_mode():
            self.width = self._vectors(["no"]).shape[1]

    def vectors(self, texts: Sequence[str], batch: int = 32, shown: bool = False) -> np.ndarray:
        """Return (N, D) float32 vectors of texts, those of like length together.

        Args:
            texts: N of them.
            batch: Texts at once.
            shown: Show a bar.
        """
        from tqdm import tqdm

        out = np.empty((len(texts), self.width), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with torch.inference_mode(), tqdm(total=len(texts), desc="sentences", disable=None if shown else True) as bar:
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                out[rows] = self._vectors([texts[row] for row in rows]).numpy()
                bar.update(len(rows))
        if not np.isfinite(out).all():
            raise UserError(f"{self.folder}: its vectors are not finite: damaged weights.")
        return out

    def _vectors(self, texts: list[str]) -> Tensor:
        given = self.tokenizer(texts, padding=True, truncation=True, max_length=self.tokens, return_tensors="pt")
        asked = {name: given[name] for name in ("input_ids", "attention_mask") if name in given}
        hidden = self.model(**asked).last_hidden_state.float()
        if self.pool == "class":
            return hidden[:, 0]
        mask = asked["attention_mask"].unsqueeze(-1) if "attention_mask" in asked else torch.ones_like(hidden[..., :1])
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)

    def _refuse_larger(self, hub, config) -> None:
        """Refuse a configuration of a much larger network than the weights are, before it is made."""
        with torch.device("meta"):
            asked = sum(each.numel() for each in hub.AutoModel.from_config(config).parameters())
        stored = sum(path.stat().st_size for path in weight_files(self.folder))
        if asked > 2 * stored + 1e7:
            raise UserError(
                f"{self.folder}: its config.json asks for {asked:.3g} weights, its files have {stored:.3g} bytes."
            )


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 over the files that decide a text encoder's vectors.

    Raises:
        UserError: The folder has no `config.json`, no weights, no vocabulary, or asks for code of its own.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(f"{folder}: not a text encoder: a folder of transformers with config.json and a tokenizer.")
    if code := read_json(config).get("auto_map"):
        raise UserError(f"{folder}: refused: its config.json names code of its own ({', '.join(sorted(code))}).")
    vocabularies = [folder / name for name in _VOCABULARIES if (folder / name).is_file()]
    if not vocabularies:
        raise UserError(f"{folder}: no tokenizer in it; one of {', '.join(_VOCABULARIES)}.")
    files = [config, *vocabularies, *weight_files(folder)]
    for path in files:
        refuse_irregular(path)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
