"""Every policy with every score: what a reviewer compares line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.policies.choice import Choice, choose

from ..format import number, share, text
from ..section import Column, Section, Table, table
from . import equal_hours

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

LATENCY = (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E"))
QUANTILES = ("p50", "p90", "p95", "p99")

# the order of this table is fixed and tested: swapped columns are the worst mistake a comparison can make
COLUMNS = (
    Column("policy", "Policy", brief=True),
    Column("kind", "Kind"),
    Column("gpu_hours_provisioned", "GPU-h", "number", brief=True),
    Column("vs_baseline", "vs baseline", "change", brief=True),
    Column("cost_usd", "Cost", "usd"),
    Column("usd_per_month", "$/month", "usd", brief=True),
    Column("slo_attainment", "Attained", "share", brief=True),
    Column("attains", "Met", "mark", brief=True),
    Column("worst_hour_attainment", "Worst hour", "share"),
    Column("ttft_p95_s", "TTFT p95", "duration_s"),
    Column("ttft_p99_s", "TTFT p99", "duration_s", brief=True),
    Column("tpot_p95_s", "TPOT p95", "duration_s"),
    Column("e2e_p95_s", "E2E p95", "duration_s"),
    Column("regret", "Regret", "change", brief=True),
    Column("replicas", "Replicas", brief=True),
)
REQUESTS = (
    Column("policy", "Policy"),
    Column("goodput_rps", "Goodput, req/s", "number"),
    Column("goodput_tok_s", "Goodput, tok/s", "number"),
    Column("arrived", "Arrived", "count"),
    Column("completed", "Completed", "count"),
    Column("rejected", "Rejected", "count"),
    Column("abandoned", "Abandoned", "count"),
    Column("incomplete", "Incomplete", "count"),
    Column("not_sent", "Not sent", "count"),
    Column("not_replayed", "Not replayed", "count"),
    Column("preemptions", "Preemptions", "count"),
    Column("prefix_hit_share", "Prompt cached", "share"),
)
FLEET = (
    Column("policy", "Policy"),
    Column("gpu_hours_active", "Active GPU-h", "number"),
    Column("gpu_hours_tail", "Tail GPU-h", "number"),
    Column("gpu_hours_donated", "Donated GPU-h", "number"),
    Column("wasted_startup_hours", "Start-up GPU-h", "number"),
    Column("utilisation", "Utilisation", "share"),
    Column("scale_actions", "Scale actions", "count"),
    Column("starts_denied", "Starts denied", "count"),
    Column("forecast_wape", "Forecast WAPE", "share"),
    Column("length_mae_tokens", "Length MAE, tokens", "number"),
)
PERCENTILES = (
    Column("policy", "Policy"),
    Column("latency", "Latency"),
    *(Column(q, q, "duration_s") for q in QUANTILES),
    Column("n", "Requests", "count"),
)


def section(result: Evaluation) -> Section:
    """One row a policy; bounds that know the future are marked."""
    attain = result.settings["attain"]
    choice = choose(result.scores, attain)
    rows = with_marks(result.scores, choice, attain)
    main = table("Cost, attainment and latency", paired(rows, result.equal, choice, attain), COLUMNS, "scores.parquet")
    return Section(
        "policies",
        "Policies",
        finding(result.scores, attain),
        tables=(
            main,
            table("What became of the requests", rows, REQUESTS, "scores.parquet"),
            table("What the fleet did", rows, FLEET, "scores.parquet"),
            _latencies(result.scores),
        ),
        notes=_notes(result, choice),
        brief=True,
    )


def finding(scores: pl.DataFrame, attain: float) -> str:
    """How many attain, and over what range the cost goes."""
    fair = scores.filter(~pl.col("foresight"))
    met = fair.filter(pl.col("slo_attainment") >= attain).height
    among = fair.filter(pl.col("slo_attainment") >= attain) if met else fair
    low, high = among["gpu_hours_provisioned"].min(), among["gpu_hours_provisioned"].max()
    if fair.height == 1:
        name = text(fair["policy"][0])
        return f"{name}, the only policy replayed without foresight, {'attains' if met else 'misses'} {share(attain)}."
    if low is None or high is None:
        return "No policy was scored."
    ends = dict.fromkeys((number(float(low)), number(float(high))))  # type: ignore[arg-type]
    much = " to ".join(ends) + (" GPU-hours" if ends.keys() - {number(float(low))} else " GPU-hours each")  # type: ignore[arg-type]
    return (
        f"{met} of {fair.height} policies without foresight attain {share(attain)}; "
        f"{'they take' if met else 'all take'} {much}."
    )


def with_marks(scores: pl.DataFrame, choice: Choice, attain: float) -> pl.DataFrame:
    """`scores` with the columns derived for reading: kind, vs_baseline, attains, replicas."""
    base = choice.baseline and choice.baseline["gpu_hours_provisioned"]
    foresight = pl.when("foresight").then(pl.lit(", foresight")).otherwise(pl.lit(""))
    return scores.with_columns(
        kind=pl.col("role") + foresight,
        vs_baseline=pl.col("gpu_hours_provisioned") / base - 1 if base else pl.lit(None, pl.Float64),
        attains=pl.col("slo_attainment") >= attain,
        replicas=pl.struct("replicas_min", "replicas_max").map_elements(_range, return_dtype=pl.String),
    )


def paired(rows: pl.DataFrame, equal: pl.DataFrame, choice: Choice, attain: float) -> pl.DataFrame:
    """`rows` (with_marks) with the static fleets at a policy's GPU-hours right below it."""
    if equal.is_empty():
        return rows
    named = pl.format("↳ static {} its GPU-h", pl.col("bound").replace({"at most": "≤", "at least": "≥"}))
    below = with_marks(equal.with_columns(role=pl.lit("bound")), choice, attain)
    place = {name: k for k, name in enumerate(rows["policy"])}
    order = pl.col("policy").replace_strict(place, default=None, return_dtype=pl.Int64)
    both = [rows.with_columns(order=order), below.with_columns(order=order, policy=named)]
    return pl.concat(both, how="diagonal_relaxed").sort("order", maintain_order=True)


def _range(of: dict[str, float | None]) -> str | None:
    """'4–13'; one number where the two are the same on screen."""
    low, high = of["replicas_min"], of["replicas_max"]
    if low is None or high is None:
        return None
    return "–".join(dict.fromkeys((number(low, 3), number(high, 3))))


def _latencies(scores: pl.DataFrame) -> Table:
    """Every percentile with the number of requests it is taken over, a row a policy and latency."""
    parts = [
        scores.select("policy", pl.lit(label).alias("latency"), *(pl.col(f"{name}_{q}_s").alias(q) for q in QUANTILES),
                      n=f"n_{name}")
        for name, label in LATENCY
    ]  # fmt: skip
    return table("Latency percentiles, exact over all requests that have one", pl.concat(parts), PERCENTILES,
                 "scores.parquet")  # fmt: skip


def _notes(result: Evaluation, choice: Choice) -> tuple[str, ...]:
    notes = [
        f"Attained: share of arrived requests that meet their SLOs; met: at least {share(result.settings['attain'])}."
    ]
    if choice.baseline:
        notes.append(f"vs baseline: provisioned GPU-hours against {text(choice.baseline['policy'])}.")
    if result.scores["foresight"].any():
        marked = ", ".join(map(text, result.scores.filter("foresight")["policy"]))
        notes.append(
            f"Foresight: {marked} knows what no policy can know; a reference, never a candidate. Sized by mean rates "
            "too, it can miss bursts."
        )
    if result.equal.height:
        notes.append(equal_hours.NOTE)
    if result.scores["regret"].is_not_null().any():
        notes.append("Regret: provisioned GPU-hours over the oracle's, minus 1; negative where fewer SLOs are met.")
    notes.append("Replicas: provisioned in the busiest pool, lowest and highest mean of a window.")
    notes.append("Cost is of the whole replay with its tail; $/month is of the evaluated part, scaled to 730 h.")
    notes += [f"{text(policy)} failed: {text(reason)}" for policy, reason in result.failures.items()]
    return tuple(notes)
