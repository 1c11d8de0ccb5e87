"""N+1: what the recommended policy attains when it loses a replica, or a region, in the busiest hour."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from lmaas.replay.fleet import Fault

from .choice import choose
from .inputs import Inputs
from .prepare import Prepared
from .registry import Named
from .results import Evaluation
from .runner import Run, run_policy

HOUR_S = 3600.0
FEWEST = 30  # requests of an hour below which its attainment says nothing
SPARE = {
    "policy": pl.String,
    "lost": pl.String,  # replica or region
    "service": pl.String,  # of the replica; null: a region
    "region": pl.String,
    "lane": pl.String,
    "start_s": pl.Float64,  # when: the beginning of the hour that is scored
    "length_s": pl.Float64,
    "arrived": pl.Int64,  # in that hour: at the pool, or anywhere
    "replicas": pl.Float64,  # active then, mean, in the undisturbed replay: of the pool, or of the region
    "attained": pl.Float64,  # share, undisturbed
    "attained_lost": pl.Float64,  # share, with the loss
    "holds": pl.Boolean,  # the target is still attained, or at least what was attained without the loss
}


def with_spare(
    result: Evaluation,
    everyone: Sequence[Named],
    runs: Mapping[str, Run],
    ready: Prepared,
    inputs: Inputs,
    say: Callable[[str, float], None],
) -> Evaluation:
    """The evaluation with SPARE of the policy that is recommended, or comes closest: two or more replays."""
    subject = choose(result.scores, result.settings["attain"]).subject
    run = runs.get(subject["policy"]) if subject else None
    if run is None or run.rows.is_empty():
        return result
    named = next(one for one in everyone if one.name == run.name)
    say("N+1", 0.0)
    try:
        return replace(result, spare=spare(named, run, ready, inputs, result.settings["attain"]))
    finally:
        say("N+1", 1.0)


def spare(named: Named, run: Run, ready: Prepared, inputs: Inputs, attain: float) -> pl.DataFrame:
    """SPARE of one policy: every pool loses a replica in its own busiest hour; each region in turn, in everybody's.

    Busiest: most prompt and output tokens. Pools are disturbed in one replay, each at its own time; where requests
    change regions a loss elsewhere may be felt, too. The replica lost is the one that served most requests at that
    moment. A region is lost for that hour, where there are several.
    """
    hour_s = min(HOUR_S, ready.horizon_s - ready.cut_s)
    busiest = [_busiest(run.rows.filter(pl.col("pool") == str(pool)), ready, hour_s) for pool in ready.fleet.pools]
    faults = [
        Fault(at_s, pool=number, replica=replica)
        for number, at_s in enumerate(busiest)
        if at_s is not None and (replica := _most_used(run.rows, str(ready.fleet.pools[number]), at_s)) is not None
    ]
    found = []
    if faults:
        other = _disturbed(named, ready, inputs, faults)
        for fault in faults:
            assert fault.pool is not None
            pool = ready.fleet.pools[fault.pool]
            mine = pl.col("pool") == str(pool)
            where = {"lost": "replica", "service": pool.service, "region": pool.region, "lane": pool.lane}
            active = _active(run, fault.at_s, service=pool.service, region=pool.region, lane=pool.lane)
            found.append(where | {"replicas": active} | _scored(run.rows, other, mine, fault.at_s, hour_s, attain))
    regions = list(dict.fromkeys(pool.region for pool in ready.fleet.pools))
    at_s = _busiest(run.rows, ready, hour_s) if len(regions) > 1 else None
    for region in regions if at_s is not None else ():
        assert at_s is not None
        other = _disturbed(named, ready, inputs, [Fault(at_s, region=region, until_s=at_s + hour_s)])
        where = {"lost": "region", "region": region}
        active = _active(run, at_s, region=region)
        found.append(where | {"replicas": active} | _scored(run.rows, other, pl.lit(True), at_s, hour_s, attain))
    return pl.DataFrame([{"policy": named.name, **row} for row in found], schema=SPARE)


def _busiest(rows: pl.DataFrame, ready: Prepared, hour_s: float) -> float | None:
    """When the hour with most tokens begins, of hours with FEWEST requests and more; None: there is none."""
    hour = ((pl.col("arrival_s") - ready.cut_s) / hour_s).floor().clip(0)
    tokens = pl.col("input_tokens").cast(pl.Int64) + pl.col("output_tokens").cast(pl.Int64)
    hours = rows.group_by(hour=hour).agg(tokens=tokens.sum(), n=pl.len()).filter(pl.col("n") >= FEWEST)
    if hours.is_empty():
        return None
    first = hours.sort("tokens", "hour", descending=[True, False])["hour"][0]
    return float(ready.cut_s + first * hour_s)


def _most_used(rows: pl.DataFrame, pool: str, at_s: float) -> int | None:
    """Number of the replica with most requests at that moment, else of the one that served most of the pool's."""
    mine = rows.filter((pl.col("pool") == pool) & pl.col("replica").is_not_null())
    now = mine.filter((pl.col("arrival_s") <= at_s) & (pl.col("arrival_s") + pl.col("e2e_s") > at_s))
    counts = (now if now.height else mine)["replica"].value_counts().sort("count", "replica", descending=[True, False])
    return int(counts["replica"][0]) if counts.height else None


def _disturbed(named: Named, ready: Prepared, inputs: Inputs, faults: Sequence[Fault]) -> pl.DataFrame:
    fleet = replace(ready.fleet, faults=(*ready.fleet.faults, *faults))
    return run_policy(named, replace(ready, fleet=fleet), inputs, lambda share: None).rows


def _active(run: Run, at_s: float, **where: str) -> float | None:
    """Mean active replicas of the window in which the hour begins."""
    began = pl.col("start_s") <= at_s + 1e-6
    there = run.timeline.filter(began & (pl.col("start_s") + pl.col("length_s") > at_s + 1e-6))
    for name, value in where.items():
        there = there.filter(pl.col(name) == value)
    return float(there["active"].sum()) if there.height else None


def _scored(
    before: pl.DataFrame, after: pl.DataFrame, mine: pl.Expr, at_s: float, hour_s: float, attain: float
) -> dict[str, object]:
    """The hour from at_s in both replays: the same requests, by what `mine` says of the undisturbed one."""
    rows = before.select("arrival_s", "attained", mine=mine).with_columns(lost=after["attained"])
    hour = rows.filter("mine", pl.col("arrival_s").is_between(at_s, at_s + hour_s, closed="left"))
    plain, lost = float(hour["attained"].mean() or 0.0), float(hour["lost"].mean() or 0.0)  # type: ignore[arg-type]
    return {
        "start_s": at_s, "length_s": hour_s, "arrived": hour.height, "attained": plain, "attained_lost": lost,
        "holds": lost >= min(attain, plain),
    }  # fmt: skip
