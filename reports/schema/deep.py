"""What `--depth full` adds: headrooms, causes, seeds, sensitivity."""

from typing import Literal

from pydantic import Field

from .parts import Open, Seconds, Share


class Matched(Open):
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


class Worth(Open):
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


class Counterfactual(Open):
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


class WorstHour(Open):
    """The cause of a policy's worst hour, by replay."""

    policy: str
    start_s: float
    missed: int
    cause: str
    change: str | None
    mended: float | None


class Seed(Open):
    """One policy's scores under one seed; `slo_attainment @ tier=NAME` and `@ service=NAME` beside these."""

    policy: str
    seed: int
    slo_attainment: Share
    goodput_rps: float | None
    goodput_tok_s: float | None = None
    ttft_p50_s: Seconds
    ttft_p90_s: Seconds = None
    ttft_p95_s: Seconds = None
    ttft_p99_s: Seconds
    tpot_p50_s: Seconds = None
    tpot_p90_s: Seconds = None
    tpot_p95_s: Seconds = None
    tpot_p99_s: Seconds = None
    e2e_p50_s: Seconds = None
    e2e_p90_s: Seconds = None
    e2e_p95_s: Seconds = None
    e2e_p99_s: Seconds
    gpu_hours_provisioned: float | None
    cost_usd: float | None
    why: str | None = Field(description="why there is no replay")


class Sensitivity(Open):
    """One policy at one value of one assumption; definitions: docs/depth.md."""

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


class BreakEven(Open):
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
