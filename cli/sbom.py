"""`clinvit sbom`: what this installation consists of, for a hospital's inventory; also made at each release."""

from pathlib import Path
from typing import Any

from .parser import Parser

SUMMARY = "write the bill of materials of this installation (CycloneDX)"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("--out", type=Path, default=Path("sbom.cdx.json"), help="file (default: %(default)s)")


def run(options) -> None:
    """Write it, and print how many packages it names."""
    from ..core.sbom import write_sbom

    print(f"{options.out}: {write_sbom(options.out)} packages that clinvit needs, as they are installed")
