"""Regions of a grid as polygons with the exact edges of their cells, holes included.

Cells that only share a corner are not connected, and no ring runs through a point twice: so every polygon is valid (OGC
simple features), which viewers insist on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Region:
    """One 4-connected region of a grid.

    Attributes:
        outer: (K, 2) corners x, y in cells; the last is not the first again.
        holes: The same of each hole.
        cells: (C,) flat places of its cells in the grid.
    """

    outer: np.ndarray
    holes: tuple[np.ndarray, ...]
    cells: np.ndarray


def regions(mask: np.ndarray) -> list[Region]:
    """Return all regions of (h, w) bool, from top to bottom."""
    labels, count = ndimage.label(mask)
    flat = labels.ravel()
    order = np.argsort(flat, kind="stable")
    cells = np.split(order, np.searchsorted(flat[order], np.arange(1, count + 1)))[1:]
    outers: dict[int, np.ndarray] = {}
    holes: list[list[np.ndarray]] = [[] for _ in range(count)]
    for label, ring in _rings(labels):
        if _doubled_area(ring) > 0:
            outers[label - 1] = _without_straight(ring)
        else:
            holes[label - 1].append(_without_straight(ring))
    return [Region(outers[i], tuple(own), places) for i, (own, places) in enumerate(zip(holes, cells))]


def _rings(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Return the label and the (K, 2) lattice points of every closed line around a region or a hole of one.

    Each edge of a cell towards another label is walked with the cell on the right, so that (y downwards) outer lines
    have positive area and holes negative. Where lines meet, the one around the same cell is followed.
    """
    padded = np.pad(labels, 1)
    inner = padded[1:-1, 1:-1]
    # Direction of walking: right along the top, down along the right side, left along the bottom, up along the left.
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    others = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    edges: dict[tuple[int, int, int], int] = {}
    for direction, (other, (dx, dy)) in enumerate(zip(others, corners)):
        rows, columns = np.nonzero((inner != 0) & (inner != other))
        starts = zip((columns + dx).tolist(), (rows + dy).tolist(), [direction] * len(rows))
        edges |= dict(zip(starts, inner[rows, columns].tolist()))
    while edges:
        (x, y, direction), label = next(iter(edges.items()))
        start, path = (x, y, direction), []
        while True:
            del edges[(x, y, direction)]
            path.append((x, y))
            x, y = x + steps[direction][0], y + steps[direction][1]
            # A right turn stays at the cell, straight on and a left turn go to its neighbours of the same region.
            turns = [(direction + turn) % 4 for turn in (1, 0, 3)]
            following = [d for d in turns if edges.get((x, y, d)) == label]
            if not following:
                assert (x, y) == start[:2]
                break
            direction = following[0]
        yield from ((label, ring) for ring in _split(path))


def _split(path: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Return rings that run through no point twice, from one that may."""
    stack: list[tuple[int, int]] = []
    places: dict[tuple[int, int], int] = {}
    for point in path:
        if point in places:
            at = places[point]
            ring = stack[at:]
            for passed in ring:
                del places[passed]
            del stack[at:]
            yield np.array(ring)
        places[point] = len(stack)
        stack.append(point)
    yield np.array(stack)


def _doubled_area(ring: np.ndarray) -> int:
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _without_straight(ring: np.ndarray) -> np.ndarray:
    """Keep only the corners: all steps are along x or y, so a corner is where the direction changes."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[(before != after).any(axis=1)]
