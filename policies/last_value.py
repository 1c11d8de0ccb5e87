"""The floor of every forecast: the next window will be like the last one known."""

from dataclasses import dataclass

from .planning import Planned


@dataclass(frozen=True, kw_only=True)
class LastValue(Planned):
    """Tier-1 sizing on the last completely observed window's demand (asked for in ai-dynamo/dynamo#14238)."""

    forecaster: str = "last-value"
