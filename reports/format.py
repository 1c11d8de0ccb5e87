"""How a number, a time or a name from a trace is written for people: 4 significant digits, units, no controls."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .section import Kind

DIGITS = 4
MISSING = "–"
NBSP = "\N{NO-BREAK SPACE}"  # a number and its unit stay on one line


def significant(value: float, digits: int = DIGITS) -> float:
    """`value` rounded to so many significant digits."""
    return float(f"{value:.{digits - 1}e}")


def number(value: float, digits: int = DIGITS) -> str:
    """1234567 -> '1,235,000'; 0.0123456 -> '0.01235'; 41.30 -> '41.3'."""
    rounded = significant(value, digits) + 0.0  # -0 is 0
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded)))) if rounded else 0
    if places > 8:
        return f"{rounded:.{digits}g}"
    text = f"{rounded:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float) -> str:
    """Milliseconds below 10 s, then seconds: the field's way to print a latency; hours and days from 2 h on."""
    if abs(seconds) < 10:
        return f"{number(seconds * 1e3, 3)}{NBSP}ms"
    if abs(seconds) >= 7200:
        return span(seconds)
    return f"{number(seconds)}{NBSP}s"


def span(seconds: float) -> str:
    """A length of time in the largest unit that keeps it above 2: '600 s', '59 min', '3.5 days'."""
    for unit, length in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if abs(seconds) >= 2 * length:
            return f"{number(seconds / length, 3)}{NBSP}{unit}"
    return f"{number(seconds, 3)}{NBSP}s"


def share(value: float) -> str:
    """For a sentence: 0.99 -> '99 %', 0.99213 -> '99.21 %'."""
    return aligned_share(value).replace(f".00{NBSP}", NBSP)


def percent(value: float) -> str:
    """For a sentence, three digits: 0.4579 -> '45.8 %'."""
    return f"{number(100 * value, 3)}{NBSP}%"


def aligned_share(value: float) -> str:
    """For a column: always two decimals; never '100.00 %' for less than all, nor '0.00 %' for more than none."""
    written = f"{100 * value:.2f}"
    if written == "100.00" and value < 1:
        return f"> 99.99{NBSP}%"
    if written == "0.00" and value > 0:
        return f"< 0.01{NBSP}%"
    return f"{written}{NBSP}%"


def usd(value: float) -> str:
    """'$43.87' below a hundred, then whole dollars."""
    return f"${value:,.2f}" if abs(value) < 100 else f"${value:,.0f}"


def many(n: int, what: str) -> str:
    """'1 request', '2,000 requests'."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def change(value: float) -> str:
    """A signed relative change, one decimal: -0.184 -> '−18.4 %'."""
    written = f"{abs(100 * value):,.1f}"
    sign = "" if written == "0.0" else "−" if value < 0 else "+"
    return f"{sign}{written}{NBSP}%"


def text(value: object) -> str:
    """`value` with control and direction-changing characters made visible: names come from users' traces."""
    return "".join(
        c if unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs"} else "\N{REPLACEMENT CHARACTER}"
        for c in str(value)
    )


def short(value: object, width: int = 48) -> str:
    """`text` of a name, its middle left out where it is absurdly long: the tables of the report have it whole."""
    name = text(value)
    if len(name) <= width:
        return name
    return f"{name[: width // 2]}…{name[len(name) - (width - 1) // 2 :]}"


def listed(names: Sequence[object], most: int = 6) -> str:
    """'a, b and c'; 'a, b and 7 more' of many."""
    said = [short(name) for name in names]
    if len(said) > most:
        said = [*said[: most - 1], f"{len(said) - most + 1:,} more"]
    return " and ".join((", ".join(said[:-1]), said[-1])) if len(said) > 1 else "".join(said)


def cell(value: Any, kind: Kind) -> str:
    """A table cell; unknown is a dash, never 0."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if kind in ("verdict", "mark"):
        word = "" if kind == "mark" else " pass" if value else " fail"
        return f"{'✓' if value else '✗'}{word}"
    if kind == "text" or isinstance(value, str):
        return text({True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value)
    if kind == "count":
        return f"{round(value):,}"
    writers = {"share": aligned_share, "duration_s": duration, "span_s": span, "usd": usd, "change": change}
    written = writers.get(kind, number)(float(value))
    return "−" + written[1:] if written.startswith("-") else written  # as signed changes beside it have it
