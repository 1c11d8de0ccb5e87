"""Quantities with units, as users write them: `500ms`, `10m`, `2x`; a bare number is refused."""

import math
import re

from .errors import Exit, UserError

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_QUANTITY = re.compile(r"^\s*(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?P<unit>[a-zA-Z]*)\s*$")


def parse_duration(text: str, what: str) -> float:
    """Seconds of a duration such as 500ms, 30s, 10m, 24h or 3d; UserError (exit 2) opening with `what`."""
    match = _QUANTITY.match(text)
    units = ", ".join(_SECONDS)
    if match is None or (match["unit"] and match["unit"] not in _SECONDS):
        raise UserError(f"{what}: '{text}' is not a duration; write a number and a unit ({units})", Exit.USAGE)
    if not match["unit"]:
        raise UserError(f"{what}: '{text}' has no unit; write {text}s or another of {units}", Exit.USAGE)
    seconds = float(match["number"]) * _SECONDS[match["unit"]]
    if not math.isfinite(seconds):
        raise UserError(f"{what}: '{text}' is out of range", Exit.USAGE)
    return seconds
