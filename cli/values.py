"""What the text of an option means: lists, shares, named paths, options of a layout."""

from collections.abc import Sequence
from pathlib import Path

from ..core.documents import parse_yaml
from ..core.errors import UserError


def columns(text: str | None) -> list[str] | None:
    """Read `sex,age` as a list: empty for `none`, None (the usual columns) where the option was not given."""
    if text is None:
        return None
    return [] if text == "none" else [name.strip() for name in text.split(",")]


def prevalence(text: str | None) -> float | dict[str, float] | None:
    """Read `0.02` as a share, or `Mass=0.02,Edema=0.1` as a share per label."""
    if text is None:
        return None
    try:
        if "=" not in text:
            return float(text)
        pairs = [pair.rsplit("=", 1) for pair in text.split(",")]
        return {label.strip(): float(value) for label, value in pairs}
    except ValueError:
        raise UserError(f"--prevalence {text!r}: write a share, such as 0.02, or LABEL=0.02,LABEL=0.1.") from None


def named_path(text: str) -> tuple[str, Path]:
    """Read `name=path` or a path; a run folder means its predictions.csv."""
    name, sign, path = text.partition("=")
    path = Path(path if sign else text)
    name = name if sign else (path.name if path.is_dir() else path.resolve().parent.name)
    return name, path / "predictions.csv" if path.is_dir() else path


def layout_options(pairs: Sequence[str]) -> dict:
    """Read `key=value` texts; numbers, true/false and [lists] become values."""
    options = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UserError(f"--option {pair!r}: write KEY=VALUE.")
        try:
            options[key.replace("-", "_")] = parse_yaml(value)
        except ValueError:
            options[key.replace("-", "_")] = value
    return options
