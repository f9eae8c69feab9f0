"""What lies where in the shards: `index.json`, one line of JSON, and one with its checksum."""

import hashlib
import hmac
import json
import re
from dataclasses import asdict, dataclass, field

from ....core.documents import parse_json
from ....core.errors import RunError, UserError
from ....core.secret import FILE_VARIABLE, key_name, keyed_hash, secret_key
from ...manifest.tables import Manifest
from .storage import Storage

NAME = "index.json"
# A shard is called by its checksum, and nothing else: the name becomes that of a file here.
NAMES = re.compile("[0-9a-f]{32}")


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

    def __post_init__(self):
        whole = isinstance(self.lost_colour, int) and all(map(_is_place, self.places.values()))
        names = [name for name, size in self.shards if isinstance(size, int) and size > 0]
        if not whole or len(names) < len(self.shards) or not all(map(NAMES.fullmatch, names)):
            raise ValueError("names or places that this package does not make")
        if any(place[0] >= len(names) for place in self.places.values()):
            raise ValueError("places in shards that it does not list")

    def to_bytes(self) -> bytes:
        """Return the index as it is stored: what it says, and a checksum made with the user's key."""
        text = json.dumps(asdict(self), separators=(",", ":")).encode()
        return text + b"\n" + _signature(text).encode() + b"\n"


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
    again = f"Repeat `clinvit prepare ... --shards {storage.url}`."
    signature = rest.decode(errors="replace").strip()
    if not hmac.compare_digest(signature.encode(), _signature(text).encode()):
        if signature.partition(" ")[2] == key_name(secret_key()):
            raise RunError(f"{storage.place(name)}: damaged. {again}")
        raise UserError(
            f"{storage.place(name)}: not made with your key. {FILE_VARIABLE} names the key's file, the same wherever "
            f"these shards are read. {again}"
        )
    try:
        return Index(**parse_json(text)), signature
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{storage.place(name)}: damaged ({error}). {again}") from None


def _signature(text: bytes) -> str:
    """Return the keyed checksum of an index, and which key it was made with."""
    key = secret_key()
    return f"{hmac.new(key.encode(), text, hashlib.sha256).hexdigest()} {key_name(key)}"


def _is_place(place: object) -> bool:
    """Return whether a place is whole numbers from 0 on: shard, offset, checksum, and one to four sides."""
    return isinstance(place, list) and 4 <= len(place) <= 7 and all(type(each) is int and each >= 0 for each in place)


def digest(content) -> str:
    """Return BLAKE2b, 128 bits, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def case_keys(manifest: Manifest) -> list[str]:
    """Return a key for each case in an index: the same wherever the manifest and its files lie, and without names.

    The patient and the name of the file belong to it, so that shards of another data set with like ids do not fit;
    it is hashed with the user's secret key.
    """
    names = manifest.table["path"].str.rstrip("/").str.rsplit("/", n=1).str[-1]
    facts = zip(manifest.table["id"], manifest.table["patient"], names)
    key = secret_key()
    return [keyed_hash(key, "\0".join(map(str, case))) for case in facts]
