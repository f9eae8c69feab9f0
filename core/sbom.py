"""The bill of materials of an installation, CycloneDX 1.6 in JSON: what `clinvit` runs with, by version and licence."""

import re
import uuid
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from .files import write_json

NAME = "clinvit"


def write_sbom(path: Path) -> int:
    """Write the installed distributions that `clinvit` needs, its optional parts too where they are there.

    Returns:
        How many.
    """
    found = _needed(distribution(NAME))
    main = found.pop(NAME)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": _component(main[0]) | {"type": "application"},
            "tools": {"components": [{"type": "application", "name": NAME, "version": main[0].version}]},
        },
        "components": [_component(each) for each, _ in found.values()],
        "dependencies": [
            {"ref": _reference(each), "dependsOn": [_reference(found[name][0]) for name in needs]}
            for each, needs in (main, *found.values())
        ],
    }
    write_json(path, document)
    return len(found)


def _needed(first: Distribution) -> dict[str, tuple[Distribution, list[str]]]:
    """Return by name what is installed of what a distribution needs, directly or not, and what each itself needs.

    Of `clinvit` all optional parts count, of the others those that are asked for.
    """
    found: dict[str, tuple[Distribution, list[str]]] = {}
    extras: dict[str, set[str]] = {NAME: set(first.metadata.get_all("Provides-Extra") or ())}
    waiting = [first]
    while waiting:
        each = waiting.pop()
        name, needs = _plain(each.metadata["Name"]), {}
        for requirement in map(Requirement, each.requires or ()):
            marker, asked = requirement.marker, extras.get(name) or {""}
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in asked | {""}):
                continue
            other = _plain(requirement.name)
            try:
                needs[other] = distribution(requirement.name)
            except PackageNotFoundError:  # an optional part that is not there
                continue
            new = requirement.extras - extras.setdefault(other, set())
            extras[other] |= new
            if other not in found or new:
                waiting.append(needs[other])
        found[name] = (each, sorted(set(needs) - {name}))
    # A requirement may be walked twice, for another extra; the order of the document is that of names.
    return dict(sorted(found.items()))


def _component(each: Distribution) -> dict[str, Any]:
    """Return name, version, licence and package URL of a distribution."""
    component: dict[str, Any] = {
        "type": "library", "bom-ref": _reference(each), "name": each.metadata["Name"], "version": each.version,
        "purl": _reference(each),
    }  # fmt: skip
    meta = each.metadata
    if expressions := meta.get_all("License-Expression"):
        component["licenses"] = [{"expression": expressions[0]}]
    else:
        named = [line.rpartition("::")[2].strip() for line in meta.get_all("Classifier") or () if "License ::" in line]
        short = (meta.get_all("License") or [""])[0].strip()
        named = named or ([short] if short and len(short) < 80 and "\n" not in short else [])
        if named:
            component["licenses"] = [{"license": {"name": name}} for name in named]
    return component


def _reference(each: Distribution) -> str:
    return f"pkg:pypi/{_plain(each.metadata['Name'])}@{each.version}"


def _plain(name: str) -> str:
    """Return the normal form of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
