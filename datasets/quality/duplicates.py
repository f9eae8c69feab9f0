"""Images and clips that stand twice in a data set, as they are or re-encoded, resized, brightened, slightly cropped.

Equal ones have one digest of their decoded pixels. For the others every case gets 143 bits, the signs of its low waves
against the data set's medians (chest X-rays all look alike: against a fixed level most of their bits are the same);
cases that share a random choice of bits in one of 64 tables (locality-sensitive hashing, Indyk and Motwani 1998), and
differ in a quarter of all at most, are candidates. What decides is the correlation of their high-passed small copies,
of the nearest also after these were aligned (ECC, Evangelidis and Psarakis 2008), which is how crops are found.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from ...core.platform import usable_cores
from .looks import SMALL_PX, WAVES, Looks

# On 750 chest X-rays (280,875 pairs) two of different patients reached 0.81, and 0.88 after alignment. Moments of one
# scene of a clip are less alike: of 58 lung ultrasound clips two such pairs reached 0.93, all others stay below 0.8.
ALIKE, ALIKE_CLIPS = 0.94, 0.9
NEAR = 0.5  # of candidates that are worth aligning
MOST_ALIGNED = 5000
TABLES, BUCKET = 64, 8
MOST_BITS = (WAVES**2 - 1) // 4
ALL_PAIRS = 1500  # so many images are compared each with each: medians of a few images say little
CHUNK = 4000
WARP = 0.45  # by so much an aligned copy may be larger, smaller and shifted, taken together


def duplicates(looks: Looks, patients: Sequence[str]) -> pd.DataFrame:
    """Return pairs of cases that show the same image.

    Pairs of one patient that are merely alike (two exposures of a visit) are left out.

    Args:
        looks: Of N cases.
        patients: Of all rows of the manifest.

    Returns:
        `a, b` (rows of the manifest), `likeness` (correlation, 1 where equal), `equal`; a row for each pair, but of
        many equal ones only each with the first. The most alike come first.
    """
    rows = np.array(looks.rows, np.int64)
    patient = pd.factorize(np.asarray(patients)[rows])[0]
    equal, firsts = _equal(looks)
    a, b, likeness = _alike(looks, firsts, patient)
    pairs = pd.DataFrame(
        {
            "a": rows[np.concatenate([equal[:, 0], a])],
            "b": rows[np.concatenate([equal[:, 1], b])],
            "likeness": np.concatenate([np.ones(len(equal)), likeness]),
            "equal": np.repeat([True, False], [len(equal), len(a)]),
        }
    )
    return pairs.sort_values(["equal", "likeness", "a", "b"], ascending=[False, False, True, True], ignore_index=True)


def _equal(looks: Looks) -> tuple[np.ndarray, np.ndarray]:
    """Return (P, 2) places of equal cases, each with the first of its kind; and (N,) whether a case is the first."""
    first_of: dict[bytes, int] = {}
    firsts = np.array([first_of.setdefault(digest, place) for place, digest in enumerate(looks.digests)], np.int64)
    again = np.flatnonzero(firsts != np.arange(len(looks)))
    return np.stack([firsts[again], again], axis=1), firsts == np.arange(len(looks))


def _alike(looks: Looks, firsts: np.ndarray, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places a < b of alike cases of different patients, and their correlation."""
    owner = np.array(looks.owners, np.int64)
    # Of these alone an array is made: it takes the most memory of a check.
    kept = np.array([k for k, copy in enumerate(looks.small) if firsts[owner[k]] and copy.any()], np.int64)
    small, owner = np.array([looks.small[k] for k in kept], np.int8).reshape(-1, SMALL_PX**2), owner[kept]
    alike = ALIKE_CLIPS if len(looks.owners) > len(looks) else ALIKE
    found, near = [], []
    candidates = (
        _every_pair(small) if len(kept) <= ALL_PAIRS else _hashed(small, np.array([looks.waves[k] for k in kept]))
    )
    for i, j, likeness in candidates:
        other = (likeness >= NEAR) & (patient[owner[i]] != patient[owner[j]])
        same = other & (likeness >= alike)
        nearly = other & ~same
        found.append((i[same], j[same], likeness[same]))
        near.append((i[nearly], j[nearly], likeness[nearly]))
    if near:
        i, j, likeness = map(np.concatenate, zip(*near))
        best = np.argsort(-likeness, kind="stable")[: min(MOST_ALIGNED, 2 * len(kept))]
        likeness = _aligned(small, i[best], j[best])
        same = likeness >= alike
        found.append((i[best][same], j[best][same], likeness[same]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    i, j, likeness = map(np.concatenate, zip(*found))
    ends = np.sort(np.stack([owner[i], owner[j]]), axis=0)
    cases = pd.DataFrame({"a": ends[0], "b": ends[1], "likeness": likeness.astype(np.float64)})
    best = cases.groupby(["a", "b"], as_index=False)["likeness"].max()
    return best["a"].to_numpy(), best["b"].to_numpy(), best["likeness"].clip(upper=1).to_numpy()


Pairs = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]  # places of both, and their correlation


def _every_pair(small: np.ndarray) -> Pairs:
    """Compare all of M (64 x 64) copies, those before each other only."""
    unit = _unit(small)
    for start in range(0, len(unit), 500):
        likeness = unit[start : start + 500] @ unit[start:].T
        i, j = np.nonzero(np.triu(likeness >= NEAR, 1))
        yield i + start, j + start, likeness[i, j]


def _unit(small: np.ndarray) -> np.ndarray:
    copies = small.astype(np.float32)
    return copies / np.linalg.norm(copies, axis=1, keepdims=True)


def _hashed(small: np.ndarray, waves: np.ndarray) -> Pairs:
    """Return pairs whose (M, 143) waves fall together in a table."""
    bits = waves > np.median(waves, axis=0)
    words = np.packbits(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 64))), axis=1).view(np.uint64)
    count, draw = len(bits), np.random.default_rng(0)
    chosen = math.ceil(math.log2(count))
    codes = []
    for _ in range(TABLES):
        taken = draw.choice(bits.shape[1], chosen, replace=False)
        key = bits[:, taken] @ (np.int64(1) << np.arange(chosen))
        order = draw.permutation(count)
        order = order[np.argsort(key[order], kind="stable")]
        key = key[order]
        # In a crowded bucket each is compared with those that come next; the next table orders them anew.
        for step in range(1, BUCKET + 1):
            met = key[step:] == key[:-step]
            ends = np.sort(np.stack([order[:-step][met], order[step:][met]]), axis=0)
            differ = np.bitwise_count(words[ends[0]] ^ words[ends[1]]).sum(axis=1, dtype=np.int64)
            codes.append((ends[0] * count + ends[1])[differ <= MOST_BITS])
    pairs = np.unique(np.concatenate(codes))
    for start in range(0, len(pairs), CHUNK):
        i, j = np.divmod(pairs[start : start + CHUNK], count)
        yield i, j, np.einsum("ij,ij->i", _unit(small[i]), _unit(small[j]))


def _aligned(small: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the correlations of pairs once the second is laid over the first."""
    with ThreadPoolExecutor(usable_cores()) as pool:  # OpenCV lets go of Python's lock
        return np.array(list(pool.map(_likeness, small[i], small[j])), np.float64)


def _likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Return correlation of two small copies, the second aligned to the first by an affine map.

    0 where none is found.
    """
    import cv2

    first, second = (copy.reshape(SMALL_PX, SMALL_PX).astype(np.float32) for copy in (first, second))
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        _, warp = cv2.findTransformECC(first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, stop, None, 3)
    except cv2.error:  # it did not converge
        return 0.0
    if np.abs(warp - np.eye(2, 3)).max(axis=0) @ (1, 1, 1 / SMALL_PX) > WARP:
        return 0.0
    flags = cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, warp, second.shape, flags=flags | cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.ones_like(second), warp, second.shape, flags=flags | cv2.INTER_NEAREST) > 0
    return float(np.corrcoef(first[inside], laid[inside])[0, 1])
