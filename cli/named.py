"""What the options of a command name: looked at before anything heavy is imported (`stages.named_places`)."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

# Options of any verb, some as NAME=PATH, some joined by commas: checkpoints, encoders or models; data; what is written.
WEIGHTS = (
    "encoder", "text_encoder", "model", "teacher", "folder", "source", "file", "macula", "words", "weights", "by",
)  # fmt: skip
DATA = ("data", "pretrain_data", "tiles", "features", "archive")
OUT = ("out",)


def refuse_hostile(options: Namespace) -> None:
    """Refuse hostile files that options name, by little reading, in little time and memory.

    Raises:
        UserError: It names the file.
    """
    from ..stages.named_places import refuse_hostile_facts, refuse_hostile_out, refuse_hostile_weights

    looks: dict[tuple[str, ...], Callable[[Path], None]] = {
        WEIGHTS: refuse_hostile_weights, DATA: refuse_hostile_facts, OUT: refuse_hostile_out,
    }  # fmt: skip
    for names, look in looks.items():
        for place in _places(options, names):
            look(place)
    inputs = getattr(options, "inputs", None)
    if isinstance(inputs, list) and len(inputs) == 1:  # one manifest may stand in place of files
        refuse_hostile_facts(inputs[0])


def _places(options: Namespace, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files and folders that options name, of those that are there; what is to be written in any case."""
    values = [getattr(options, name, None) for name in names]
    lists = [value if isinstance(value, list) else [value] for value in values if value is not None]
    for word in (str(word) for words in lists for word in words):
        for text in dict.fromkeys([word, word.partition("=")[2], *word.split(",")]):
            place = Path(text)
            if text and (names == OUT or place.is_file() or place.is_dir()):
                yield place
