"""Where the files of a manifest may lie: in its own folder, or below a root that the JSON beside it names.

A manifest from elsewhere could name any file of this machine as an image, and a report would show it. It may come
with a JSON of its own. So the roots that `prepare` writes are signed with the user's key; those of another hand count
for nothing, but for what the environment variable `CLINVIT_ROOTS` grants. Where that is set, no root leads out of it.
"""

import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...core.errors import DataError
from ...core.secret import keyed_hash, secret_key

VARIABLE = "CLINVIT_ROOTS"


def signature_of(manifest: Path, roots: Iterable[str]) -> str:
    """Return what says that the holder of the key has granted these roots: a keyed hash of where they lead.

    Args:
        manifest: The CSV file, whose folder relative roots start from.
        roots: Folders, absolute or relative to it.
    """
    base = Path(manifest).parent.resolve()
    return keyed_hash(secret_key(), "\0".join(["roots", *sorted(str((base / root).resolve()) for root in roots)]))


def refuse_outside(
    manifest: Path, column: str, files: Iterable[str], roots: Sequence[str] = (), signature: str = ""
) -> None:
    """Raise if a file leads out of the manifest's folder and of all roots; links are followed.

    Args:
        manifest: The CSV file.
        column: Named in the message.
        files: Paths, absolute or relative to the manifest's folder; empty ones are left out.
        roots: Further folders, absolute or relative to it.
        signature: Of the roots, as of `signature_of`; '' where nobody has signed them.

    Raises:
        DataError: The message names the first row as a spreadsheet counts it, and both remedies; or a root that
            is not granted.
    """
    base = manifest.parent.resolve()
    allowed = [base, *((base / root).resolve() for root in roots)]
    _refuse_roots(manifest, base, allowed, roots, signature)
    starts = tuple(f"{folder}/".replace("//", "/") for folder in allowed)
    folders: dict[str, str] = {}  # as written -> where it leads; there are few
    for row, file in enumerate(files):
        if "\0" in file:
            raise DataError(f"{manifest}: row {row + 2}: the {column} {file!r} is no path. Write the table again.")
        folder, _, name = file.rpartition("/")
        if folder not in folders:
            folders[folder] = str((base / (folder or "/" * file.startswith("/"))).resolve())
        place = f"{folders[folder]}/{name}"
        # One look at the disk per file: there may be a hundred thousand.
        if name in ("", ".", "..") or os.path.islink(place):  # noqa: PTH114
            place = str(Path(place).resolve())
        if file and not f"{place}/".startswith(starts):
            root = Path(place).parent
            raise DataError(
                f"{manifest}: row {row + 2}: the {column} {file!r} leads out of the manifest's folder, to {place}. If "
                f'that is meant, prepare with --data-root {root}, or write "roots": ["{root}"] into '
                f"{manifest.with_suffix('.json').name} beside it and set {VARIABLE}={root}."
            )


def _refuse_roots(manifest: Path, base: Path, allowed: Sequence[Path], roots: Sequence[str], signature: str) -> None:
    """Raise if one of the `allowed` folders is neither below the manifest's nor granted by who runs the command."""
    words = os.environ.get(VARIABLE, "")
    granted = [base, *(Path(each).resolve() for each in words.split(os.pathsep) if each)]
    foreign = [root for root in allowed if not any(root.is_relative_to(folder) for folder in granted)]
    if not foreign:
        return
    beside, root = manifest.with_suffix(".json"), foreign[0]
    if VARIABLE in os.environ:
        raise DataError(
            f"{beside}: its root {root} is not below a folder of {VARIABLE} ({words or 'empty'}). If its files may be "
            "read, add the folder there."
        )
    if not signature or not hmac.compare_digest(signature.encode(), signature_of(manifest, roots).encode()):
        raise DataError(
            f"{beside}: nobody with your key has granted its root {root}: it may come from elsewhere. If files there "
            f"may be read, set {VARIABLE}={root}, or prepare the data set again."
        )
