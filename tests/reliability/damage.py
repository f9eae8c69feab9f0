"""Damaged files: what archives do to good ones, made anew from a seed and a number."""

import functools
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

HUGE = (0xFFFF, 0x7FFF, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
SUFFIXES = (".png", ".jpg", ".tif", ".dcm", ".mp4", ".gif", ".svs", ".h5", ".csv", ".pth", ".safetensors", ".txt", "")
# Counts of tables in MP4: so many bytes after the name of their box.
_BOXES = {b"stsz": (8, 12), b"stts": (8, 12), b"stco": (8, 12), b"stsc": (8, 12), b"ctts": (8,), b"mdhd": (16, 20)}


class Good(NamedTuple):
    """A good file.

    Attributes:
        data: Its bytes.
        suffix: Of its name.
        numbers: Numbers that it declares: sides, frames, lengths.
    """

    data: bytes
    suffix: str
    numbers: tuple[int, ...] = ()


class Mutant(NamedTuple):
    """A damaged file: how it was damaged, its bytes, the suffix of its name."""

    damage: str
    data: bytes
    suffix: str


def mutant(good: Good, others: Sequence[Good], seed: int, number: int) -> Mutant:
    """Damage number `number`; the kinds take turns."""
    draw = np.random.default_rng([seed, number])
    damage = KINDS[number % len(KINDS)]
    if damage is wrong_suffix:
        return Mutant("wrong suffix", good.data, SUFFIXES[draw.integers(len(SUFFIXES))])
    data = damage(good, draw, others) if damage is swapped_header else damage(good, draw)
    return Mutant(damage.__name__.replace("_", " "), data, good.suffix)


def truncated(good: Good, draw) -> bytes:
    return good.data[: draw.integers(len(good.data))]


def tail_missing(good: Good, draw) -> bytes:
    return good.data[: -draw.integers(1, min(64, len(good.data)))]


def bits_flipped(good: Good, draw) -> bytes:
    data = np.frombuffer(good.data, np.uint8).copy()
    places = draw.integers(0, len(data), draw.integers(1, 9))
    data[places] ^= np.left_shift(1, draw.integers(0, 8, len(places))).astype(np.uint8)
    return data.tobytes()


def head_flipped(good: Good, draw) -> bytes:
    """Headers are a small part of large files, so they get damage of their own."""
    head = Good(good.data[:512], good.suffix)
    return bits_flipped(head, draw) + good.data[512:]


def zeroed(good: Good, draw) -> bytes:
    start, stop = _run(good.data, draw)
    return good.data[:start] + bytes(stop - start) + good.data[stop:]


def randomised(good: Good, draw) -> bytes:
    start, stop = _run(good.data, draw)
    return good.data[:start] + draw.bytes(stop - start) + good.data[stop:]


def removed(good: Good, draw) -> bytes:
    start, stop = _run(good.data, draw)
    return good.data[:start] + good.data[stop:]


def repeated(good: Good, draw) -> bytes:
    start, stop = _run(good.data, draw)
    return good.data[:stop] + good.data[start:]


def wrong_suffix(good: Good, draw) -> bytes:
    return good.data


def swapped_header(good: Good, draw, others: Sequence[Good]) -> bytes:
    """The head of another format before this one's body."""
    length = int(draw.choice([4, 8, 16, 132, 512]))
    return others[draw.integers(len(others))].data[:length] + good.data[length:]


def declared_huge(good: Good, draw) -> bytes:
    """A number that the file declares, in binary or in digits, becomes a huge one."""
    ways = [_binary(good, draw), _boxes(good, draw), _digits(good, draw)]
    ways = [way for way in ways if way is not None]
    return ways[draw.integers(len(ways))] if ways else truncated(good, draw)


def hostile(good: Good, draw) -> bytes:
    """What nobody writes by chance: a small document or checkpoint that would fill the memory or run code."""
    chosen = _hostile().get(good.suffix)
    return chosen[draw.integers(len(chosen))] if chosen else bits_flipped(good, draw)


@functools.cache
def _hostile() -> dict[str, list[bytes]]:
    """By suffix. Texts deep, full of aliases, tagged, with repeated keys; tensors of stride 0, shared and packed."""
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    merged = "".join(f"b{n}: &b{n}\n  <<: [*b{n - 1}, *b{n - 1}]\n" for n in range(1, 40))
    documents = [
        "a0: &a0 [x, x, x]\n" + levels, "b0: &b0 {x: 1}\n" + merged, "a: &a [*a]\n", "model: " + "[" * 5000,
        "{model: " * 5000, "optim: !!python/object/apply:os.getcwd []\n", "model: !!python/name:os.system\n",
        "optim: os.path\n", "optim: ./this.yaml\n", "model: {a: 1, a: 2}\n", "? [a, b]\n: 1\n", "- a\n",
    ]  # fmt: skip
    objects = ["[" * 100_000, '{"a": ' * 100_000, '{"arch": ' + "[" * 60 + "]" * 60 + "}", '{"kind": 1, "kind": 2}',
               '{"arch": {"embed_dim": 1e300, "depth": 900000000}}', '{"labels": "\\ud800"}', "null", '"x"',
               '{"arch": ' + "9" * 5000 + "}"]  # fmt: skip
    checkpoints = [_checkpoint(kind) for kind in ("stride 0", "stride 0 of all", "packed", "sparse", "meta")]
    return {
        ".yaml": [text.encode() for text in documents],
        ".json": [text.encode() for text in objects],
        ".jsonl": [text.encode() + b"\n" for text in objects],
        ".pth": checkpoints,
        ".ckpt": checkpoints,
        ".safetensors": [
            struct.pack("<Q", len(head)) + head
            for head in (
                b'{"a": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4000000000000]}}',
                b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}',
                b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}    ',
                b"[" * 5000,
            )
        ],
    }


def _checkpoint(kind: str) -> bytes:
    import torch

    small, out = torch.zeros(4), io.BytesIO()
    state = {"patch_embed.proj.weight": torch.zeros(1).expand(100_000, 3, 1000, 1000)}
    if kind == "stride 0 of all":
        state = {f"blocks.{n}.attn.qkv.weight": small[:1].expand(10**6, 10**6) for n in range(4)}
    elif kind == "sparse":
        state = {
            "head.weight": torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), small[:1], (10**9, 10**9))
        }
    elif kind == "meta":
        state = {"head.weight": torch.empty(10**6, 10**6, device="meta")}
    torch.save({"model": state, "state_dict": state} if kind != "packed" else {"model": {"a": torch.zeros(10**6)}}, out)
    if kind != "packed":
        return out.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return packed.getvalue()


KINDS: tuple[Callable, ...] = (
    hostile, truncated, bits_flipped, declared_huge, zeroed, head_flipped, randomised, swapped_header, bits_flipped,
    removed, declared_huge, repeated, tail_missing, head_flipped, wrong_suffix,
)  # fmt: skip


def _run(data: bytes, draw) -> tuple[int, int]:
    start = int(draw.integers(len(data)))
    return start, min(len(data), start + int(2 ** draw.uniform(0, 11)))


def _binary(good: Good, draw) -> bytes | None:
    if not good.numbers:
        return None
    value = good.numbers[draw.integers(len(good.numbers))]
    kind = draw.permutation(["<H", ">H", "<I", ">I", "<Q", ">Q"])
    for code in kind:
        size = struct.calcsize(code)
        if value >= 256**size:
            continue
        places = [found.start() for found in re.finditer(re.escape(struct.pack(code, value)), good.data)]
        if places:
            place = places[draw.integers(min(8, len(places)))]
            huge = min(HUGE[draw.integers(len(HUGE))], 256**size - 1)
            data = good.data[:place] + struct.pack(code, huge) + good.data[place + size :]
            return _with_checksum(data)
    return None


def _with_checksum(data: bytes) -> bytes:
    """A PNG whose header is lied about must do so with the right checksum."""
    if not data.startswith(b"\x89PNG"):
        return data
    return data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]


def _boxes(good: Good, draw) -> bytes | None:
    places = [
        found.start() + offset
        for name, offsets in _BOXES.items()
        for found in re.finditer(name, good.data)
        for offset in offsets
    ]
    if not places:
        return None
    place = places[draw.integers(len(places))]
    huge = min(HUGE[draw.integers(len(HUGE))], 2**32 - 1)
    return good.data[:place] + struct.pack(">I", huge) + good.data[place + 4 :]


def _digits(good: Good, draw) -> bytes | None:
    """For text, and for decimal numbers in DICOM, which keep their length."""
    if good.suffix not in (".csv", ".json", ".yaml", ".xml", ".jsonl", ".dcm", ".safetensors"):
        return None
    found = list(re.finditer(rb"\d+", good.data))
    if not found:
        return None
    place = found[draw.integers(len(found))]
    length = place.end() - place.start()
    binary = good.suffix in (".dcm", ".safetensors")
    words = (b"9" * length, b"-1".ljust(length)[:length]) if binary else (
        b"9" * 400, b"1e999", b"-1", b"18446744073709551616", b"NaN", b"null", b"[" * 2000, b'"' * 3, b"\xff\xfe",
    )  # fmt: skip
    return good.data[: place.start()] + words[draw.integers(len(words))] + good.data[place.end() :]
