"""Colours and marks: Okabe-Ito for policies, grey for baselines, ink for bounds; each with a dash and a marker.

The same policy looks the same in every figure of every report, so a reader learns it once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

# theme tokens -> (light, dark); figures carry the token, the page resolves it
TOKENS: dict[str, tuple[str, str]] = {
    "@ink": ("#16191d", "#eceef0"),
    "@muted": ("#59616b", "#a6adb6"),
    "@grid": ("#e4e6e8", "#2b3037"),
    "@page": ("#ffffff", "#14171a"),
    "@area": ("rgba(89,97,107,.16)", "rgba(166,173,182,.20)"),
    "@grey": ("#6b7280", "#9aa2ad"),
    "@blue": ("#0072b2", "#4aa8dd"),
    "@orange": ("#e69f00", "#e69f00"),
    "@green": ("#009e73", "#16b78a"),
    "@vermillion": ("#d55e00", "#ee7a2b"),
    "@purple": ("#cc79a7", "#d98fb8"),
    "@sky": ("#56b4e9", "#7cc6f0"),
}
SERIES = ("@blue", "@orange", "@green", "@vermillion", "@purple", "@sky")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x", "pentagon")

FIXED = {
    "preserve": "@blue",
    "preserve-artifact": "@sky",
    "hpa": "@orange",
    "aladdin": "@purple",
    "oserve": "@vermillion",
    "sageserve-lt-i": "@green",
    "sageserve-lt-u": "@green",
    "sageserve-lt-ua": "@green",
    "sageserve-reactive": "@green",
    "sageserve-siloed": "@green",
}


@dataclass(frozen=True)
class Style:
    """How one policy or series is drawn."""

    color: str
    dash: str
    symbol: str


def series(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name, by position: for services, regions and other things without a colour of their own."""
    return {
        name: Style(SERIES[i % len(SERIES)], DASHES[i // len(SERIES) % len(DASHES)], SYMBOLS[i % len(SYMBOLS)])
        for i, name in enumerate(names)
    }


def policies(roles: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """(policy, role) in reading order -> style: baselines grey, bounds ink, the rest by name or the next free colour.

    Two of the same colour (`preserve` and `preserve(lookahead=200)`) differ in dash and marker.
    """
    styles: dict[str, Style] = {}
    for name, role in roles:
        color = {"bound": "@ink", "baseline": "@grey"}.get(role) or _own(name, [s.color for s in styles.values()])
        alike = sum(style.color == color for style in styles.values())
        dash = DASHES[(alike + (role == "bound")) % len(DASHES)]
        styles[name] = Style(color, dash, SYMBOLS[len(styles) % len(SYMBOLS)])
    return styles


def policy_styles(scores: pl.DataFrame) -> dict[str, Style]:
    """A style for every row of a `scores` table; who knows the future is drawn as a bound, asked for or not."""
    rows = scores.select("policy", pl.when("foresight").then(pl.lit("bound")).otherwise("role")).rows()
    return policies(rows)


def _own(name: str, taken: list[str]) -> str:
    fixed = FIXED.get(name.partition("(")[0])
    return fixed or min(SERIES, key=taken.count)
