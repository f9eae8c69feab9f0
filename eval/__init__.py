"""Evaluation: statistics, localisation and reports of predictions, whatever made them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluation import Evaluation
    from .report.context import Context
    from .report.report import Report, evaluate
    from .statistics.compare import Comparison, compare

__all__ = ["Comparison", "Context", "Evaluation", "Report", "compare", "evaluate"]
_HOMES = {
    "Comparison": "statistics.compare",
    "Context": "report.context",
    "Evaluation": "evaluation",
    "Report": "report.report",
    "compare": "statistics.compare",
    "evaluate": "report.report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command must start without pandas and SciPy."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
