"""Optional parts: slides, video, decord, torchcodec, excel, volumes, export, lora, sign, text, ocr, dicom, pacs."""

import importlib
from types import ModuleType

from .errors import UserError


def require(name: str, extra: str, use: object) -> ModuleType:
    """Import a library of an optional part.

    Args:
        name: The library's module.
        extra: The part, of `[project.optional-dependencies]`.
        use: What needs it, for the message: a file or a function of ours.

    Raises:
        UserError: It is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"{use} needs {error.name or name}: pip install 'clinvit[{extra}]'") from None


def optional(name: str) -> ModuleType | None:
    """Import a library that only makes things quicker or reads rare files; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
