"""What pathologists outlined on a slide, from ASAP (XML) or QuPath (GeoJSON), by content; and what of it is meant.

GeoJSON names a class for each outline. Of these the label's own is taken; other tissue is none of it.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.documents import parse_json, regular_bytes
from ...core.errors import DataError
from .outlines import EXCLUDED_GROUPS, TUMOUR_GROUPS, Outline, read_outlines

# Names of a class of tumour, whatever the label is called, and of what is cut out of it; without capitals and signs.
TUMOUR = (*(name.strip("_").lower() for name in TUMOUR_GROUPS), "tumour", "metastasis", "positive")
EXCLUDED = (*(name.strip("_").lower() for name in EXCLUDED_GROUPS), "ignore")
# Of QuPath: what its programs detect by thousands is no outline of a pathologist's.
DETECTIONS = ("detection", "cell", "tile", "pathdetectionobject", "pathcellobject", "pathtileobject")
MOST_BYTES = 500_000_000
_CLASS_KEYS = ("classification", "class", "label", "group")


def read_annotation(path: str | Path, label: str = "") -> list[Outline]:
    """Read the outlines of a label, in file order.

    Args:
        path: XML of ASAP, or GeoJSON as QuPath exports it: objects, or a collection of them; polygons of one or
            several parts, with holes. Points and lines enclose nothing and are left out.
        label: What is outlined. Of GeoJSON, outlines of the class of this name are taken, else those of a usual name
            of tumour, else all where none has a class; `Ignore*` and `Normal` are cut out of them.

    Raises:
        DataError: No such file, neither of the formats, damaged, or no outline is of the label.
    """
    path = Path(path)
    try:
        data = regular_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as an annotation ({error}).") from None
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"{", b"["):
        return read_outlines(path)
    try:
        found = parse_json(data)
    except ValueError as error:
        raise DataError(f"{path}: no readable GeoJSON ({str(error)[:100]}). Export it again.") from None
    return _chosen(path, list(_features(path, found)), label)


def _features(path: Path, found: Any) -> Iterator[tuple[str, Outline]]:
    """Yield the class and the outline of every area; the class is '' where there is none."""
    features = found.get("features", [found]) if isinstance(found, dict) else found
    if not isinstance(features, list) or not all(isinstance(each, dict) for each in features):
        raise DataError(f"{path}: no GeoJSON as QuPath writes it (a FeatureCollection, or a list of Features).")
    for number, feature in enumerate(features):
        facts = feature.get("properties")
        facts = facts if isinstance(facts, dict) else {}
        kind = facts.get("objectType", facts.get("object_type", feature.get("id", "")))
        if str(kind).lower() in DETECTIONS:
            continue
        group = _class_of(facts)
        name = str(facts.get("name") or number)
        for rings in _areas(path, feature.get("geometry", feature), name):
            yield group, Outline(rings[0], group, name, _plain(group) in EXCLUDED, tuple(rings[1:]))


def _class_of(facts: dict) -> str:
    """Return the class of an object: `classification` is a name, or an object or a list with one."""
    for key in _CLASS_KEYS:
        value = facts.get(key)
        if isinstance(value, dict):
            value = value.get("name") or value.get("names")
        if isinstance(value, list):
            value = ": ".join(map(str, value))
        if value not in (None, ""):
            return str(value)
    return ""


def _areas(path: Path, geometry: Any, name: str) -> Iterator[list[np.ndarray]]:
    """Yield the rings of each polygon of a geometry, the outer one first."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    parts: Any = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection":
        for each in _listed(path, geometry.get("geometries"), name):
            yield from _areas(path, each, name)
    elif kind in ("Polygon", "MultiPolygon"):
        for polygon in [parts] if kind == "Polygon" else _listed(path, parts, name):
            if polygon:
                yield [_ring(path, ring, name) for ring in _listed(path, polygon, name)]
    elif kind not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise DataError(f"{path}: annotation {name!r} has a geometry {kind!r}, which GeoJSON has not. Export it again.")


def _listed(path: Path, values: Any, name: str) -> list:
    if not isinstance(values, list):
        raise DataError(f"{path}: annotation {name!r} has a coordinate that is no number. Export it again.")
    return values


def _ring(path: Path, ring: Any, name: str) -> np.ndarray:
    """Return (K, 2) of a ring without its repeated end."""
    try:
        points = np.array([point[:2] for point in ring], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, IndexError):
        raise DataError(f"{path}: annotation {name!r} has a coordinate that is no number. Export it again.") from None
    if len(points) > 1 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    if not np.isfinite(points).all():
        raise DataError(f"{path}: annotation {name!r} has a coordinate that is not finite. Export it again.")
    if len(points) < 3:
        raise DataError(f"{path}: annotation {name!r} has {len(points)} points; an outline has three at least.")
    return points


def _chosen(path: Path, found: Sequence[tuple[str, Outline]], label: str) -> list[Outline]:
    """Return the outlines of the label, and what is cut out of them."""
    if not found:
        raise DataError(f"{path}: no outline of an area in it (points, lines and detections are none).")
    inside = {group for group, outline in found if not outline.excluded}
    meant = {group for group in inside if _plain(label) and _plain(label) in (_plain(group), _plain(_base(group)))}
    meant = meant or {group for group in inside if _plain(_base(group)) in TUMOUR}
    if not meant and inside == {""}:
        meant = inside
    if not meant:
        classes = ", ".join(sorted(map(repr, inside - {""}))) or "only what is cut out"
        raise DataError(
            f"{path}: no outline is of the class {label or 'Tumor'!r}; there are {classes}. Name the class of the "
            "outlines as the label, or empty the cell of this slide in the column `annotation`."
        )
    return [outline for group, outline in found if outline.excluded or group in meant]


def _base(group: str) -> str:
    """Return the class that a derived class is of: `Tumor` of `Tumor: Positive`."""
    return group.partition(":")[0]


def _plain(group: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", group.casefold()))
