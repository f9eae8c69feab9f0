"""What lies where in the shards: `index.json`, one line of JSON, and one with its checksum."""

import hashlib
import json
from dataclasses import asdict, dataclass, field

from ....core.documents import parse_json
from ....core.errors import RunError, UserError
from ...manifest.tables import Manifest
from .storage import Storage

NAME = "index.json"


@dataclass
class Index:
    """The cases in the shards of one reader.

    Attributes:
        shards: Name and bytes of each shard; the name is the BLAKE2b checksum of its content.
        places: By case: number of the shard, offset in it, CRC-32 of the pixels, and their shape.
        unread: Cases whose file could not be read.
        lost_colour: How many files were in colour and were read as grey.
    """

    shards: list[tuple[str, int]] = field(default_factory=list)
    places: dict[str, list[int]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    lost_colour: int = 0

    def to_bytes(self) -> bytes:
        """Return the index as it is stored."""
        text = json.dumps(asdict(self), separators=(",", ":")).encode()
        return text + b"\n" + digest(text).encode() + b"\n"


def read_index(storage: Storage, folder: str) -> tuple[Index, str]:
    """Read the index in a folder of the storage, and its checksum.

    Raises:
        UserError: There is none.
        RunError: It is damaged, or cannot be reached.
    """
    name = f"{folder}/{NAME}"
    content = storage.read(name)
    if content is None:
        raise UserError(
            f"{storage.place(name)}: no shards there for this recipe. `clinvit prepare ... --cache-px N --shards "
            f"{storage.url}` makes them; N is the recipe's data.cache_px."
        )
    text, _, rest = content.partition(b"\n")
    if digest(text).encode() != rest.strip():
        raise RunError(f"{storage.place(name)}: damaged. Repeat `clinvit prepare ... --shards {storage.url}`.")
    return Index(**parse_json(text)), rest.decode().strip()


def digest(content) -> str:
    """Return BLAKE2b, 128 bits, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def case_keys(manifest: Manifest) -> list[str]:
    """Return a key for each case in an index: the same wherever the manifest and its files lie, and without names.

    The patient and the name of the file belong to it, so that shards of another data set with like ids do not fit.
    """
    names = manifest.table["path"].str.rstrip("/").str.rsplit("/", n=1).str[-1]
    facts = zip(manifest.table["id"], manifest.table["patient"], names)
    return [digest("\0".join(map(str, case)).encode()) for case in facts]
