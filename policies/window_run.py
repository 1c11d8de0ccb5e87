"""An evaluation at window fidelity: runs in the shape of a replay's, and how far they are from the replay."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.windows import DAY_S
from lmaas.replay.scores import LATENCIES, MISSED, PERCENTILES

from .gates import PLAIN, Gate
from .inputs import Inputs
from .prepare import Prepared
from .reacting import reacts, reads_replicas
from .registry import Named
from .results import Evaluation
from .runner import Run, run_policy
from .window import Windows
from .window_plan import by_setting

CHECKED = 3  # policies replayed beside the windows
CHECK_S = DAY_S  # of the evaluated part, and at most so many requests
CHECK_REQUESTS = 200_000
KNOWN = (
    "gpu_hours_provisioned", "gpu_hours_active", "gpu_hours_tail", "cost_usd", "usd_per_month", "wasted_startup_hours",
    "utilisation", "scale_actions", "arrived", "slo_attainment", "slo_risk", "mean_backlog_s",
)  # fmt: skip


def check_gates(gates: Sequence[Gate]) -> None:
    """UserError (exit 2) for a gate on what window fidelity does not know."""
    for gate in gates:
        if gate.scope:
            told = f"gate '{gate.text}': windows have no requests of a scope; use --fidelity request"
            raise UserError(told, Exit.USAGE)
        if gate.score not in KNOWN and gate.score != "goodput_rps":
            there = ", ".join(name for name in PLAIN if name in KNOWN)
            raise UserError(
                f"gate '{gate.text}': window fidelity has no {gate.score}; it has {there}, or use --fidelity request",
                Exit.USAGE,
            )


def run_windows(
    windows: Windows, named: Named, ready: Prepared, inputs: Inputs, progress: Callable[[float], None]
) -> Run:
    """One policy at window fidelity, as runner.run_policy has it: latencies null, no rows of requests."""
    frames = windows.windows([named.policy])
    progress(0.7)
    (scored,) = windows.scores(frames).to_dicts()
    times = _timeline(frames, windows)
    pools = times.group_by("service", "region", "lane", maintain_order=True).agg(pl.col("provisioned").max())
    busiest = pools.sort("provisioned", descending=True, maintain_order=True)  # of equals the first
    span = times.join(busiest.head(1).select("service", "region", "lane"), on=["service", "region", "lane"])
    none = {f"{name}_p{p}_s": None for name in LATENCIES for p in PERCENTILES} | {f"n_{name}": 0 for name in LATENCIES}
    scores: dict[str, Any] = {
        **{name: scored[name] for name in KNOWN},
        "completed": None,
        **dict.fromkeys((*MISSED, "outside_windows")),
        "goodput_rps": scored["slo_attainment"] * scored["arrived"] / (ready.horizon_s - ready.cut_s),
        "goodput_tok_s": None,
        "gpu_hours_donated": 0.0,  # windows refuse to donate
        "preemptions": None,
        "prefix_hit_share": None,
        "worst_hour_attainment": None,
        "worst_hour_start_s": None,
        **none,
        "not_replayed": ready.not_replayed,
        "forecast_wape": None,
        "length_mae_tokens": None,
        "starts_denied": None,
        "starts_denied_down": None,
        "replicas_min": span["provisioned"].min(),
        "replicas_max": span["provisioned"].max(),
    }
    groups = _groups(frames, windows, list(none))
    none_seen = pl.DataFrame(schema={"metric": pl.String, "le": pl.Float64, "count": pl.Int64})
    return Run(named.name, named.policy.foresight, scores, pl.DataFrame(), groups, times, pl.DataFrame(), none_seen)


def _timeline(frames: list[pl.DataFrame], windows: Windows) -> pl.DataFrame:
    """replay.spending.timeline's columns; attained is an estimate, so not a whole number."""
    parts = []
    for pool, frame in zip(windows.ready.fleet.pools, frames, strict=True):
        rate = windows.ready.rates[pool.service, pool.lane].requests_s
        length = pl.Series(windows.grid.length_s)
        parts.append(
            frame.select(
                start_s=pl.Series(windows.grid.start_s),
                length_s=length,
                service=pl.lit(pool.service),
                region=pl.lit(pool.region),
                lane=pl.lit(pool.lane),
                needed=(pl.col("requests") / length / rate - 1e-9).ceil() + 0.0,  # no -0
                active=pl.col("active").cast(pl.Float64),
                provisioned=pl.col("provisioned").cast(pl.Float64),
                arrived=pl.col("requests").cast(pl.Int64),
                attained=pl.col("attained"),
            )
        )
    return pl.concat(parts)


def _groups(frames: list[pl.DataFrame], windows: Windows, latencies: list[str]) -> pl.DataFrame:
    """replay.scores.group_scores' columns for all requests and by service; tiers are not told apart."""
    sums = pl.concat(
        by_setting(frame, windows.attain).select("requests", "attained", name=pl.lit(pool.service))
        for frame, pool in zip(frames, windows.ready.fleet.pools, strict=True)
    )
    share = {
        "n": pl.col("requests").sum().cast(pl.Int64),
        "slo_attainment": pl.col("attained").sum() / pl.col("requests").sum(),
    }
    every = sums.select(group=pl.lit("all"), name=pl.lit("all"), **share)
    services = sums.group_by("name").agg(**share).sort("name").select(pl.lit("service").alias("group"), pl.all())
    unknown = ("prefix_hit_share", *latencies)
    kinds = {name: pl.Int64 if name.startswith("n_") else pl.Float64 for name in unknown}
    return pl.concat([every, services]).with_columns(pl.lit(None, kind).alias(name) for name, kind in kinds.items())


def agreement(policies: Sequence[Named], windows: Windows, say: Callable[[str, float], None]) -> list[dict[str, Any]]:
    """The policies at both fidelities on the beginning of the evaluated part, one row each.

    policy, until_s (seconds of the evaluated part), requests, gpu_hours_request, gpu_hours_window,
    attainment_request, attainment_window.
    """
    part, inputs = _part(windows)
    short = windows.until(part, inputs)
    rows = []
    for named in policies:
        say(f"{named.name}, replayed to check", 0.0)
        exact = run_policy(named, part, inputs, lambda share: None).scores
        near = run_windows(short, named, part, inputs, lambda share: None).scores
        say(f"{named.name}, replayed to check", 1.0)
        row: dict[str, Any] = {
            "policy": named.name,
            "until_s": part.horizon_s - part.cut_s,
            "requests": exact["arrived"],
        }
        for name, score in (("gpu_hours", "gpu_hours_provisioned"), ("attainment", "slo_attainment")):
            row |= {f"{name}_request": exact[score], f"{name}_window": near[score]}
        rows.append(row)
    return rows


def _part(windows: Windows) -> tuple[Prepared, Inputs]:
    """The evaluated part's beginning, and inputs that read the forecasts of the whole."""
    ready = windows.ready
    after = ready.requests.filter(pl.col("arrival_s") >= ready.cut_s)["arrival_s"]
    # whole windows, so that no window is cut where the trace goes on
    most = float(after[min(CHECK_REQUESTS, after.len()) - 1]) - ready.cut_s
    length = max(math.floor(min(CHECK_S, most) / ready.window_s), 1) * ready.window_s
    end = ready.cut_s + length
    if end >= ready.end_s:
        return ready, windows.inputs
    kept = ready.requests.filter(pl.col("arrival_s") < end)
    part = replace(ready, requests=kept, end_s=float(np.nextafter(end, -np.inf)))
    return part, _Within(part, windows.inputs)


class _Within(Inputs):
    """Inputs of a part: the forecasts made for the whole, which rest on nothing later."""

    def __init__(self, part: Prepared, whole: Inputs) -> None:
        super().__init__(part)
        self.whole = whole

    def demand(self, model: str, lead_s: float, error: float = 0.0) -> pl.DataFrame:
        """Forecasts of the part's windows."""
        return self.whole.demand(model, lead_s, error).filter(pl.col("start_s") < self.ready.horizon_s)


def with_agreement(
    result: Evaluation, windows: Windows, policies: Sequence[Named], say: Callable[[str, float], None]
) -> Evaluation:
    """The result with its disagreement: `settings["agreement"]` (rows of `agreement`) and a note, first of all."""
    rows = agreement(_telling(result.scores, policies, windows.attain), windows, say)
    note = f"window fidelity: estimates without routing or single requests; {said(rows)}"
    left_out = ignored(result) + [
        f"what {n.name} reacts to (single replicas' KV to come)" for n in policies if reads_replicas(n.policy)
    ]
    settings = {**result.settings, "fidelity": "window", "agreement": rows, "ignored": left_out}
    also = [f"window fidelity ignores {', '.join(left_out)}"] if left_out else []
    return replace(result, settings=settings, notes=(note, *also, *result.notes))


def ignored(result: Evaluation) -> list[str]:
    """What of the fleet and the trace windows know nothing of; the replays beside them do, but for prefix caches."""
    fleet = result.settings["fleet"]
    apart = any(s for row in fleet["latency_s"].values() for s in row.values())
    asked = {
        "mixed replicas": any(m["replicas"] for pool in result.settings["pools"] for m in pool["mixed"]),
        "faults": fleet["faults"],
        "the GPUs of regions": fleet["inventory"],
        "clients that give up": fleet["clients"],
        "held tiers": fleet["hold"],
        "the choice of regions and their latencies": apart or fleet["region_choice"]["rule"] != "home",
        "the order of queues": fleet["order"] != "fcfs",
        "closed sessions": fleet["sessions"] == "closed",
        "prefix caches (as the replays beside it and μ do here)": fleet["prefix_cache"]
        and result.trace.block_size
        and "block_hashes" in result.trace.columns,
    }
    return [what for what, is_asked in asked.items() if is_asked]


def _telling(scores: pl.DataFrame, policies: Sequence[Named], attain: float) -> list[Named]:
    """At most CHECKED policies: one asked for, the cheapest that attains, one that reacts, then as asked."""
    ran = [named for named in policies if named.name in set(scores["policy"])]
    fair = scores.filter(~pl.col("foresight"), pl.col("slo_attainment") >= attain).sort("gpu_hours_provisioned")
    reacting = [named.name for named in ran if reacts(named.policy)]
    first = [*[named.name for named in ran[:1]], *fair["policy"].head(1), *reacting[:1]]
    place = {name: k for k, name in reversed(list(enumerate(first)))}
    return sorted(ran, key=lambda named: place.get(named.name, len(first)))[:CHECKED]


def said(rows: Sequence[dict[str, Any]]) -> str:
    """The disagreement in one sentence."""
    parts = [
        f"{row['policy']} {row['gpu_hours_window'] / row['gpu_hours_request'] - 1:+.1%} GPU-hours, "
        f"{100 * (row['attainment_window'] - row['attainment_request']):+.1f} points of attainment"
        for row in rows
    ]
    hours = rows[0]["until_s"] / 3600
    return f"against a replay of the first {hours:.3g} h ({rows[0]['requests']:,} requests): {'; '.join(parts)}"
