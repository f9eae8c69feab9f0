"""The report's section on which of the cases a model has seen before."""

from collections.abc import Mapping, Sequence

from .section import Section


def seen_section(split: str, sentences: Mapping[str, tuple[Sequence[str], Sequence[str]]], facts: Mapping) -> Section:
    """Return the section after "Cases".

    Args:
        split: The evaluated one.
        sentences: Model name to warnings, and other sentences.
        facts: Model name to the counts behind them, plain values.
    """
    warnings = [f"{name}: {text}" for name, (bad, _) in sentences.items() for text in bad]
    return Section(
        anchor="seen",
        title="Seen before",
        after="cases",
        content={
            "split": split,
            "warnings": warnings,
            "sentences": {name: good for name, (_, good) in sentences.items() if good},
        },
        plain={"warnings": warnings, "models": dict(facts)},
    )
