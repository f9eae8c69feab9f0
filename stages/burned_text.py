"""Text that is burned into the pixels of an archive, and whether it says who the patient is.

What is read is compared with the header and thrown away: what is kept are hashed ids, kinds, counts and boxes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import DataError
from ..core.extras import optional
from ..datasets.manifest.seen import case_hash

EXTRA = "pip install 'clinvit[ocr]'"
COLUMNS = ("manifest_row", "case", "found", "left", "top", "right", "bottom", "width", "height")
MOST_IMAGES = 200


@dataclass
class BurnedText:
    """Text in the pixels.

    Attributes:
        looked: Images that were read for text.
        of: Images of the archive.
        failed: Images among those that could not be read in full size.
        with_text: Images with text other than markers of side and view.
        kinds: Images by kind of text (`datasets.quality.burned_text.KINDS`).
        person: Images by field of the header that stands in their pixels (`patient name`).
        why: Why nothing was looked at; empty where it was.
        boxes: A row for each line of text, without the text: number of the row in the manifest, hashed id, what was
            found (field or kind), box and size of the image, px.
    """

    looked: int = 0
    of: int = 0
    failed: int = 0
    with_text: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    person: dict[str, int] = field(default_factory=dict)
    why: str = ""
    boxes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))

    def named(self) -> list[str]:
        """Return a sentence for each box that says who the patient is, by hashed id."""
        rows = self.boxes[self.boxes["found"].isin(self.person)]
        return [
            f"{each.found} found in the pixels of case {each.case} (row {each.manifest_row} of the manifest), box "
            f"{each.left},{each.top} to {each.right},{each.bottom} of {each.width} x {each.height} px"
            for each in rows.itertuples()
        ]


def burned_text(
    table: pd.DataFrame, files: Sequence[Path], numbers: Sequence[int], most: int, seed: int, still: bool = True
) -> BurnedText:
    """Look for text in images.

    Args:
        table: `id`, `patient` of N cases.
        files: Their N files.
        numbers: N numbers of their rows in the manifest.
        most: Images to read at most, drawn at random; 0 for none.
        seed: Of the draw.
        still: Whether cases are images, not clips.
    """
    found = BurnedText(of=len(table))
    if not most or not still or optional("rapidocr") is None or optional("onnxruntime") is None:
        found.why = f"this needs an optional part: {EXTRA}" if most else "--text-images is 0"
        found.why = found.why if still else "it is looked for in images alone, not in clips"
        return found
    from ..datasets.quality.burned_text import kind_of, person_fields
    from ..datasets.quality.text_finder import TextFinder

    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:most])
    finder, boxes = TextFinder(), []
    kinds: Counter[str] = Counter()
    person: Counter[str] = Counter()
    for row, item in zip(rows, _read([files[row] for row in rows]), strict=True):
        if isinstance(item, DataError):
            found.failed += 1
            continue
        pixels, named = item
        named = [*named, ("patient number", str(table["patient"].iloc[row]))]
        seen = []
        for line in finder.lines(pixels):
            said = person_fields(line.text, named) or [kind_of(line.text)]
            seen += said
            height, width = pixels.shape
            own = int(numbers[row]), case_hash(table["id"].iloc[row])
            boxes += [(*own, each, *line.box, width, height) for each in said]
        fields = {field for field, _ in named}
        kinds.update(set(seen) - fields)
        person.update(set(seen) & fields)
        found.with_text += bool(set(seen) - {"marker"})
        found.looked += 1
    found.kinds, found.person = dict(sorted(kinds.items())), dict(sorted(person.items()))
    found.boxes = pd.DataFrame(boxes, columns=list(COLUMNS))
    return found


def _read(files: Sequence[Path]):
    """Yield pixels and what headers call the person; the DataError of a file that cannot be read."""
    from tqdm import tqdm

    from ..datasets.images.dicom_person import pixels_and_person
    from ..datasets.loading.isolation import isolated

    with tqdm(total=len(files), desc="reading text", unit="image", disable=None) as bar:
        for item in isolated(pixels_and_person, files, ahead=2):
            yield item
            bar.update(1)
