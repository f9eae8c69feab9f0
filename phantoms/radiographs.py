"""Invented frontal chest radiographs with findings whose cause is visible, singly or as a small ChestX-ray14.

Nothing here is a patient, and nothing learned here is a claim about one: phantoms let the demo and the tests
walk the road of real data, with labels and boxes that are true by construction.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..core.files import write_text, written_aside
from ..datasets.manifest.tables import nearest
from .chest import Body, Chest
from .chest_findings import FINDINGS, apply, reshape
from .exposure import expose, framed, projection

Box = tuple[float, float, float, float]
NOMINAL_PX = 1024  # BBox_List_2017.csv counts in pixels of a 1024-px image, whatever the size of the copy
FOLDERS = 3  # the real set has twelve
TEST_SHARE = 0.25  # of the patients, as in the official lists roughly
RGBA_EVERY = 40  # one image in so many is stored as RGBA, as some real ones are

# Chance that a sick patient has the finding by itself; companions come on top.
PREVALENCE = {
    "Cardiomegaly": 0.26,
    "Effusion": 0.26,
    "Pneumothorax": 0.20,
    "Mass": 0.18,
    "Consolidation": 0.16,
    "Infiltration": 0.16,
    "Nodule": 0.15,
    "Atelectasis": 0.14,
    "Emphysema": 0.08,
    "Edema": 0.06,
    "Fibrosis": 0.06,
    "Pneumonia": 0.05,
    "Pleural_Thickening": 0.05,
    "Hernia": 0.03,
}
HEALTHY_SHARE = 0.35  # of the patients; about half of the real images have no finding
BEDSIDE = (0.5, 0.3)  # share of the images with a finding, and of those without, that are taken in bed (AP)
COMPANIONS = {  # finding: (what often comes with it, how often)
    "Edema": (("Cardiomegaly", 0.5), ("Effusion", 0.5)),
    "Pneumonia": (("Infiltration", 0.5), ("Consolidation", 0.3)),
    "Cardiomegaly": (("Effusion", 0.25),),
    "Effusion": (("Atelectasis", 0.25),),
    "Mass": (("Nodule", 0.15),),
    "Emphysema": (("Pneumothorax", 0.2),),
}
# The real table spells this one otherwise, and has boxes for eight findings only.
BOXED = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Effusion": "Effusion",
    "Infiltration": "Infiltrate",
    "Mass": "Mass",
    "Nodule": "Nodule",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def chest_phantom(
    findings: Iterable[str],
    *,
    size: int = 512,
    rng: np.random.Generator,
    view: str = "PA",
    body: Body | None = None,
) -> tuple[np.ndarray, dict[str, Box]]:
    """Make one image of a chest with these findings.

    Args:
        findings: Names of ChestX-ray14, any of `FINDINGS`; none for a healthy chest.
        size: Side of the square image in pixels.
        rng: Everything random, hence the image, follows from it.
        view: "PA" (standing) or "AP" (in bed: higher diaphragm, larger heart, blades over the lungs).
        body: The patient, to take several images of one. Default: a new one from `rng`.

    Returns:
        The image, (size, size) uint8, bright = dense; and for each finding its box (x, y, w, h) in pixels,
        x and y of the upper left corner. A finding that the image does not show, being cut off, has none.

    Raises:
        UserError: A name that is no finding, or another view.
    """
    findings = frozenset(findings)
    for name in sorted(findings - FINDINGS.keys()):
        raise UserError(f"No phantom of {name!r}{nearest(name, FINDINGS)}. There are: {', '.join(FINDINGS)}.")
    if view not in ("PA", "AP"):
        raise UserError(f"View {view!r}; a frontal radiograph is PA or AP.")
    body = body or Body.draw(rng)
    chest = Chest(_posed(reshape(body, findings), view, rng), size)
    regions = {name: apply(chest, name) for name in FINDINGS if name in findings}
    maps = projection(size, rng)
    shadow = cv2.remap(chest.shadow(), *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    image = expose(shadow, view, rng)
    boxes = {name: framed(region, maps) for name, region in regions.items()}
    return image, {name: box for name, box in boxes.items() if box is not None}


def _posed(body: Body, view: str, rng: np.random.Generator) -> Body:
    """Return the body as it breathes and stands in this image."""
    breath = rng.normal(0, 0.025) - 0.07 * (view == "AP")
    swell = (1.07 if view == "AP" else 1.0) * rng.uniform(0.97, 1.03)
    return Body(**{**vars(body), "dome": body.dome + breath, "ctr": body.ctr * swell})


def write_chestxray14(
    root: str | Path,
    *,
    patients: int = 160,
    seed: int = 0,
    size: int = 512,
    prevalence: Mapping[str, float] = PREVALENCE,
    progress: Callable[[int, int], None] | None = None,
    bedside: tuple[float, float] = BEDSIDE,
) -> Path:
    """Write a small ChestX-ray14 tree exactly as it is downloaded.

    `images_001/images/*.png` and further folders, `Data_Entry_2017.csv`, `BBox_List_2017.csv` (test images
    only), `train_val_list.txt`, `test_list.txt`. Each patient has 1 to 4 images, 2.25 on average. Files
    that exist are written again; the same arguments give the same bytes.

    Args:
        root: The folder to write.
        patients: Number of patients, at least 4.
        seed: Everything random follows from it; the images of a patient do not depend on how many there
            are.
        size: Side of the images in pixels. The boxes are in pixels of a 1024-px image all the same, as
            those of a down-scaled copy of the real set are.
        prevalence: Chance of each finding in a sick patient (a share `HEALTHY_SHARE` is healthy).
        progress: Called with (patients done, patients in all).
        bedside: Share of the images with a finding, and of those without, that are taken in bed: (0.9, 0.1) plants a
            confounder, for a bedside image looks otherwise.

    Returns:
        `root`.

    Raises:
        UserError: Too few patients, a size below 32 or an unknown finding.
    """
    root = Path(root)
    if patients < 4 or size < 32:
        raise UserError(f"{patients} patients at {size} px: a phantom set needs 4 patients and 32 px at least.")
    for name in prevalence:
        if name not in FINDINGS:
            raise UserError(f"No phantom of {name!r}{nearest(name, FINDINGS)}. There are: {', '.join(FINDINGS)}.")
    entries, boxes = [], []
    lists: dict[str, list[str]] = {"train_val": [], "test": []}
    order = np.random.default_rng((seed, 0)).permutation(patients)
    tested = frozenset(order[: max(1, round(TEST_SHARE * patients))].tolist())
    for patient in range(patients):
        part = "test" if patient in tested else "train_val"
        folder = root / f"images_{1 + patient * FOLDERS // patients:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        for entry, found in _write_patient(folder, patient + 1, seed, size, prevalence, bedside):
            entries.append(entry)
            lists[part].append(entry[0])
            if part == "test":
                boxes += [_box_row(entry[0], label, box, size) for label, box in found.items() if label in BOXED]
        if progress is not None:
            progress(patient + 1, patients)
    _write_table(root / "Data_Entry_2017.csv", ENTRY_HEADER, [[*entry, ""] for entry in entries])
    _write_table(root / "BBox_List_2017.csv", BOX_HEADER, [[*box, "", "", ""] for box in boxes])
    for part, names in lists.items():
        write_text(root / f"{part}_list.txt", "\n".join(names) + "\n")
    return root


def draw_findings(rng: np.random.Generator, prevalence: Mapping[str, float] = PREVALENCE) -> frozenset[str]:
    """Return the findings of one patient: none, or some that go together."""
    if rng.random() < HEALTHY_SHARE:
        return frozenset()
    found = {name for name, chance in prevalence.items() if rng.random() < chance}
    for name in sorted(found):
        found |= {other for other, chance in COMPANIONS.get(name, ()) if rng.random() < chance and other in prevalence}
    return frozenset(found)


def _write_patient(
    folder: Path, patient: int, seed: int, size: int, prevalence: Mapping[str, float], bedside: tuple[float, float]
) -> Iterator[tuple[list, dict[str, Box]]]:
    """Write a patient's images; yield (row of Data_Entry_2017.csv, boxes) for each."""
    rng = np.random.default_rng((seed, patient))
    body = Body.draw(rng)
    age = int(np.clip(rng.normal(48, 16), 5, 90))
    findings = draw_findings(rng, prevalence)
    for follow_up in range(rng.choice([1, 2, 3, 4], p=[0.35, 0.25, 0.2, 0.2])):
        if follow_up:  # some findings go, new ones come
            findings = frozenset(name for name in sorted(findings) if rng.random() < 0.8)
            findings |= {name for name in sorted(draw_findings(rng, prevalence)) if rng.random() < 0.15}
        view = "AP" if rng.random() < bedside[0 if findings else 1] else "PA"
        image, boxes = chest_phantom(findings, size=size, rng=rng, view=view, body=body)
        name = f"{patient:08d}_{follow_up:03d}.png"
        _write_png(folder / name, image, rgba=rng.random() < 1 / RGBA_EVERY)
        named = "|".join(name for name in sorted(findings)) or "No Finding"
        sex = "F" if body.female else "M"
        width, height = rng.integers(1900, 3000, 2)
        yield [name, named, follow_up, patient, f"{age:03d}Y", sex, view, width, height, 0.143, 0.143], boxes


def _write_png(path: Path, image: np.ndarray, rgba: bool) -> None:
    if rgba:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGRA)
    with written_aside(path) as aside:
        aside.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _box_row(name: str, label: str, box: Box, size: int) -> list:
    return [name, BOXED[label], *(round(value * NOMINAL_PX / size, 3) for value in box)]


def _write_table(path: Path, header: str, rows: list[list]) -> None:
    lines = pd.DataFrame(rows).to_csv(index=False, header=False, lineterminator="\n") if rows else ""
    write_text(path, header + "\n" + lines)
