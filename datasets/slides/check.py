"""Look at the slides of a manifest before anything runs: do they open, and how large is a pixel."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...core.errors import DataError
from ...core.platform import usable_cores
from ..loading.isolation import isolated
from ..loading.limits import SLIDE_SECONDS
from ..manifest.tables import Manifest
from ..quality.check import Findings, check_manifest
from ..quality.looks import Look, look_at
from .reading import open_slide
from .settings import Tissue
from .tissue import ink_warning

OVERVIEW_PX = 256
MOST_INK_PX = 2048


@dataclass(frozen=True)
class OverviewReader:
    """Reads a slide small; `mpp` by file, where the manifest says it."""

    mpp: dict[Path, float | None]
    name: str = "overviews"

    def open(self, path: Path) -> np.ndarray:
        """Return (h, w, 3) uint8."""
        with open_slide(path, self.mpp[path]) as slide:
            return slide.overview(OVERVIEW_PX)


def check_slides(manifest: Manifest, files: int | None = 200) -> Findings:
    """Check a manifest's splits and labels, and open its slides.

    Args:
        manifest: Already validated row by row.
        files: How many slides to open, spread evenly over the table; 0 opens all, None looks for none.
    """
    findings = check_manifest(manifest, None, files=None)
    if files is None or not len(manifest):
        return findings
    paths, scales = manifest.files(), manifest.microns_per_px()
    missing = [path for path in paths if not path.exists()]
    if missing:
        findings.errors.append(f"{len(missing)} of {len(paths)} slides are missing, first: {missing[0]}")
    chosen = range(len(paths)) if not files else np.unique(np.linspace(0, len(paths) - 1, files).astype(int))
    sizes, mpps, bad, inked = [], [], [], []
    there = [row for row in chosen if paths[row].exists()]
    work = partial(_look, scales={paths[row]: scales[row] for row in there})
    looks = isolated(work, [paths[row] for row in there], usable_cores(), time=SLIDE_SECONDS)
    for row, look in tqdm(zip(there, looks), "opening slides", len(there), unit="slide", disable=None):
        if isinstance(look, DataError):
            bad.append(str(look))
        else:
            look, size, mpp, ink = look
            if ink:
                inked.append(f"{manifest.table['id'].iloc[row]}: {ink}")
            findings.looks.add(row, look)
            sizes.append(size)
            mpps.append(mpp)
    # A slide that cannot be used is a row of the status tables; the others go on.
    findings.warnings += bad[:20]
    if inked:
        findings.warnings.append(
            f"ink or a special stain (tissue.remove_ink) on {len(inked)} of the slides opened, first {inked[0]}"
        )
    if len(bad) > 20:
        findings.warnings.append(f"... and {len(bad) - 20} more slides that cannot be used.")
    if not sizes:
        findings.errors.append("no slide can be used.")
        return findings
    widths, heights = zip(*sizes)
    findings.facts.append(
        f"{len(sizes)} of {len(bad) + len(sizes)} slides opened: {min(widths)}..{max(widths)} px wide, "
        f"{min(heights)}..{max(heights)} px high, {min(mpps):.3g}..{max(mpps):.3g} microns per pixel"
    )
    return findings


def _look(path: Path, scales: dict[Path, float | None]) -> tuple[Look, tuple[int, int], float, str]:
    """Look at a slide that can be gone through: also width and height, microns per pixel, and what is said of ink."""
    with open_slide(path, scales[path]) as slide:
        size = slide.width_px, slide.height_px
        # At the scale that tissue is looked for, where that is not finer than what lies ready.
        longest = min(MOST_INK_PX, max(1, round(max(size) * slide.mpp / Tissue().overview_mpp)))
        small = slide.overview(longest)
        ink = ink_warning(small, max(size) * slide.mpp / max(small.shape[:2]))
        return look_at(slide.overview(OVERVIEW_PX)), size, slide.mpp, ink
