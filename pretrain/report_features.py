"""The vectors of all sentences of all reports, made once by a frozen text encoder and kept beside the pixel cache."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import own_folder, written_aside
from ..core.locks import Lock
from ..datasets.manifest.reports import Sentences

KEPT = "report-cache"


@dataclass(frozen=True, eq=False)
class ReportFeatures:
    """What a text encoder says of the sentences of reports.

    Attributes:
        vectors: (U, T) float32 of the different sentences.
        of_case: Per case the rows of its sentences, one at least.
        sha256: Of sentences, text encoder and its settings.
        text_sha256: Of the text encoder.
        without: Ids of the cases that were left out, for they have no report.
    """

    vectors: np.ndarray
    of_case: tuple[tuple[int, ...], ...]
    sha256: str
    text_sha256: str
    without: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Values of a vector."""
        return self.vectors.shape[1]

    def wholes(self) -> tuple[np.ndarray, tuple[tuple[int, ...], ...]]:
        """Return (R, T) float32, the mean over the sentences of each different report, and per case the row of its own.

        Reports of the same sentences are one, whatever their order.
        """
        known: dict[tuple[int, ...], int] = {}
        of_case = tuple((known.setdefault(tuple(sorted(rows)), len(known)),) for rows in self.of_case)
        return np.stack([self.vectors[list(rows)].mean(axis=0) for rows in known]), of_case


def report_features(
    folder: str | os.PathLike,
    sentences: Sentences,
    place: Path,
    *,
    tokens: int,
    pool: str,
    without: tuple[str, ...],
    shown: bool,
) -> ReportFeatures:
    """Return the vectors of sentences, from a file in `place` where they were made before.

    Args:
        folder: Of the text encoder.
        sentences: Of the cases, one at least of each.
        place: Folder where vectors are kept, for their owner alone: they are made from what was written of patients.
        tokens: As of `TextEncoder`.
        pool: As of `TextEncoder`.
        without: Ids of the cases that have no report.
        shown: Show a bar.

    Raises:
        UserError: The folder is no text encoder.
    """
    from safetensors import safe_open
    from safetensors.numpy import save_file

    from ..backbone.text import TextEncoder, fingerprint

    text_sha256 = fingerprint(Path(folder))
    digest = hashlib.sha256(f"{text_sha256} {tokens} {pool}\n".encode())
    for text in sentences.texts:
        digest.update(text.encode() + b"\0")
    digest.update(repr(sentences.of_case).encode())
    key = digest.hexdigest()
    own_folder(place)
    file = place / f"{key[:32]}.safetensors"
    with Lock(place / f".{key[:32]}.lock", file, wait=True) as lock:
        if not file.is_file():
            made = TextEncoder(folder, tokens, pool).vectors(sentences.texts, shown=shown)
            with written_aside(file, private=True) as aside:
                save_file({"vectors": made}, aside)
        with safe_open(file, framework="numpy") as opened:
            vectors = opened.get_tensor("vectors")
        lock.remove()
    return ReportFeatures(vectors, sentences.of_case, key, text_sha256, without)
