"""What a trace rewards: for each family of policies the number that bounds what it can gain, and a sentence to quote.

Nothing is replayed here: the numbers say how much there is to be had, not how much a policy gets (`lmaas evaluate`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from .load import whole
from .words import duration

if TYPE_CHECKING:
    from .given import Given

Tables = Mapping[str, pl.DataFrame]
Judged = tuple[float | None, str]  # the number, null where the trace does not tell, and the sentence

TIERS_KNOWN = {"batch", "interactive-fast", "interactive-normal"}
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
    value = 1 - 1 / max(s[c] or 0 for c in ("peak_to_mean", "input_peak_to_mean", "output_peak_to_mean"))
    return value, (
        f"A fleet sized for the busiest {duration(s['window_s'])} would be {1 - value:.0%} used on average: scaling "
        f"with the load can save at most {value:.0%} of its GPU-hours."
    )


def _prediction(tables: Tables, given: "Given") -> Judged:
    found = tables.get("predictability", pl.DataFrame())
    known = (
        found.filter(pl.col("to_last_value").is_not_null(), pl.col("horizon_s") >= AHEAD_S) if found.height else found
    )
    if known.is_empty():
        return None, f"The trace is too short to test forecasts {duration(AHEAD_S)} ahead, which scaling needs."
    tokens = known.filter(metric="tokens")
    of = tokens if tokens.height else known
    best = of.filter(pl.col("horizon_s") == pl.col("horizon_s").max()).sort("wape").row(0, named=True)
    value = max(0.0, 1 - best["to_last_value"])
    if value:
        how = f"{best['method']} errs by {best['wape']:.0%}, {value:.0%} less than taking the last value"
    else:
        how = f"nothing beats taking the last value, which errs by {best['wape']:.0%}"
    return value, f"Forecasting the load {duration(best['horizon_s'])} ahead, {how} (n = {best['n']:,} windows)."


def _pooling(tables: Tables, given: "Given") -> Judged:
    found = tables.get("pooling", pl.DataFrame())
    if found.height:
        found = found.filter(pl.col("across") != "all", pl.col("saving").is_not_null())
        found = found.filter(pl.col("pools") > pl.col("shared_pools"))
    if found.is_empty():
        return None, "The trace has one pool only, or is too short: there is nothing to share."
    # of requests, input and output tokens the least: whichever binds a fleet, at least so much is saved
    least = found.group_by("across", maintain_order=True).agg(pl.col("saving").min(), pl.col("window_s").first())
    best = least.sort("saving", descending=True).row(0, named=True)
    return best["saving"], (
        f"Sharing capacity across {best['across']}s would spare {best['saving']:.0%} of what its pools need for their "
        f"peaks apart (windows of {duration(best['window_s'])}; of requests, input and output tokens the least)."
    )


def _heterogeneous(tables: Tables, given: "Given") -> Judged:
    found = tables.get("heterogeneity", pl.DataFrame())
    if found.is_empty():
        return None, "Too few requests state both lengths to tell types apart."
    value = found.filter(index="kv_type_cv")["trace"][0]
    if not value:
        return 0.0, "Lengths form one cloud: there are no types that separate deployments could serve."
    return value, (
        f"Requests of {tables['types'].height} types differ in KV demand by a CV of {value:.2f} between types "
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


FAMILIES = (
    Family("scaling", "share of a peak-sized fleet that is idle on average", 0.15, 0.4, "scales", _scaling),
    Family("prediction", "part of last-value's error that a forecast spares", 0.1, 0.3, "predictability", _prediction),
    Family("pooling", "capacity that sharing spares", 0.1, 0.25, "pooling", _pooling),
    Family("heterogeneous deployment", "CV of KV demand between types", 0.2, 0.5, "heterogeneity", _heterogeneous),
    Family("deferral", "part of the peak that batch work makes", 0.1, 0.25, "load", _deferral),
    Family("cache-aware routing", "share of the prompt tokens that repeat", 0.1, 0.3, "prefix", _caches),
)
