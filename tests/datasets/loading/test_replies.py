"""Answers of reading processes arrive as they were given; nothing that arrives runs or fills the memory."""

import json
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from clinvit.core.errors import DataError, RunError, UserError
from clinvit.datasets.images.colour import Read
from clinvit.datasets.loading.isolation import isolated
from clinvit.datasets.loading.replies import BadReply, packed, unpacked
from clinvit.datasets.slides.stain import Normaliser
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.tests.reliability.deadly import Hostile

GRID = TileGrid(np.arange(8).reshape(4, 2), np.ones(4, np.float32), 224, 112.0, 0.0, 224, 0.5, 1000, 900)


def through(result, number=3):
    head, arrays = packed(number, result)
    waiting = [bytes(array) for array in arrays]

    def receive(place):
        place[:] = waiting.pop(0)

    found = unpacked(head, receive, 1e9)
    assert found[0] == number and not waiting
    return found[1]


@pytest.mark.parametrize(
    "value",
    [
        None, True, -7, 2**70, 0.1, float("inf"), "é\udcff\u202e", b"", b"\x00\xff", [], (), {},
        (1, [2, (3,)], {"a": 1}),
        {1: "b", ("c", 2): None}, Path("a/b"), [[["array", 0]]],
    ],
)  # fmt: skip
def test_plain_values_arrive_as_they_were(value):
    found = through(value)
    assert found == value and type(found) is type(value)
    assert np.isnan(through(float("nan")))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i4", np.float16, np.float32, np.float64, bool, "U5", "S3"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (2, 3, 4), (300, 401)])
def test_arrays_arrive_as_they_were(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    found = through((array, array.T, [array[()] if shape == () else array[..., :1]]))
    for one, other in zip(found[:2], (array, array.T), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)


def test_what_is_ours_arrives_whole():
    read = through(Read(np.ones((3, 4), np.uint8), True))
    assert isinstance(read, Read) and read.lost_colour is True and read.pixels.shape == (3, 4)
    grid, stain = through((GRID, Normaliser()))
    assert vars(grid).keys() == vars(GRID).keys() and np.array_equal(grid.coords, GRID.coords)
    assert type(stain) is Normaliser
    for kind in (DataError, UserError, RunError):
        assert type(through(kind("a: wrong"))) is kind and str(through(kind("a: wrong"))) == "a: wrong"


@dataclass
class Another:
    """What may not be sent."""

    x: int = 0


@pytest.mark.parametrize(
    "value", [Another(), {1, 2}, object(), 1j, np.array([object()]), np.zeros(2, "i4,f4"), Another]
)
def test_what_is_not_known_is_not_sent(value):
    with pytest.raises(TypeError):
        packed(0, value)


def head(value, arrays=(), number=0) -> bytes:
    text = json.dumps([number, value, list(arrays)]).encode()
    return struct.pack("<Q", len(text)) + text


BAD = {
    "pickle": pickle.dumps(print),
    "nothing": b"",
    "length": struct.pack("<Q", 2**62) + b"[]",
    "deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "other class": head(["ours", "subprocess:Popen", {}]),
    "other class of ours": head(["ours", "loading.isolation:_Team", {}]),
    "module": head(["type", "images.colour:np"]),
    "attributes": head(["ours", "slides.tiles:TileGrid", ["dict", [["coords", 1]]]]),
    "error": head(["error", "SystemExit", "x"]),
    "objects": head(["array", 0], [["|O", [2]]]),
    "huge": head(["array", 0], [["<f8", [2**40]]]),
    "many": head(["array", 0], [["|u1", [10**8]]] * 200),
    "negative": head(["array", 0], [["|u1", [-1]]]),
    "fractions": head(["array", 0], [["|u1", [1.5]]]),
    "no such array": head(["array", 5]),
    "cut off": head(["array", 0], [["|u1", [500]]]),
    "kind": head(["eval", "1"]),
    "number": head(None, number="1"),
    "unhashable": head(["dict", [[["list", []], 1]]]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_answer_is_refused(name):
    def receive(place):
        raise AssertionError("nothing is taken in")

    with pytest.raises(BadReply):
        unpacked(BAD[name], receive, 1e9)


def test_a_process_that_answers_with_something_else_costs_its_file(tmp_path):
    mark = tmp_path / "payload-was-here"
    for answer in (BAD["pickle"], head(7, number=99), BAD["huge"]):
        found = list(isolated(Hostile(answer), [1, 2, 3], 1))
        assert found[0] == 1 and "answered with what is no result" in str(found[1]) and isinstance(found[1], DataError)
        assert found[2] == 3
    assert not mark.exists()
