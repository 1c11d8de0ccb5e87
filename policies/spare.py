"""N+1: what the recommended policy attains when it loses a replica, a region, or all spot GPUs, at a bad moment."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from lmaas.replay.fleet import Fault, Pool

from .choice import choose
from .inputs import Inputs
from .prepare import Prepared
from .registry import Named
from .results import Evaluation
from .runner import Run, evaluated_rows, play
from .spot import base_replicas

HOUR_S = 3600.0
FEWEST = 30  # requests of an hour below which its attainment says nothing
SPARE = {
    "policy": pl.String,
    "lost": pl.String,  # replica, spot (all beyond spot.base_replicas, when they are most) or region
    "service": pl.String,  # of the pool; null: a region
    "region": pl.String,
    "lane": pl.String,
    "start_s": pl.Float64,  # when: the beginning of the hour that is scored; of spot the middle of a window
    "length_s": pl.Float64,
    "arrived": pl.Int64,  # in that hour: at the pool, or anywhere
    "taken": pl.Int64,  # replicas lost; null: a region
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
    """The evaluation with SPARE of the policy that is recommended, or comes closest: one replay or more."""
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
    """SPARE of one policy: every pool loses a replica in its busiest hour; its spot GPUs when it has most; each region.

    Busiest: most prompt and output tokens. Pools are disturbed in one replay, each at its own time; where requests
    change regions a loss elsewhere may be felt, too. Lost are the replicas that served most requests at that moment.
    A region is lost for that hour, where there are several.
    """
    hour_s = min(HOUR_S, ready.horizon_s - ready.cut_s)
    pools = ready.fleet.pools
    busiest = [_busiest(run.rows.filter(pl.col("pool") == str(pool)), ready, hour_s) for pool in pools]
    one = [None if at_s is None else (at_s, 1) for at_s in busiest]
    found = []
    for lost, moments in (("replica", one), ("spot", [_most_spot(run, pool, hour_s) for pool in pools])):
        known = {number: moment for number, moment in enumerate(moments) if moment is not None}
        faults = [
            Fault(at_s, pool=number, replica=replica)
            for number, (at_s, most) in known.items()
            for replica in _most_used(run.rows, str(pools[number]), at_s)[:most]
        ]
        other = _disturbed(named, ready, inputs, faults) if faults else pl.DataFrame()
        for number, taken in Counter(fault.pool for fault in faults if fault.pool is not None).items():
            pool, at_s = pools[number], known[number][0]
            where = {"service": pool.service, "region": pool.region, "lane": pool.lane}
            said = {"lost": lost, **where, "taken": taken, "replicas": _active(run, at_s, **where)}
            found.append(said | _scored(run.rows, other, pl.col("pool") == str(pool), at_s, hour_s, attain))
    found += _regions(named, run, ready, inputs, hour_s, attain)
    return pl.DataFrame([{"policy": named.name, **row} for row in found], schema=SPARE)


def _regions(
    named: Named, run: Run, ready: Prepared, inputs: Inputs, hour_s: float, attain: float
) -> list[dict[str, object]]:
    """Rows of SPARE without the policy: each region lost in everybody's busiest hour."""
    regions = list(dict.fromkeys(pool.region for pool in ready.fleet.pools))
    at_s = _busiest(run.rows, ready, hour_s) if len(regions) > 1 else None
    found = []
    for region in regions if at_s is not None else ():
        assert at_s is not None
        other = _disturbed(named, ready, inputs, [Fault(at_s, region=region, until_s=at_s + hour_s)])
        where = {"lost": "region", "region": region}
        active = _active(run, at_s, region=region)
        found.append(where | {"replicas": active} | _scored(run.rows, other, pl.lit(True), at_s, hour_s, attain))
    return found


def _most_spot(run: Run, pool: Pool, hour_s: float) -> tuple[float, int] | None:
    """(middle of the window in which most are active beyond the base, how many), of hours with FEWEST requests."""
    own = run.timeline.filter(service=pool.service, region=pool.region, lane=pool.lane)
    beyond = own.with_columns(at_s=pl.col("start_s") + pl.col("length_s") / 2, n=pl.col("active") - base_replicas())
    for at_s, n in beyond.sort("n", "at_s", descending=[True, False]).select("at_s", "n").iter_rows():
        hour = pl.col("arrival_s").is_between(at_s, at_s + hour_s, closed="left") & (pl.col("pool") == str(pool))
        if run.rows.filter(hour).height >= FEWEST:
            return (float(at_s), round(n)) if round(n) else None
    return None


def _busiest(rows: pl.DataFrame, ready: Prepared, hour_s: float) -> float | None:
    """When the hour with most tokens begins, of hours with FEWEST requests and more; None: there is none."""
    hour = ((pl.col("arrival_s") - ready.cut_s) / hour_s).floor().clip(0)
    tokens = pl.col("input_tokens").cast(pl.Int64) + pl.col("output_tokens").cast(pl.Int64)
    hours = rows.group_by(hour=hour).agg(tokens=tokens.sum(), n=pl.len()).filter(pl.col("n") >= FEWEST)
    if hours.is_empty():
        return None
    first = hours.sort("tokens", "hour", descending=[True, False])["hour"][0]
    return float(ready.cut_s + first * hour_s)


def _most_used(rows: pl.DataFrame, pool: str, at_s: float) -> list[int]:
    """Replicas by requests at that moment, most first; where none runs, by how many of the pool's they served."""
    mine = rows.filter((pl.col("pool") == pool) & pl.col("replica").is_not_null())
    now = mine.filter((pl.col("arrival_s") <= at_s) & (pl.col("arrival_s") + pl.col("e2e_s") > at_s))
    counts = (now if now.height else mine)["replica"].value_counts().sort("count", "replica", descending=[True, False])
    return counts["replica"].to_list()


def _disturbed(named: Named, ready: Prepared, inputs: Inputs, faults: Sequence[Fault]) -> pl.DataFrame:
    fleet = replace(ready.fleet, faults=(*ready.fleet.faults, *faults))
    played = play(named, replace(ready, fleet=fleet), inputs, lambda share: None)
    return evaluated_rows(played.ready, played.outcome)


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
