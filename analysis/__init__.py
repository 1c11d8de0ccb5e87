"""Traces in, tables out: the trace table, the workspace, workload characterisation, forecasts, predictors.

The bottom of the house: imports nothing of lmaas outside this folder, and knows no GPU, policy or report.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .characterise import Analysis as Analysis
    from .characterise import analyze as analyze
    from .comparison.against import Comparison as Comparison
    from .comparison.against import compare as compare
    from .forecasting.study import Forecasted as Forecasted
    from .forecasting.study import forecast as forecast
else:
    _PLACES = {
        "analyze": "characterise",
        "Analysis": "characterise",
        "compare": "comparison.against",
        "Comparison": "comparison.against",
        "forecast": "forecasting.study",
        "Forecasted": "forecasting.study",
    }

    def __getattr__(name: str) -> Any:
        """What a library's user calls, its module imported when asked for: `lmaas --help` goes without."""
        if name not in _PLACES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
