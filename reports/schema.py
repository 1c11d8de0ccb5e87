"""The published form of metrics.json. Within a major version fields are only added, never renamed or dropped.

python -m lmaas.reports.schema evaluate > metrics.schema.json
"""

import json
import sys
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Version = Literal["1.0"]
Share = float | None  # 0 to 1; null where nothing was counted
Seconds = float | None


class _Open(BaseModel):
    """A reader of 1.0 must accept what 1.1 adds."""

    model_config = ConfigDict(extra="allow")


class Scores(_Open):
    """One policy. Definitions: the report's section of that name."""

    policy: str
    role: Literal["policy", "baseline", "bound"]
    foresight: bool = Field(description="knows what no policy can know; a reference, never a candidate")
    gpu_hours_provisioned: float
    gpu_hours_active: float
    gpu_hours_tail: float
    gpu_hours_donated: float | None = Field(None, description="lent as spot, in no other hours")
    cost_usd: float | None
    usd_per_month: float | None
    slo_attainment: Share
    slo_attainment_low: Share = Field(None, description="its 90 % interval, by blocks of time")
    slo_attainment_high: Share = None
    goodput_rps: float
    goodput_tok_s: float
    arrived: int
    completed: int
    rejected: int
    abandoned: int
    incomplete: int | None = Field(None, description="arrived, and without all its tokens when the replay ended")
    not_sent: int | None = Field(None, description="turns of closed sessions that never came: those before did not end")
    outside_windows: int | None = Field(None, description="turns sent before or after the evaluated part's windows")
    not_replayed: int
    ttft_p50_s: Seconds
    ttft_p90_s: Seconds
    ttft_p95_s: Seconds
    ttft_p99_s: Seconds
    n_ttft: int
    tpot_p50_s: Seconds = Field(description="tpot = (e2e - ttft)/(output_tokens - 1), per request")
    tpot_p90_s: Seconds
    tpot_p95_s: Seconds
    tpot_p99_s: Seconds
    n_tpot: int
    e2e_p50_s: Seconds
    e2e_p90_s: Seconds
    e2e_p95_s: Seconds
    e2e_p99_s: Seconds
    n_e2e: int
    scale_actions: int
    wasted_startup_hours: float
    utilisation: Share
    worst_hour_attainment: Share
    worst_hour_start_s: Seconds
    preemptions: int
    prefix_hit_share: Share = Field(None, description="prompt tokens found in prefix caches; null without caches")
    forecast_wape: float | None
    length_mae_tokens: float | None
    regret: float | None = Field(description="GPU-hours provisioned over the oracle's, minus 1")
    starts_denied: int | None = Field(None, description="starts of replicas that found no machine, each time asked for")
    starts_denied_down: int | None = Field(
        None, description="of these, those whose region was down; others lacked GPUs"
    )
    replicas_min: float
    replicas_max: float
    headroom_matched: float | None = Field(None, description="with depth full; foresight: as in matched")
    gpu_hours_matched: float | None = Field(None, description="with depth full; foresight: as in matched")


class Group(_Open):
    """One policy in one tier or service."""

    policy: str
    group: Literal["all", "tier", "service"]
    name: str | None
    n: int
    slo_attainment: Share
    prefix_hit_share: Share = Field(None, description="as in results, of these requests")


class Gate(_Open):
    """One condition on one policy."""

    gate: str
    kind: Literal["gate", "slo"] = Field(description="a gate decides the exit code, an SLO's percentile test does not")
    policy: str
    value: float | None
    threshold: float
    passed: bool


class Matched(_Open):
    """The least headroom at which one policy attains the target. Foresight: searched on the evaluated part."""

    policy: str
    knob: str = Field(description="the parameter that was searched")
    foresight: Literal[True]
    attains: bool
    headroom_matched: float | None = Field(description="its least value whose replay attains")
    headroom_below: float | None = Field(description="the next lower one replayed, which does not")
    gpu_hours_matched: float | None = Field(description="at the target, interpolated between these two replays")
    gpu_hours_matched_low: float | None
    gpu_hours_matched_high: float | None
    slo_attainment: Share = Field(description="of the replay that attains; where none does the highest")
    steady: bool = Field(description="false: attainment does not rise steadily with the knob")
    replays: int
    why: str | None = Field(description="why none attains")


class Worth(_Open):
    """What one predictor costs at matched attainment. Foresight: searched on the evaluated part."""

    part: Literal["demand", "lengths"]
    predictor: str
    foresight: bool = Field(description="it is told the truth")
    injected: float | None = Field(description="mean absolute percentage error put into the truth")
    error: float | None = Field(description="demand: WAPE of total tokens; lengths: mean absolute error, tokens")
    attains: bool
    headroom_matched: float | None
    gpu_hours_matched: float | None
    gpu_hours_matched_low: float | None
    gpu_hours_matched_high: float | None
    change: float | None = Field(description="GPU-hours against last-value, of lengths against the median")
    gap_closed: float | None = Field(description="share of the way from there to the truth")


class Equal(_Open):
    """A static fleet at the GPU-hours of one policy. Foresight: they are known only afterwards."""

    policy: str = Field(description="whose GPU-hours these are")
    bound: Literal["at most", "at least"] = Field(description="the largest fleet within them, or the next larger one")
    foresight: Literal[True]
    replicas: str = Field(description="by pool")
    gpu_hours_off: float | None = Field(description="share by which it spends more than the policy")
    gpu_hours_provisioned: float
    cost_usd: float | None
    slo_attainment: Share
    goodput_rps: float
    ttft_p50_s: Seconds
    ttft_p99_s: Seconds
    e2e_p99_s: Seconds


class Difference(_Open):
    """One score of one policy against another's, with the 90 % interval of a paired block bootstrap."""

    policy: str
    relation: Literal["baseline", "recommended", "same GPU-hours"]
    against: str
    metric: str = Field(description="a score, or overall: as a fleet is chosen (docs/metrics.md)")
    value: float | None
    reference: float | None
    difference: float | None = Field(description="value - reference")
    low: float | None
    high: float | None = Field(description="null where the evaluated part is too short for intervals")
    verdict: Literal["better", "no difference", "worse"] | None = Field(description="of the policy")


class WorstWindow(_Open):
    """One of the ten windows in which a policy missed most, in one pool; definitions: docs/metrics.md."""

    policy: str
    start_s: float
    length_s: float
    service: str
    region: str
    lane: str
    arrived: int
    missed: int
    slo_attainment: Share
    queue: float = Field(description="requests waiting, mean")
    needed: float
    active: float
    starting: float
    forecast_off: float | None
    rise: float | None
    kv_use: Share
    preempted: Share
    lopsided: Share
    cause: str
    how: str = Field(description="by rule: from what was recorded; by replay: by what mends its misses (depth full)")
    mended: float | None = Field(None, description="with depth full: share of the misses that the change mends")
    change: str | None = Field(None, description="with depth full: the change that does")
    rule: str | None = Field(None, description="with depth full: the cause by rule")


class Counterfactual(_Open):
    """What one change would have mended of one of a policy's worst windows, or of its worst hour, by a replay."""

    policy: str
    start_s: float
    length_s: float
    service: str | None = Field(description="null: the worst hour, of all pools")
    region: str | None
    lane: str | None
    change: str
    missed: int
    left: float | None = Field(description="of the same requests, with the change; null: no replay")
    mended: float | None = Field(description="1 - left / missed; below 0 where more were missed")
    why: str | None = Field(description="why there is no replay")


class WorstHour(_Open):
    """The cause of a policy's worst hour, by replay."""

    policy: str
    start_s: float
    missed: int
    cause: str
    change: str | None
    mended: float | None


class Seed(_Open):
    """One policy's scores under one seed."""

    policy: str
    seed: int
    slo_attainment: Share
    goodput_rps: float | None
    ttft_p50_s: Seconds
    ttft_p99_s: Seconds
    e2e_p99_s: Seconds
    gpu_hours_provisioned: float | None
    cost_usd: float | None
    why: str | None = Field(description="why there is no replay")


class Sensitivity(_Open):
    """One policy at one value of one assumption; definitions: docs/metrics.md."""

    factor: str
    gpu: str | None = Field(description="whose price; null: of no one GPU type")
    value: float
    unit: Literal["x", "s", "share"]
    as_evaluated: bool
    policy: str
    slo_attainment: Share
    gpu_hours_provisioned: float | None
    cost_usd: float | None
    ttft_p99_s: Seconds
    recommended: bool
    why: str | None = Field(description="why there is no replay")


class BreakEven(_Open):
    """Between which tested values of an assumption the recommendation stops holding."""

    factor: str
    gpu: str | None
    unit: Literal["x", "s", "share"]
    policy: str = Field(description="the recommended one; where none attains the target, the closest to it")
    event: Literal["holds", "misses the target", "attains the target", "another costs less"]
    low: float | None = Field(description="null: already at the least tested value")
    high: float
    at: float | None = Field(description="interpolated, linear")
    other: str | None = Field(description="what is recommended then")


class Backtest(_Open):
    """The recorded fleet's replay beside observed latencies; errors are replayed / observed - 1."""

    policy: str
    service: str | None = Field(description="null: all of them")
    metric: Literal["ttft", "tpot", "e2e"]
    n: int
    not_completed: int = Field(description="of the observed requests, in the replay")
    observed_p50_s: Seconds
    replayed_p50_s: Seconds
    p50_error: float | None
    observed_p95_s: Seconds
    replayed_p95_s: Seconds
    p95_error: float | None
    median_error: float | None = Field(description="of the errors by request, without sign")
    observed_within: Share = Field(description="of the SLO's limit on this metric; null: it has none")
    replayed_within: Share


class Spare(_Open):
    """The busiest hour with a replica of a pool lost, its spot GPUs, or a region (N+1)."""

    policy: str
    lost: Literal["replica", "spot", "region"] = Field(description="spot: all replicas beyond the pool's steady base")
    service: str | None = Field(description="of the pool; null: a region is lost")
    region: str
    lane: str | None
    start_s: float
    length_s: float
    arrived: int = Field(description="requests of that hour, at the pool or anywhere")
    taken: int | None = Field(None, description="replicas lost")
    replicas: float | None = Field(description="active as it begins, mean, without the loss")
    attained: Share
    attained_lost: Share
    holds: bool


class Commitment(_Open):
    """A policy's month with the number of reserved GPUs that is cheapest at one price of a reservation."""

    policy: str
    ratio: Share = Field(description="price of a reserved GPU-hour over the on-demand price")
    reserved_gpus: int
    reserved_share: Share = Field(description="of the policy's GPU-hours that run on them")
    usd_per_month: float
    saving: float = Field(description="of the on-demand cost")


class Spot(_Open):
    """A policy's month with what it has beyond its steady base on spot, at one price and never interrupted."""

    policy: str
    ratio: Share = Field(description="price of a spot GPU-hour over the on-demand price")
    base_gpus: int = Field(description="provisioned in every window, on demand")
    spot_gpus: float = Field(description="the most beyond them at once")
    spot_share: Share = Field(description="of the policy's GPU-hours that are beyond them")
    base_usd_per_month: float = Field(description="of the base, on demand")
    usd_per_month: float
    saving: float = Field(description="of the on-demand cost")


class Selection(_Open):
    """Which of a trace's rows were looked at: rows = rows_kept + outside + unmet."""

    since_s: Seconds = Field(None, description="arrival_s from here on")
    until_s: Seconds = Field(None, description="arrival_s before this")
    where: str | None = Field(None, description="a DuckDB expression, true of the rows")
    rows: int
    outside: int = Field(description="not in the period")
    unmet: int = Field(description="in the period, and the expression is not true")
    said: str
    period: str


class Rows(_Open):
    """The trace and what became of its rows: read = kept + set aside + what `selection` leaves out."""

    trace_id: str
    rows_read: int
    rows_kept: int
    rows_set_aside: dict[str, int]
    selection: Selection | None = None


class Missed(_Open):
    """Requests of one policy, pool and tier beyond one limit; one may be beyond several."""

    policy: str
    service: str
    region: str
    lane: str
    tier: str
    limit: Literal["ttft", "tpot", "e2e", "not completed"]
    missed: int
    requests: int = Field(description="of that pool and tier that missed any limit")


class EvaluationMetrics(_Open):
    """metrics.json of `lmaas evaluate`: the same bytes for the same trace, settings and seed."""

    schema_version: Version
    trace: Rows
    settings: dict[str, Any]
    notes: list[str]
    failures: dict[str, str] = Field(description="policy -> why it has no scores")
    results: list[Scores]
    groups: list[Group]
    gates: list[Gate]
    matched: list[Matched] = []
    worth: list[Worth] = []
    equal: list[Equal] = []
    differences: list[Difference] = []
    worst: list[WorstWindow] = []
    misses: list[Missed] = []
    causes: list[Counterfactual] = []
    worst_hours: list[WorstHour] = []
    seeds: list[Seed] = []
    sensitivity: list[Sensitivity] = []
    break_even: list[BreakEven] = []
    backtest: list[Backtest] = []
    spare: list[Spare] = []
    commitment: list[Commitment] = []
    spot: list[Spot] = []


class Compared(_Open):
    """What the trace was compared with; the tables compare, compare_mix, compare_values and compare_cdf say how far."""

    before: str = Field(description="what it is compared with, in words")
    after: str
    block_s: float = Field(description="length of the blocks of time by which chance is judged")
    blocks: list[int] = Field(description="how many of them before and after")
    trace: Rows
    findings: list[str]


class Quality(_Open):
    """The verdict on a trace."""

    verdict: Literal["GOOD", "FAIR", "POOR"]
    findings: list[str]


class AnalysisMetrics(_Open):
    """metrics.json of `lmaas analyze`; columns of the tables are documented in `lmaas.analysis.workload.columns`."""

    schema_version: Version
    trace: Rows
    quality: Quality
    window_s: float
    findings: list[str]
    comparison: Compared | None = None
    tables: dict[str, list[dict[str, Any]]]


class LengthMetrics(_Open):
    """metrics.json of `lmaas train` and `lmaas predict`; columns: `lmaas.analysis.lengths`' scores and result."""

    schema_version: Version
    trace: Rows
    settings: dict[str, Any]
    trained: dict[str, Any] = Field(description="what the predictor was trained on")
    notes: list[str]
    scores: list[dict[str, Any]]
    calibration: list[dict[str, Any]]
    buckets: list[dict[str, Any]]
    importance: list[dict[str, Any]]
    rest: list[dict[str, Any]]


class ForecastScores(_Open):
    """One model at one horizon; definitions: docs/forecasts.md."""

    model: str
    horizon_s: float = Field(description="from issue to the end of the window that is forecast")
    metric: str
    service: str | None = None
    origin: str | None = None
    tier: str | None = Field(None, description="null: all tiers")
    type: str | None = Field(None, description="of request; null: all types")
    windows: int
    wape: float | None
    mape: float | None
    rrmse: float | None
    bias: float | None
    pinball: float | None
    coverage_80: Share
    coverage_95: Share
    to_last_value: float | None = Field(description="wape over that of last-value; below 1 is better")


class ForecastMetrics(_Open):
    """metrics.json of `lmaas forecast`: the same bytes for the same trace and settings."""

    schema_version: Version
    trace: Rows
    settings: dict[str, Any]
    remarks: list[str]
    scores: list[ForecastScores] = Field(description="over all services and origins")
    series: list[ForecastScores]
    weights: list[dict[str, Any]] = Field(description="how models that weigh others did at the last issue")
    notes: list[dict[str, Any]] = Field(description="series of which little could be known, and what was done instead")


KINDS: dict[str, type[BaseModel]] = {
    "evaluate": EvaluationMetrics,
    "analyze": AnalysisMetrics,
    "forecast": ForecastMetrics,
    "train": LengthMetrics,
    "predict": LengthMetrics,
}


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of the metrics of a verb, `evaluate` or `analyze`."""
    return KINDS[kind].model_json_schema()


if __name__ == "__main__":
    print(json.dumps(schema(sys.argv[1] if len(sys.argv) > 1 else "evaluate"), indent=2))
