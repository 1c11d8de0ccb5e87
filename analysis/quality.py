"""How far a trace can be trusted: a verdict, and every oddity in one sentence.

The verdict is about conclusions drawn from the trace: FAIR where some statistics need care, POOR where a capacity
decision should not rest on it. The limits are conventions, stated where they are used.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from .formats.asides import NO_REQUESTS
from .ingest_write import accepted
from .trace import Trace, TraceMeta
from .workload.words import duration

Verdict = Literal["GOOD", "FAIR", "POOR"]
RANK: dict[Verdict, int] = {"GOOD": 0, "FAIR": 1, "POOR": 2}


@dataclass(frozen=True)
class Quality:
    """The verdict is that of the worst finding; findings are worst first."""

    verdict: Verdict
    findings: tuple[str, ...]
    details: tuple["Finding", ...] = ()  # the same, each with its own verdict and what to do


@dataclass(frozen=True)
class Finding:
    """One oddity and the verdict it alone would lead to."""

    verdict: Verdict
    text: str
    hint: str = ""  # what to do about it


def assess(trace: Trace) -> Quality:
    """Judge a stored trace by its metadata and one pass over its rows."""
    scan = _scan(trace)
    return judged([finding for rule in RULES if (finding := rule(trace.meta, scan)) is not None])


def judged(found: Iterable[Finding]) -> Quality:
    """The quality that these findings make."""
    worst_first = sorted(found, key=lambda finding: -RANK[finding.verdict])
    verdict = worst_first[0].verdict if worst_first else "GOOD"
    return Quality(verdict, tuple(finding.text for finding in worst_first), tuple(worst_first))


def _scan(trace: Trace) -> dict[str, Any]:
    """Numbers over the rows: failures, unknown and zero tokens, the longest silence, pile-ups at the largest value."""
    known = pl.col("status") == "ok"
    facts = {
        "failed": (~known).sum(),
        "zero_output": (pl.col("output_tokens") == 0).sum(),
        "zero_input": (pl.col("input_tokens") == 0).sum(),
        "silence": pl.col("arrival_s").diff().max(),
        **{f"{name}_known": pl.col(name).count() for name in LENGTHS},
        **{f"{name}_top": pl.col(name).max() for name in LENGTHS},
        **{f"{name}_low": pl.col(name).min() for name in LENGTHS},
    }
    row = trace.scan().select(**facts).collect(engine="streaming").row(0, named=True)
    tops = {
        f"{name}_at_top": ((pl.col(name) == row[f"{name}_top"]).sum() if row[f"{name}_top"] is not None else pl.lit(0))
        for name in LENGTHS
    }
    # what lies just below the largest value: an unclipped tail thins out, a clipped one stops
    near = {
        f"{name}_near_top": ((pl.col(name) < row[f"{name}_top"]) & (pl.col(name) >= 0.98 * row[f"{name}_top"])).sum()
        if row[f"{name}_top"] is not None
        else pl.lit(0)
        for name in LENGTHS
    }
    return row | trace.scan().select(**tops, **near).collect(engine="streaming").row(0, named=True)


LENGTHS = ("input_tokens", "output_tokens")
FAILED = "nothing, if that is what happened; they count as load, not in statistics of lengths"
FINER = "export times to the millisecond, if the source has them"
LONGER = "merge the files of more days: lmaas ingest 'logs/*.csv'"
Rule = Callable[[TraceMeta, dict[str, Any]], Finding | None]


def set_aside(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Rows that could not be read, of those that are requests: FAIR from 0.1 %, POOR from 5 %."""
    bad = {reason: n for reason, n in meta.rows_set_aside.items() if reason not in NO_REQUESTS}
    rows, others = sum(bad.values()), sum(meta.rows_set_aside.values()) - sum(bad.values())
    if rows == 0:
        return None
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in list(bad.items())[:3])
    share = rows / (meta.rows_read - others)
    return Finding(
        _grade(share, 0.001, 0.05),
        f"{rows:,} of {meta.rows_read - others:,} rows ({share:.2%}) set aside: {reasons}",
        accepted(bad) or "look at their text (rejects.parquet of the stored trace), correct the source, ingest again",
    )


def no_requests(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """What a log holds beside requests: nothing is wrong with it."""
    found = {reason: n for reason, n in meta.rows_set_aside.items() if reason in NO_REQUESTS}
    if not found:
        return None
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in list(found.items())[:3])
    text = f"{sum(found.values()):,} of {meta.rows_read:,} rows are no requests of this trace: {reasons}"
    return Finding("GOOD", text, "nothing, if that is what the log holds")


def few_rows(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Below 1,000 requests a p99 rests on fewer than ten of them; below 100 hardly a statistic holds."""
    if meta.rows_kept >= 1000:
        return None
    verdict: Verdict = "POOR" if meta.rows_kept < 100 else "FAIR"
    noun = "request" if meta.rows_kept == 1 else "requests"
    text = f"only {meta.rows_kept:,} {noun}: the p99 of any measure rests on fewer than ten of them"
    return Finding(verdict, text, "take a longer part of the log, or all of it")


def short_span(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """A daily rhythm shows in two days, a weekly one in two weeks: less says nothing of them."""
    if meta.span_s >= 14 * 86_400:
        return None
    days = meta.span_s / 86_400
    if days >= 2:
        return Finding("GOOD", f"spans {days:.1f} days: a weekly rhythm cannot be told from chance", LONGER)
    return Finding(
        "FAIR", f"spans {duration(meta.span_s)}: a daily rhythm cannot be seen, nor learned by a forecast", LONGER
    )


def time_zone(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Hours of day mean nothing without an epoch, and may be shifted without a zone."""
    if meta.epoch_kind == "relative":
        return Finding(
            "GOOD", "times are relative: no date, and no known hour of day", "give dates, if the source has them"
        )
    if meta.epoch_kind == "assumed":
        return Finding(
            "GOOD", "times carry no zone: hours of day are as written, read as UTC", "write the zone into the times"
        )
    return None


def coarse_times(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """From steps of 1 s on, bursts within a step are invisible: peaks per second and gaps are artefacts."""
    if meta.quantum_s < 1:
        return None
    return Finding(
        "FAIR", f"times come in steps of {meta.quantum_s:g} s: bursts shorter than that cannot be seen", FINER
    )


def silence(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """A silence of 5 % of the trace, and fifty mean gaps: an outage, a hole in the collection, or a stray time."""
    longest = scan["silence"] or 0.0
    mean_gap = meta.span_s / max(meta.rows_kept - 1, 1)
    if meta.rows_kept < 3 or meta.span_s == 0 or longest < 0.05 * meta.span_s or longest < 50 * mean_gap:
        return None
    share = longest / meta.span_s
    text = f"no request for {longest:,.0f} s, {share:.0%} of the trace: an outage, or a hole in the collection"
    hint = "check the collection at that time; a stray first or last row is best removed"
    return Finding("POOR" if share > 0.5 else "FAIR", text, hint)


def failures(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Requests that did not succeed have no or unusual token counts: FAIR from 10 %."""
    if not scan["failed"]:
        return None
    share = scan["failed"] / meta.rows_kept
    return Finding(_grade(share, 0.10, 0.50), f"{scan['failed']:,} requests ({share:.1%}) did not succeed", FAILED)


def no_output(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Requests without output or input cannot be replayed: FAIR from 1 %."""
    rows = scan["zero_output"] + scan["zero_input"]
    if not rows:
        return None
    share = rows / meta.rows_kept
    found = {"output": scan["zero_output"], "input": scan["zero_input"]}
    text = " and ".join(f"{n:,} request{'s' * (n > 1)} with 0 {which} tokens" for which, n in found.items() if n)
    hint = "if 0 is how the source marks failures, say so in a column status: failed, tokens empty"
    return Finding(_grade(share, 0.01, 0.25), f"{text}: kept, not replayed", hint)


def unknown_tokens(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Requests whose tokens nobody counted: as failures, which they usually are."""
    rows = meta.rows_kept - min(scan[f"{name}_known"] for name in LENGTHS)
    if not rows:
        return None
    share = rows / meta.rows_kept
    return Finding(
        _grade(share, 0.10, 0.50),
        f"{rows:,} requests ({share:.1%}) have unknown token counts: kept, not replayed",
        FAILED,
    )


def clipped(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """Ten rows or more at exactly the largest length, as many as in the 2 % below it: a limit, not a tail."""
    caps = [
        f"{name} at {scan[f'{name}_top']:,} ({scan[f'{name}_at_top']:,} requests)"
        for name in LENGTHS
        if scan[f"{name}_at_top"] >= max(10, scan[f"{name}_near_top"]) and scan[f"{name}_top"] != scan[f"{name}_low"]
    ]
    hint = "the true lengths were longer: see whether the exporter or a token limit cut them"
    return Finding("GOOD", f"lengths look clipped: {', '.join(caps)}", hint) if caps else None


def constant(meta: TraceMeta, scan: dict[str, Any]) -> Finding | None:
    """One length for all requests: a placeholder, or a load test; no traffic."""
    same = [
        f"{name} is always {scan[f'{name}_top']:,}"
        for name in LENGTHS
        if scan[f"{name}_known"] >= 10 and scan[f"{name}_top"] == scan[f"{name}_low"]
    ]
    return (
        Finding("POOR", f"{' and '.join(same)}: not real traffic", "map the column that holds the lengths")
        if same
        else None
    )


RULES: tuple[Rule, ...] = (
    set_aside,
    no_requests,
    constant,
    few_rows,
    short_span,
    silence,
    coarse_times,
    failures,
    no_output,
    unknown_tokens,
    clipped,
    time_zone,
)


def _grade(share: float, fair: float, poor: float) -> Verdict:
    return "POOR" if share >= poor else "FAIR" if share >= fair else "GOOD"
