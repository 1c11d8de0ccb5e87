"""What an evaluation found: typed tables and the published metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lmaas.analysis.trace import TraceMeta

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class Evaluation:
    """Scores of every policy on one trace, and what they rest on.

    scores: one row a policy; groups: policy, group (all, tier, service), name, n, ...; timeline: policy, start_s, ...
    (replay.spending.timeline); forecasts: policy, start_s, service, origin, metric, actual, forecast; histogram:
    policy, metric, le, count; gates: gate, policy, value, threshold, passed; requests: policy -> one row a request.
    failures: policy -> reason, where a policy ended early. equal: static fleets at policies' GPU-hours (equal.EQUAL);
    differences: with their intervals (differences.DIFFERENCES); worst: windows with most misses (worst.WORST);
    misses: which limits were missed (misses.MISSES); backtest: the recorded fleet's replay beside observed latencies
    (backtest.BACKTEST); spare: what a loss costs (spare.SPARE); commitment: with reserved GPUs (commitment.COMMITMENT);
    spot: with spot ones (spot.SPOT); blocks: policy and blocks.STORED, for
    intervals between runs. exit_code: 0, 3 (a gate failed), 6 (nothing attains) or 7 (a policy failed). With depth
    full, else empty: matched (matched.MATCHED), worth (worth.WORTH), causes (full.causes.DONE), worst_hours
    (full.causes.hours), seeds (full.seeds.SCORES), sensitivity (full.sensitivity.SENSITIVITY) and break_even
    (full.breakeven.BREAK_EVEN).
    """

    trace: TraceMeta
    settings: dict[str, Any]
    notes: tuple[str, ...]
    failures: dict[str, str]
    scores: pl.DataFrame
    groups: pl.DataFrame
    timeline: pl.DataFrame
    forecasts: pl.DataFrame
    histogram: pl.DataFrame
    gates: pl.DataFrame
    requests: dict[str, pl.DataFrame]
    exit_code: int
    matched: pl.DataFrame = field(default_factory=pl.DataFrame)
    worth: pl.DataFrame = field(default_factory=pl.DataFrame)
    equal: pl.DataFrame = field(default_factory=pl.DataFrame)
    differences: pl.DataFrame = field(default_factory=pl.DataFrame)
    worst: pl.DataFrame = field(default_factory=pl.DataFrame)
    misses: pl.DataFrame = field(default_factory=pl.DataFrame)
    backtest: pl.DataFrame = field(default_factory=pl.DataFrame)
    spare: pl.DataFrame = field(default_factory=pl.DataFrame)
    commitment: pl.DataFrame = field(default_factory=pl.DataFrame)
    spot: pl.DataFrame = field(default_factory=pl.DataFrame)
    blocks: pl.DataFrame = field(default_factory=pl.DataFrame)
    causes: pl.DataFrame = field(default_factory=pl.DataFrame)
    worst_hours: pl.DataFrame = field(default_factory=pl.DataFrame)
    seeds: pl.DataFrame = field(default_factory=pl.DataFrame)
    sensitivity: pl.DataFrame = field(default_factory=pl.DataFrame)
    break_even: pl.DataFrame = field(default_factory=pl.DataFrame)

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json: reproducible, without paths, dates of the run or timings."""
        return {
            "schema_version": SCHEMA_VERSION,
            "trace": {
                "trace_id": self.trace.trace_id,
                "rows_read": self.trace.rows_read,
                "rows_kept": self.trace.rows_kept,
                "rows_set_aside": self.trace.rows_set_aside,
            },
            "settings": self.settings,
            "notes": list(self.notes),
            "failures": self.failures,
            "results": self.scores.to_dicts(),
            "groups": self.groups.to_dicts(),
            "gates": self.gates.to_dicts(),
            "matched": self.matched.to_dicts(),
            "worth": self.worth.to_dicts(),
            "equal": self.equal.to_dicts(),
            "differences": self.differences.to_dicts(),
            "worst": self.worst.to_dicts(),
            "misses": self.misses.to_dicts(),
            "backtest": self.backtest.to_dicts(),
            "spare": self.spare.to_dicts(),
            "commitment": self.commitment.to_dicts(),
            "spot": self.spot.to_dicts(),
            "causes": self.causes.to_dicts(),
            "worst_hours": self.worst_hours.to_dicts(),
            "seeds": self.seeds.to_dicts(),
            "sensitivity": self.sensitivity.to_dicts(),
            "break_even": self.break_even.to_dicts(),
        }


def why_denied(scores: Mapping[str, Any]) -> str:
    """Why starts of a policy were denied, as part of a sentence: too few GPUs, regions that were down, or both."""
    down = scores.get("starts_denied_down") or 0
    short = scores["starts_denied"] - down
    if not down:
        return "for want of GPUs"
    region = "because their region was down"
    return f"{short:,} for want of GPUs and {down:,} {region}" if short else region
