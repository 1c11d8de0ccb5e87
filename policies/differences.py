"""Every difference that is shown: policy against baseline, against the recommended one, against a static fleet."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from lmaas.replay.scores import LATENCIES, PERCENTILES

from .choice import choose
from .equal import Beside
from .paired import DRAWS, FEWEST_BLOCKS, LEVEL, Draws, interval, why_none
from .runner import Run
from .spread import NO_SPREAD, Spread

BETTER = {  # 1: more is better
    "slo_attainment": 1, "goodput_rps": 1, "goodput_tok_s": 1,
    **{f"{name}_p{p}_s": -1 for name in LATENCIES for p in PERCENTILES},
    "gpu_hours_provisioned": -1, "cost_usd": -1,
}  # fmt: skip
VERDICTS = ("better", "no difference", "worse")
OVERALL = "overall"
DIFFERENCES: dict[str, Any] = {
    "policy": pl.String,
    "relation": pl.String,  # to the baseline, the recommended policy, or a static fleet at its GPU-hours
    "against": pl.String,
    "metric": pl.String,  # a key of BETTER, `slo_attainment @ tier=NAME` or `@ service=NAME`, or OVERALL
    "value": pl.Float64,
    "reference": pl.Float64,
    "difference": pl.Float64,  # value - reference, exact
    "low": pl.Float64,  # its 90 % interval; null: `why`
    "high": pl.Float64,
    "verdict": pl.String,  # of the policy: one of VERDICTS; null where there is no interval
    "why": pl.String,  # why there is no interval; null: there is one
}


def drawn(runs: Sequence[Run], seed: int) -> dict[str, Draws]:
    """Of every run that has blocks."""
    return {run.name: Draws.of(run.blocks, seed) for run in runs if run.blocks is not None}


def own_intervals(scores: pl.DataFrame, draws: Mapping[str, Draws], spread: Spread = NO_SPREAD) -> pl.DataFrame:
    """`scores` with slo_attainment_low and slo_attainment_high; spread: between seeds."""
    found: list[tuple[float, float] | None] = []
    for name, value in scores.select("policy", "slo_attainment").iter_rows():
        within = interval("slo_attainment", value, draws[name]) if name in draws and value is not None else None
        found.append(spread.widened(within, value, "slo_attainment", name))
    return scores.with_columns(
        slo_attainment_low=pl.Series([None if x is None else max(0.0, x[0]) for x in found], dtype=pl.Float64),
        slo_attainment_high=pl.Series([None if x is None else min(1.0, x[1]) for x in found], dtype=pl.Float64),
    )


def differences(
    scores: pl.DataFrame,
    attain: float,
    draws: Mapping[str, Draws],
    beside: Sequence[Beside],
    seed: int,
    spread: Spread = NO_SPREAD,
) -> pl.DataFrame:
    """Columns DIFFERENCES: every policy against baseline and recommended one, and against its static fleets."""
    rows = {row["policy"]: row for row in scores.iter_rows(named=True)}
    choice = choose(scores, attain)
    found: list[dict[str, Any]] = []

    def against(relation: str, other: Mapping[str, Any] | None) -> None:
        for name, row in rows.items():
            if other is not None and name != other["policy"]:
                names = {"policy": name, "relation": relation, "against": other["policy"]}
                mine, theirs = draws.get(name), draws.get(other["policy"])
                found.extend(pair(names, row, other, mine, theirs, attain, spread))

    against("baseline", choice.baseline)
    fleets = drawn([one.run for one in beside], seed)
    for one in beside:
        names = {"policy": one.policy, "relation": "same GPU-hours", "against": f"static, {one.bound} its GPU-hours"}
        mine, theirs = draws.get(one.policy), fleets.get(one.run.name)
        fleet = {**one.run.scores, "policy": one.run.name}
        found.extend(pair(names, rows[one.policy], fleet, mine, theirs, attain, spread))
    against("recommended", choice.best)
    return without_single(pl.DataFrame(found, schema=DIFFERENCES, orient="row"))


def settings(draws: Mapping[str, Draws], block_s: float) -> dict[str, Any]:
    """How intervals were made, or why there are none."""
    count = min((one.blocks for one in draws.values()), default=0)
    said = {"level": LEVEL, "draws": DRAWS, "blocks": count, "block_s": block_s}
    return said if count >= FEWEST_BLOCKS else said | {"why": f"too short for intervals: under {FEWEST_BLOCKS} windows"}


def pair(
    names: dict[str, str],
    row: Mapping[str, Any],
    other: Mapping[str, Any],
    mine: Draws | None,
    theirs: Draws | None,
    attain: float,
    spread: Spread = NO_SPREAD,
) -> list[dict[str, Any]]:
    """Rows DIFFERENCES of one policy's scores against another's, OVERALL the last; names: the first three columns."""
    found = []
    both = _groups(mine, theirs)
    for metric, sign in {**BETTER, **dict.fromkeys(both, 1)}.items():
        value, reference = both.get(metric) or (row.get(metric), other.get(metric))
        if value is None or reference is None:
            continue
        apart = float(value - reference)
        within = interval(metric, value, mine, reference, theirs) if mine and theirs else None
        low, high = spread.widened(within, apart, metric, names["policy"], str(other.get("policy"))) or (None, None)
        said = {"value": value, "reference": reference, "difference": apart, "low": low, "high": high}
        why = None if within else why_none(metric, mine, theirs)
        found.append(names | {"metric": metric, **said, "verdict": within and verdict(low, high, sign), "why": why})
    return [
        *found,
        names | dict.fromkeys(DIFFERENCES.keys() - names.keys()) | _overall(names["relation"], found, attain),
    ]


def _groups(mine: Draws | None, theirs: Draws | None) -> dict[str, tuple[float, float]]:
    """Attainment of the tiers and services that both know, exact: sums over blocks; those without requests left out."""
    if mine is None or theirs is None:
        return {}
    both = {name: (value, theirs.point.get(name, math.nan)) for name, value in mine.point.items() if " @ " in name}
    return {name: values for name, values in both.items() if all(map(math.isfinite, values))}


def without_single(rows: pl.DataFrame) -> pl.DataFrame:
    """DIFFERENCES without the attainment of the only tier, or the only service, there is: it is that of all."""
    kind = pl.col("metric").str.extract(r" @ (tier|service)=")
    names = pl.col("metric").n_unique().over("policy", "relation", "against", kind)
    return rows.filter(kind.is_null() | (names > 1))


def verdict(low: float | None, high: float | None, sign: int) -> str:
    """Of an interval; sign 1: more is better. No difference where it holds 0."""
    assert low is not None and high is not None
    if low <= 1e-12 and high >= -1e-12:
        return "no difference"
    return "better" if (low > 0) == (sign > 0) else "worse"


def _overall(relation: str, found: Sequence[Mapping[str, Any]], attain: float) -> dict[str, Any]:
    """As a fleet is chosen: by attainment, and where both attain the target, or attain alike, by cost.

    At the same GPU-hours by attainment, and where that is alike by the latest first tokens.
    """
    by = {one["metric"]: one for one in found}
    first = by.get("slo_attainment")
    second = by.get("ttft_p99_s" if relation == "same GPU-hours" else "cost_usd") or by["gpu_hours_provisioned"]
    if first is None:
        return {"metric": OVERALL, "verdict": None}
    enough = relation != "same GPU-hours" and min(first["value"], first["reference"]) >= attain
    decides = second if enough or first["verdict"] == "no difference" else first
    return {"metric": OVERALL, "verdict": decides["verdict"]}
