"""What a trace rewards: for each family of policies the number that bounds what it can gain, and a sentence to quote.

Nothing is replayed here: the numbers say how much there is to be had, not how much a policy gets (`lmaas evaluate`).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from scipy.stats import gamma

from . import pooling, predictability, types
from .scales import whole
from .words import duration

if TYPE_CHECKING:
    from lmaas.analysis.trace import TraceMeta

    from .given import Given

Tables = Mapping[str, pl.DataFrame]
Judged = tuple[float | None, str]  # the number, null where the trace does not tell, and the sentence

TIERS_KNOWN = {"batch", "interactive-fast", "interactive-normal"}
PEAKS = {
    "peak_to_mean": "requests",
    "input_peak_to_mean": "input tokens",
    "output_peak_to_mean": "output tokens",
}
BETWEEN = {"kv_type_cv": "KV memory over time", "prefill_type_cv": "prefill work"}
CALM = 0.2  # CV of the tokens of a window by chance
PLANNING_S = 600.0  # capacity is planned by windows of at most this

AHEAD_S = 300.0  # replicas take minutes to start: what is foreseen for less cannot be acted upon

COLUMNS: dict[str, dict[str, str]] = {
    "rewards": {
        "family": "what a policy does: scaling, prediction, pooling, heterogeneous deployment, deferral, cache-aware "
        "routing",
        "value": "the number it rests on, of `unit`; null where the trace does not tell",
        "unit": "what the number is",
        "some": "from this value on it is worth trying",
        "much": "from this value on the trace is made for it",
        "verdict": "much, some, little, or unknown",
        "says": "a sentence to quote",
        "rests_on": "the table of the number",
    },
}


@dataclass(frozen=True)
class Family:
    """Policies of one kind: what number bounds their gain, from which values on, and of which table it is."""

    name: str
    unit: str
    some: float
    much: float
    rests_on: str
    judge: Callable[[Tables, "Given"], Judged]

    def verdict(self, value: float | None) -> str:
        """much, some, little or unknown."""
        if value is None:
            return "unknown"
        return "much" if value >= self.much else "some" if value >= self.some else "little"


def rewards(tables: Tables, given: "Given") -> pl.DataFrame:
    """One row a family, those the trace is made for first; columns as in COLUMNS."""
    rows = []
    for family in FAMILIES:
        value, says = family.judge(tables, given)
        row = {"family": family.name, "value": value, "verdict": family.verdict(value), "says": says}
        rows.append(row | {"unit": family.unit, "some": family.some, "much": family.much, "rests_on": family.rests_on})
    numbers = dict.fromkeys(("value", "some", "much"), pl.Float64)
    found = pl.DataFrame(rows, schema_overrides=numbers).select(COLUMNS["rewards"].keys())
    return found.sort(pl.col("verdict").cast(pl.Enum(("much", "some", "little", "unknown"))), maintain_order=True)


def _scaling(tables: Tables, given: "Given") -> Judged:
    scales = tables["scales"].filter(pl.col("window_s") <= PLANNING_S)
    if scales.is_empty():
        return None, "The trace is too short to tell peaks from the mean."
    s = scales.row(-1, named=True)
    chance = {c: _chance(given, what, s) for c, what in PEAKS.items()}
    spare = {PEAKS[c]: r / s[c] for c, r in chance.items() if r is not None and s[c]}
    what = min(spare, key=spare.__getitem__)
    used = {what: 1 / s[c] for c, what in PEAKS.items() if s[c]}[what]
    value = max(0.0, 1 - spare[what])
    return value, (
        f"A fleet sized for the {duration(s['window_s'])} with most {what} would be {used:.0%} used on average, and "
        f"{min(1.0, used / spare[what]):.0%} if the load were constant but for chance: scaling with the load can save "
        f"at most {value:.0%} of its GPU-hours."
    )


def _chance(given: "Given", what: str, scale: dict[str, Any]) -> float | None:
    """Peak to mean of a constant load whose requests come by chance: the median of the largest of gamma sums.

    None for tokens of so few requests a window that single ones make its peak.
    """
    n, each = scale["windows"], scale["mean_rps"] * scale["window_s"]
    spread = 1.0
    if what != "requests":
        of = given.states["lengths"].filter(metric=what.replace(" ", "_"))
        total, squares = float(of["total"].sum()), float((of["total"].cast(pl.Float64) ** 2 / of["n"]).sum())
        spread = squares * float(of["n"].sum()) / total**2 if total else 1.0  # 1 + CV^2 of the lengths
        if spread / each > CALM**2:
            return None
    shape = each / spread
    highest = float(gamma.isf(-math.expm1(math.log(0.5) / n), shape))
    return float(max(1.0, highest / shape))


def _prediction(tables: Tables, given: "Given") -> Judged:
    found = tables.get("predictability", pl.DataFrame())
    r = (predictability.gain(found, "tokens") or predictability.gain(found, "requests")) if found.height else None
    if r is None or r["horizon_s"] < AHEAD_S:
        return None, f"The trace is too short to test forecasts {duration(AHEAD_S)} ahead, which scaling needs."
    value = max(0.0, r["gain"])
    naive = {"last-value": "the last value", "recent-mean": "the mean of the last 12 windows"}[r["naive"]]
    less = f"{value:.0%} less than" if value else "no less than"
    return value, (
        f"A forecast of the load {duration(r['horizon_s'])} ahead errs by {r['wape']:.0%}, {less} taking {naive} "
        f"({r['naive_wape']:.0%}; n = {r['n']:,} windows)."
    )


def _pooling(tables: Tables, given: "Given") -> Judged:
    found = tables.get("pooling", pl.DataFrame())
    best = pooling.best(found) if found.height else None
    if best is None:
        return None, "The trace has one pool only, or is too short: there is nothing to share."
    return best["beyond_chance"], (
        f"Sharing capacity across {pooling.WORDS[best['across']]} would spare {best['saving']:.0%} of what its pools "
        f"need for their peaks apart (windows of {duration(best['window_s'])}; of requests, input and output tokens "
        f"the least); pools that rise and fall together would spare {best['saving_by_chance']:.0%}."
    )


def _heterogeneous(tables: Tables, given: "Given") -> Judged:
    found = tables.get("heterogeneity", pl.DataFrame())
    if found.is_empty() or given.states["joint"]["n"].sum() < types.MIN_ROWS:
        return None, "Too few requests state both lengths to tell types apart."
    # what machines differ in is both: long prompts ask for compute, long answers for memory
    between = {what: found.filter(index=index)["trace"][0] or 0.0 for index, what in BETWEEN.items()}
    what = max(between, key=between.__getitem__)
    value = between[what]
    if not value:
        return 0.0, "Lengths form one cloud: there are no types that separate deployments could serve."
    return value, (
        f"Requests of {tables['types'].height} types differ in {what} by a CV of {value:.2f} between types "
        "(OServe's gain over one deployment for all grew from 1.14 to 2.66 times as its CV grew from 0.11 to 0.69)."
    )


def _deferral(tables: Tables, given: "Given") -> Judged:
    a, b = whole(given.window_s, *given.at)
    cube = given.states["cube"].filter(pl.col("window").is_between(a, b, closed="left"))
    tokens = pl.col("input_tokens") + pl.col("output_tokens")
    waits = pl.col("tier") == "batch"
    windows = cube.group_by("window").agg(all=tokens.sum(), urgent=tokens.filter(~waits).sum())
    total = int(windows["all"].sum())
    if not total or TIERS_KNOWN.isdisjoint(cube["tier"]):
        return None, "The trace names no tier: which requests could wait is not known."
    peak, urgent = (float(windows[c].max()) for c in ("all", "urgent"))  # type: ignore[arg-type]
    # what is left of the peak once batch work is moved: the busiest window of the others, and no less than the mean
    value = 1 - max(urgent, total / (b - a)) / peak
    return value, (
        f"Batch requests are {1 - int(windows['urgent'].sum()) / total:.0%} of the tokens; moved out of the peaks they "
        f"would lower the busiest {duration(given.window_s)} by {value:.0%} at most."
    )


def _caches(tables: Tables, given: "Given") -> Judged:
    found = tables.get("prefix", pl.DataFrame())
    value = found.filter(by="all")["reuse"][0] if found.height else None
    if value is None:
        return None, "The trace has no block hashes: how much of the prompts repeats is not known."
    return value, (
        f"{value:.0%} of the prompt tokens repeat a prefix seen before: so much prefill can be saved at most, by "
        "requests that go where their prefix is."
    )


def gains(found: pl.DataFrame) -> str:
    """The families with most to gain, and those with little."""
    parts = []
    for verdict, word in (("much", "much to gain from"), ("some", "some from"), ("little", "little from")):
        families = found.filter(verdict=verdict)["family"].to_list()
        if families:
            parts.append(f"{word} {_and(families)}")
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + "."


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def findings(tables: Tables, meta: "TraceMeta") -> Iterator[str]:
    """What policies can gain here, where the trace tells of any."""
    known = tables["rewards"].filter(pl.col("verdict") != "unknown") if "rewards" in tables else pl.DataFrame()
    if len(known):
        yield f"What policies can gain here at most: {_lower(gains(known))}"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


FAMILIES = (
    Family("scaling", "share of a peak-sized fleet that the load leaves idle", 0.15, 0.4, "scales", _scaling),
    Family(
        "prediction",
        "part of a naive error that a forecast spares",
        0.1,
        0.3,
        "predictability",
        _prediction,
    ),
    Family("pooling", "capacity that sharing spares beyond chance", 0.1, 0.25, "pooling", _pooling),
    Family(
        "heterogeneous deployment",
        "CV of KV memory or prefill work between types",
        0.2,
        0.5,
        "heterogeneity",
        _heterogeneous,
    ),
    Family("deferral", "part of the peak that batch work makes", 0.1, 0.25, "load", _deferral),
    Family("cache-aware routing", "share of the prompt tokens that repeat", 0.1, 0.3, "prefix", _caches),
)
