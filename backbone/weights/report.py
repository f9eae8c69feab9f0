"""What became of a checkpoint's tensors, in words."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's tensors.

    Attributes:
        source: Name of the source (see `recognise`), or `clinvit`.
        loaded: How many tensors of the ViT were set.
        adapted: What was changed on the way, in words.
        left_over: Names in the file that the ViT has no place for (a decoder, a head).
    """

    source: str
    loaded: int
    adapted: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"loaded {self.loaded} tensors (source: {self.source})"]
        lines += [f"adapted: {text}" for text in self.adapted]
        if self.left_over:
            lines.append(f"left over ({len(self.left_over)}): {', '.join(families(self.left_over))}")
        return "; ".join(lines)


def families(names: Iterable[str]) -> list[str]:
    """Write `decoder_blocks.0.attn.qkv.weight`, ... as `decoder_blocks.* (24)`: short enough to read."""
    counts: dict[str, int] = {}
    for name in names:
        family = name.split(".", 1)[0]
        counts[family] = counts.get(family, 0) + 1
    return [f"{family}.* ({count})" if count > 1 else family for family, count in counts.items()]
