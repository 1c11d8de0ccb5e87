"""What to decide: every scaling and routing policy, and the evaluator that runs and scores them.

Touches requests only through `lmaas.replay`; draws nothing and prints nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compare_runs import RunsCompared as RunsCompared
    from .compare_runs import compare as compare
    from .evaluation import evaluate as evaluate
    from .results import Evaluation as Evaluation
else:
    _PLACES = {
        "compare": "compare_runs",
        "RunsCompared": "compare_runs",
        "evaluate": "evaluation",
        "Evaluation": "results",
    }

    def __getattr__(name: str) -> Any:
        """What a library's user calls, its module imported when asked for: `lmaas --help` goes without."""
        if name not in _PLACES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
