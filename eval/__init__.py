"""Evaluation: statistics, localisation and reports of predictions, whatever made them."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from .evaluation import Evaluation as Evaluation
    from .report.context import Context as Context
    from .report.report import Report as Report
    from .report.report import evaluate as evaluate
    from .statistics.compare import Comparison as Comparison
    from .statistics.compare import compare as compare

__getattr__, __dir__, __all__ = public_names(
    __name__,
    {
        ".evaluation": "Evaluation",
        ".report.context": "Context",
        ".report.report": "Report evaluate",
        ".statistics.compare": "Comparison compare",
    },
)
