"""A linear probe on tiles: how well do features tell tumour from the rest, learned from the outlines of few slides?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core.errors import UserError
from ...datasets.manifest.tables import Manifest
from ...datasets.slides.shared_work import slide_file
from ...eval.localisation.tile_probe import probe_estimates
from ...eval.report.label_efficiency_section import Step
from ...eval.statistics.metrics import auroc
from .localise import tile_truth_of

STRENGTHS = (0.001, 0.01, 0.1)  # of the logistic regression, inverses of its penalty
ORDERS = 5  # in which slides are outlined; metrics are their mean
MOST_TILES = 300  # of a slide and kind, to learn from and to judge


class _Slide(NamedTuple):
    """One slide's tiles of known truth: features (N, D) float32 and truth (N,) bool."""

    patient: str
    features: np.ndarray
    truth: np.ndarray


def tile_probe(
    features: tuple[Path, Path],
    manifest: Manifest,
    label: str,
    sizes: Sequence[int] = (1, 2, 4, 8),
    split: str = "test",
    seed: int = 0,
) -> list[Step]:
    """Hold two encoders' features of the same tiles against each other by logistic regression.

    Each encoder's penalty is chosen by two halves of the slides that its probe learns from (of one slide each, the
    strongest): with a weak one, features of more values or more noise look worse than they are.

    Args:
        features: Folders of features of two encoders, of one grid of tiles.
        manifest: With outlines of tumour (`annotation`) in training and in `split`.
        label: Whose tumour is outlined.
        sizes: Numbers of training slides with tumour whose outlines are learned from, rising; as many without tumour
            come with them.
        split: Where the probes are scored, by the mean AUROC over slides with both kinds of tiles.
        seed: Of the orders in which slides are taken, and of the tiles of large slides.

    Returns:
        A step for each size that there are slides for: the tile AUROC of both encoders, the mean of `ORDERS` choices of
        slides, and the difference. What is left out is printed.

    Raises:
        UserError: The encoders' tiles of a slide differ; no training slide with tumour, or none without, has features
            and outlines.
    """
    both = [_slides(folder, manifest, label, seed) for folder in features]
    _compare(both, features, len(manifest.table))
    train = [name for name in manifest.rows("train").table["id"] if all(name in own for own in both)]
    positive = [name for name in train if both[0][name].truth.any()]
    negative = [name for name in train if not both[0][name].truth.any()]
    if not positive or not negative:
        raise UserError(
            f"{manifest.path}: {len(positive)} training slides with outlined {label} and {len(negative)} without have "
            "features: a tile probe learns from one of each at least."
        )
    judged = [
        name
        for name in manifest.rows(split).table["id"]
        if all(name in own for own in both) and 0 < both[0][name].truth.mean() < 1
    ]
    rng = np.random.default_rng(seed)
    orders = [(rng.permutation(positive), rng.permutation(negative)) for _ in range(ORDERS)]
    if left := [size for size in sizes if size > len(positive)]:
        print(f"left out: {', '.join(map(str, left))} outlined slides, for there are {len(positive)} to learn from")
    return [
        Step(size, *_estimates(both, [[*one[:size], *other[:size]] for one, other in orders], judged))
        for size in sizes
        if size <= len(positive)
    ]


def _compare(both: Sequence[Mapping[str, _Slide]], features: tuple[Path, Path], slides: int) -> None:
    """Say which slides take no part, and refuse tiles that differ."""
    one, other = both
    shared = one.keys() & other.keys()
    if len(shared) < slides:
        print(
            f"left out: {slides - len(shared)} of {slides} slides, without features in both folders or without outlines"
        )
    for name in sorted(shared):
        if not np.array_equal(one[name].truth, other[name].truth):
            raise UserError(
                f"{features[1]}: the tiles of {name} are not those of {features[0]}: extract both of one grid."
            )


def _slides(folder: Path, manifest: Manifest, label: str, seed: int) -> dict[str, _Slide]:
    """Return the slides of a folder of features whose truth is known, by id."""
    from ...datasets.loading.isolation import read_alone
    from ...datasets.slides.hdf5 import open_features, read_tiles

    found = {}
    for place, row in enumerate(manifest.table.to_dict("records")):
        path = slide_file(folder, row["id"])
        if not path.is_file():
            continue
        grid = read_alone(read_tiles, path)
        truth = tile_truth_of(row, manifest, label, grid)
        if truth is None:
            continue
        rng = np.random.default_rng((seed, place))
        kept = np.sort(np.concatenate([_some(np.flatnonzero(truth == kind), rng) for kind in (0, 1)]))
        with open_features(path) as file:
            found[row["id"]] = _Slide(row["patient"], file.read(kept).astype(np.float32), truth[kept] == 1)
    return found


def _some(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return places if len(places) <= MOST_TILES else rng.choice(places, MOST_TILES, replace=False)


def _estimates(both: Sequence[Mapping[str, _Slide]], chosen: Sequence[Sequence[str]], judged: Sequence[str]):
    scores = [
        np.mean([_probed([own[name] for name in names], [own[name] for name in judged]) for names in chosen], axis=0)
        for own in both
    ]
    return probe_estimates([both[0][name].patient for name in judged], *scores)


def _probed(train: Sequence[_Slide], judged: Sequence[_Slide]) -> np.ndarray:
    """Return the tile AUROC of each judged slide, by the penalty that the training slides choose."""
    halves = [[*train[half::2]] for half in (0, 1)]
    mixed = [[slide for slide in half if 0 < slide.truth.mean() < 1] for half in halves]
    if not all(mixed):
        return _scored(train, judged, STRENGTHS[0])
    worth = []
    for strength in STRENGTHS:
        worth.append(np.concatenate([_scored(halves[one], mixed[1 - one], strength) for one in (0, 1)]).mean())
    return _scored(train, judged, STRENGTHS[int(np.argmax(worth))])


def _scored(train: Sequence[_Slide], judged: Sequence[_Slide], strength: float) -> np.ndarray:
    """Return the tile AUROC of each judged slide, of a probe that learned from the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-3)
    )
    probe.fit(np.concatenate([slide.features for slide in train]), np.concatenate([slide.truth for slide in train]))
    return np.array(
        [float(auroc(slide.truth[:, None], probe.decision_function(slide.features)[:, None])[0]) for slide in judged]
    )
