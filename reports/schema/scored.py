"""How every policy did: scores, gates, misses, and what they are compared with."""

from typing import Literal

from pydantic import Field

from .parts import Open, Seconds, Share


class Scores(Open):
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


class Group(Open):
    """One policy in one tier or service."""

    policy: str
    group: Literal["all", "tier", "service"]
    name: str | None
    n: int
    slo_attainment: Share
    prefix_hit_share: Share = Field(None, description="as in results, of these requests")


class Gate(Open):
    """One condition on one policy."""

    gate: str
    kind: Literal["gate", "slo"] = Field(description="a gate decides the exit code, an SLO's percentile test does not")
    policy: str
    value: float | None
    threshold: float
    passed: bool


class Equal(Open):
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


class Difference(Open):
    """One score of one policy against another's, with the 90 % interval of a paired block bootstrap."""

    policy: str
    relation: Literal["baseline", "recommended", "same GPU-hours"]
    against: str
    metric: str = Field(
        description="a score, slo_attainment @ tier=NAME or @ service=NAME, or overall: as a fleet is chosen"
    )
    value: float | None
    reference: float | None
    difference: float | None = Field(description="value - reference")
    low: float | None
    high: float | None = Field(description="null where there is no interval")
    verdict: Literal["better", "no difference", "worse"] | None = Field(description="of the policy")
    why: str | None = Field(None, description="why there is no interval")


class WorstWindow(Open):
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


class Missed(Open):
    """Requests of one policy, pool and tier beyond one limit; one may be beyond several."""

    policy: str
    service: str
    region: str
    lane: str
    tier: str
    limit: Literal["ttft", "tpot", "e2e", "not completed"]
    missed: int
    requests: int = Field(description="of that pool and tier that missed any limit")


class Backtest(Open):
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
