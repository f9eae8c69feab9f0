"""The stage `retrieve`: the cases most alike a case, by the cosine of their vectors, and how alike they are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.alone import folder_alone
from ..core.documents import read_json
from ..core.errors import DataError, UserError
from ..core.files import own_folder, write_json, write_text
from ..datasets.manifest.cells import for_spreadsheets, write_csv
from ..datasets.manifest.tables import Manifest, read_csv
from ..eval.report.retrieval_page import Card, Query, retrieval_page
from ..eval.statistics.neighbours import Near, nearest
from ..eval.statistics.retrieval import Retrieval, retrieval
from .case_images import case_images, slide_images
from .extract import CASES, FACTS, FEATURES

NEIGHBOURS, RESULT, PAGE = "neighbours.csv", "retrieval.json", "retrieval.html"


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Attributes:
        queries: Split whose cases are queries, or ids of cases.
        library: Split whose cases are found.
        k: How many neighbours.
        shown: How many queries the page shows.
    """

    queries: Sequence[str] = ("test",)
    library: str = "train"
    k: int = 5
    shown: int = 12

    def __post_init__(self):
        if self.k < 1 or self.shown < 0:
            raise UserError(f"-k {self.k}, --shown {self.shown}: neighbours from 1, queries shown from 0 on.")


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        table: `query, patient, rank, neighbour, similarity`, and of each label the query's and the neighbour's.
        judged: By label.
        queries, library: Numbers of cases.
        left_out: Why cases took no part, counted.
    """

    table: pd.DataFrame
    judged: tuple[Retrieval, ...]
    queries: int
    library: int
    left_out: Mapping[str, int]


def retrieve(manifest: Manifest, vectors: Path, out: Path, asked: Asked, unit: str) -> Found:
    """Write `neighbours.csv`, `retrieval.json` and `retrieval.html` into `out`.

    Args:
        manifest: Cases with labels.
        vectors: Folder of `features.npy` and `features.csv` (`pool` of slides, `extract` of images and clips).
        out: Folder.
        asked: Which cases.
        unit: What a case is.

    Raises:
        UserError: No such split or case.
        DataError: The vectors cannot be read, or there is no query or no library among them.
    """
    values, left_out = _vectors(manifest, vectors)
    there = ~np.isnan(values).all(axis=1)
    asked_rows = _rows(manifest, asked.queries)
    library = np.flatnonzero((manifest.table["split"] == asked.library).to_numpy() & there)
    queries = asked_rows[there[asked_rows]]
    for name, rows in ((" ".join(asked.queries), queries), (asked.library, library)):
        if not len(rows):
            raise DataError(f"{vectors}: no {unit} of {name!r} has a vector. {CASES} gives the reasons.")
    patients = manifest.table["patient"].to_numpy()
    near = nearest(values[queries], values[library], patients[queries], patients[library], asked.k)
    shared = bool(len(np.intersect1d(queries, library)))
    truth = manifest.targets().astype(np.float64)
    judged = tuple(
        retrieval(label, near.rows, truth[queries, place], truth[library, place], patients[queries], shared)
        for place, label in enumerate(manifest.labels)
    )
    if without := len(asked_rows) - len(queries):
        left_out["queries without a vector"] = without
    found = Found(_table(manifest, queries, library, near), judged, len(queries), len(library), left_out)
    own_folder(out)
    with folder_alone(out):
        write_csv(out / NEIGHBOURS, for_spreadsheets(found.table), float_format="%.6g")
        made_by = _made_by(vectors)
        write_json(out / RESULT, _facts(found, asked, made_by))
        shown = _shown(manifest, queries, library, near, asked.shown)
        cards = _cards(manifest, vectors, shown, unit)
        write_text(out / PAGE, retrieval_page(judged, cards, asked.k, _headings(found, asked, made_by, unit)))
    return found


def _vectors(manifest: Manifest, folder: Path) -> tuple[np.ndarray, dict[str, int]]:
    """Return (N, D) vectors of the cases of a manifest, NaN where there is none, and what took no part."""
    try:
        rows = read_csv(folder / CASES)
        stored = np.load(folder / FEATURES, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{folder}: no readable {FEATURES} and {CASES} ({error}). `clinvit pool` makes them of slides, `clinvit "
            "extract` of images and clips."
        ) from None
    if "id" not in rows or stored.ndim != 2 or len(stored) != len(rows) or stored.dtype.kind != "f":
        raise DataError(f"{folder}: {FEATURES} is no table with a row for each of {CASES}. Make it again.")
    place = {name: row for row, name in enumerate(rows["id"])}
    values = np.full((len(manifest), stored.shape[1]), np.nan, np.float32)
    for row, name in enumerate(manifest.table["id"]):
        if name in place:
            values[row] = stored[place[name]]
    values[~np.isfinite(values).all(axis=1)] = np.nan
    missing = int((~manifest.table["id"].isin(set(place))).sum())
    others = int((~rows["id"].isin(set(manifest.table["id"]))).sum())
    failed = int(np.isnan(values).all(axis=1).sum()) - missing
    counts = {
        "cases that the vectors do not have": missing,
        "cases whose vector failed": failed,
        "vectors that the manifest does not have": others,
    }
    return values, {reason: count for reason, count in counts.items() if count}


def _rows(manifest: Manifest, queries: Sequence[str]) -> np.ndarray:
    """Return the rows of a split, or of cases by id."""
    if len(queries) == 1 and (manifest.table["split"] == queries[0]).any():
        return np.flatnonzero((manifest.table["split"] == queries[0]).to_numpy())
    known = {name: row for row, name in enumerate(manifest.table["id"])}
    unknown = [name for name in queries if name not in known]
    if unknown:
        raise UserError(f"{manifest.path}: --queries {unknown[0]!r} is neither a split with cases nor the id of one.")
    return np.array([known[name] for name in queries])


def _table(manifest: Manifest, queries: np.ndarray, library: np.ndarray, near: Near) -> pd.DataFrame:
    rank, place = np.meshgrid(np.arange(near.rows.shape[1]), np.arange(len(queries)))
    there = near.rows.ravel() >= 0
    query = queries[place.ravel()[there]]
    neighbour = library[near.rows.ravel()[there]]
    table = manifest.table
    found = pd.DataFrame({
        "query": table["id"].to_numpy()[query], "patient": table["patient"].to_numpy()[query],
        "rank": rank.ravel()[there] + 1, "neighbour": table["id"].to_numpy()[neighbour],
        "neighbour_patient": table["patient"].to_numpy()[neighbour], "similarity": near.likeness.ravel()[there],
    })  # fmt: skip
    for label in manifest.labels:
        found[f"query_{label}"] = table[label].to_numpy()[query]
        found[f"neighbour_{label}"] = table[label].to_numpy()[neighbour]
    return found


def _made_by(vectors: Path) -> dict[str, Any]:
    path = vectors / FACTS
    return read_json(path) if path.is_file() else {}


def _facts(found: Found, asked: Asked, made_by: Mapping) -> dict:
    """Return what `retrieval.json` holds; what is undefined is null."""
    facts = {
        "k": asked.k, "queries": found.queries, "library": found.library, "library_split": asked.library,
        "left_out": dict(found.left_out), "features": dict(made_by),
        "labels": {each.label: {key: value for key, value in asdict(each).items() if key != "label"}
                   for each in found.judged},
    }  # fmt: skip
    return json.loads(json.dumps(facts), parse_constant=lambda _: None)


def _shown(
    manifest: Manifest, queries: np.ndarray, library: np.ndarray, near: Near, most: int
) -> list[tuple[int, list[tuple[int, float]]]]:
    """Return rows of queries, spread evenly over all, with rows and cosines of their neighbours."""
    chosen = np.unique(np.linspace(0, len(queries) - 1, min(most, len(queries))).astype(int)) if most else []
    found = []
    for place in chosen:
        pairs = zip(library[near.rows[place]].tolist(), near.likeness[place].tolist())
        found.append((int(queries[place]), [pair for pair in pairs if not np.isnan(pair[1])]))
    return found


def _cards(manifest: Manifest, vectors: Path, shown: list, unit: str) -> list[Query]:
    ids = manifest.table["id"].tolist()
    wanted = list(dict.fromkeys(ids[row] for query, found in shown for row in (query, *(each for each, _ in found))))
    if unit == "slide":
        images = slide_images(manifest, vectors, wanted)
    else:
        image = case_images(manifest)
        images = {case: image(case) for case in wanted}
    truth = manifest.targets()

    def card(row: int, query: int, likeness: float | None = None) -> Card:
        labels = [
            (label, None if np.isnan(own) else bool(own), None if np.isnan(own + asked) else bool(own == asked))
            for label, own, asked in zip(manifest.labels, truth[row], truth[query])
        ]
        return Card(ids[row], images[ids[row]], labels, likeness)

    return [Query(card(query, query), [card(row, query, cosine) for row, cosine in found]) for query, found in shown]


def _headings(found: Found, asked: Asked, made_by: Mapping, unit: str) -> dict[str, Any]:
    return {
        "unit": unit, "queries": found.queries, "library": found.library, "split": asked.library,
        "left_out": dict(found.left_out), "features": made_by.get("encoder", "unknown"),
    }  # fmt: skip
