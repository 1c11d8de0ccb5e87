"""Sessions: turns, pauses between them, and how the context grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from .. import figures
from ..format import cell, number, percent, share
from ..palette import series
from ..section import Column, Figure, Section, Table, table
from .tables import GROUPS, rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

METRICS = {
    "turns": ("Requests a session", "number"),
    "session_s": ("First to last arrival of a session", "span_s"),
    "context_tokens": ("Longest prompt of a session, tokens", "number"),
    "think_s": ("Pause after the end of the turn before", "span_s"),
    "gap_s": ("Time since the arrival of the turn before", "span_s"),
    "growth_tokens": ("Prompt tokens more than the turn before", "number"),
    "carried_share": ("Previous prompt and answer / prompt, at most", "share"),
}
STATS = ("mean", "p50", "p90", "p95", "p99", "max")
OVERVIEW = (
    Column("name", "Of"),
    Column("by", "Grouped by"),
    Column("sessions", "Sessions", "count"),
    Column("requests", "Requests", "count"),
    Column("single_turn_share", "With one request", "share"),
    Column("single_turn_se", "Standard error", "share"),
    Column("spawned", "Begun by another session", "count"),
    Column("overlap_share", "Turns that overlap", "share"),
    Column("cut_share", "Turns with a shorter prompt", "share"),
    Column("concurrent_mean", "Open at once, mean", "number"),
    Column("concurrent_peak", "Peak", "count"),
)
STEPS = (
    Column("step", "Turn"),
    Column("reached_share", "Sessions that reach it", "share"),
    Column("n", "n", "count"),
    Column("input_p50", "ISL p50", "number"),
    Column("input_p90", "ISL p90", "number"),
    Column("output_p50", "OSL p50", "number"),
)


def section(result: Analysis) -> Section | None:
    """Absent where the trace has no sessions."""
    found, stats = rows(result, "sessions"), rows(result, "session_stats")
    if found.is_empty():
        return None
    figure = _figure(rows(result, "session_turns"))
    return Section(
        "sessions",
        "Sessions",
        finding(found, stats),
        tables=(
            table("Sessions", found.with_columns(by=found["by"].replace(GROUPS)), OVERVIEW),
            _stats(stats.filter(pl.col("by") == "all")),
        ),
        figures=(figure,) if figure else (),
        notes=notes(found, stats),
    )


def finding(found: pl.DataFrame, stats: pl.DataFrame) -> str:
    """How many turns, and how much of a later prompt was there before."""
    whole = found.row(0, named=True)
    turns = stats.filter(pl.col("by") == "all", pl.col("metric") == "turns").row(0, named=True)
    carried = stats.filter(pl.col("by") == "all", pl.col("metric") == "carried_share")
    said = f"A session has {number(turns['mean'], 3)} requests on average"
    if whole["single_turn_share"] == 1:
        return "Every session has a single request."
    if carried.is_empty():
        return f"{said}."
    median = percent(carried["p50"][0])
    return f"{said}; up to {median} of the median later prompt is the prompt and answer before."


def notes(found: pl.DataFrame, stats: pl.DataFrame) -> tuple[str, ...]:
    """What pauses are counted from, why something is missing, whether it was sampled."""
    whole = found.row(0, named=True)
    said = []
    if "think_s" not in stats["metric"]:
        said.append("No turn's end was observed: pauses are only known from arrival to arrival.")
    if whole["concurrent_mean"] is None and whole["sessions"] > 1:
        said.append("Sessions begin together: times count from each one's start, so how many are open is not known.")
    if whole["looked_at"] < 1:
        said.append(
            f"From {share(whole['looked_at'])} of the sessions, drawn by a hash of their ids; counts are scaled."
        )
    return tuple(said)


def _stats(stats: pl.DataFrame) -> Table:
    """A row a metric, each value written in its own unit."""
    errors = [c for c in ("mean_se", "p50_se", "p90_se", "p99_se") if stats[c].null_count() < stats.height]
    shown = [
        {"metric": METRICS[r["metric"]][0], "n": r["n"]}
        | {c: cell(r[c], METRICS[r["metric"]][1]) for c in (*STATS, *errors)}  # type: ignore[arg-type]
        for r in stats.iter_rows(named=True)
    ]
    columns = (
        Column("metric", "Of"),
        Column("n", "n", "count"),
        *(Column(c, c.replace("_se", " ± standard error")) for c in (*STATS, *errors)),
    )
    exact = "exact" if stats["exact"].all() else "of a sample of sessions"
    return table(f"Distributions, {exact}", pl.DataFrame(shown), columns)


def _figure(steps: pl.DataFrame) -> Figure | None:
    """Prompt lengths by turn: the context that a conversation gathers."""
    if steps.height < 2:
        return None
    names = [_step(a, b) for a, b in steps.select("from_turn", "to_turn").iter_rows()]
    shown = steps.with_columns(step=pl.Series(names))
    styles = series(("p50", "p90"))
    data = [figures.line(p, {"x": names}, steps[f"input_{p}"], styles[p], mode="lines+markers") for p in ("p50", "p90")]
    x = figures.axis("turn of the session", type="category")
    layout = figures.layout(x, figures.axis("prompt tokens (ISL)", rangemode="tozero"), showlegend=True)
    caption = "Prompt length by turn, median and 90th percentile; later turns are those of fewer, longer sessions."
    return Figure({"data": data, "layout": layout}, caption, table("Turns", shown, STEPS), 320)


def _step(a: int, b: int | None) -> str:
    if b is None:
        return f"{a:,}+"
    return f"{a:,}" if a == b else f"{a:,}–{b:,}"
