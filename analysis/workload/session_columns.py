"""What the tables of `sessions` say: their columns, and sentences."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from .words import duration

if TYPE_CHECKING:
    from lmaas.analysis.trace import TraceMeta

MIN_N = 100  # values, for one in ten of them to be worth a sentence

COLUMNS: dict[str, dict[str, str]] = {
    "sessions": {
        "by": "all or service",
        "name": "which of them; a session's service is that of its first turn, those beyond the largest 20 together",
        "sessions": "distinct session ids; where sessions were drawn, an estimate, as are all counts here",
        "requests": "rows that have a session",
        "single_turn_share": "share of the sessions with one request",
        "single_turn_se": "its standard error where sessions were drawn, else null",
        "spawned": "sessions whose first turn follows a request of another session: sub-agents",
        "overlap_share": "of later turns whose predecessor's end was observed, those that arrived before it",
        "cut_share": "of later turns, those whose prompt is shorter than the one before: context cut, or another",
        "concurrent_mean": "sessions open at once, mean over the trace's span: from the first arrival to the last end "
        "(arrival where none was observed); null where half of the sessions begin at one instant",
        "concurrent_peak": "most at once; null where sessions were drawn",
        "looked_at": "share of the sessions that was drawn, by the hash of their ids, to stand for all; 1: all",
    },
    "session_stats": {
        "by": "all or service",
        "name": "which of them",
        "metric": "per session: turns, session_s (first to last arrival), context_tokens (its longest prompt); per "
        "later turn: think_s (from the end of the turn before: as the source gives it, else from its observed e2e_s, "
        "else absent; overlaps left out), gap_s (from the arrival of the turn before), growth_tokens (prompt less the "
        "prompt before), carried_share (prompt and answer before / prompt, at most 1: by lengths, so an upper bound)",
        "n": "values looked at",
        "mean": "of the metric; likewise p50, p90, p95, p99 (linear between ranks; null below the quantum), max",
        **dict.fromkeys(("p50", "p90", "p95", "p99", "max"), ""),
        "exact": "false: of a sample of sessions, with standard errors",
        "mean_se": "standard error of mean where sessions were drawn, else null; likewise p50_se, p90_se, p99_se",
        **dict.fromkeys(("p50_se", "p90_se", "p99_se"), ""),
        "looked_at": "as in sessions",
    },
    "session_turns": {
        "from_turn": "first turn of the step, counted from 1 in order of arrival",
        "to_turn": "last one; null: all that follow",
        "reached_share": "share of the sessions that have turn from_turn",
        "n": "turns looked at, of those with a prompt",
        "input_p50": "prompt tokens; likewise input_p90",
        "input_p90": "",
        "output_p50": "answer tokens",
        "looked_at": "as in sessions",
    },
}


def findings(tables: Mapping[str, pl.DataFrame], meta: "TraceMeta") -> Iterator[str]:
    """How many turns, how long between them, how much context they carry."""
    if "sessions" not in tables:
        return
    whole = tables["sessions"].row(0, named=True)
    turns = tables["session_stats"].filter(by="all", metric="turns").row(0, named=True)
    error = f" ± {turns['mean_se']:.2g}" if turns["mean_se"] is not None else ""
    drawn = "" if whole["looked_at"] == 1 else f", from a sample of {whole['looked_at']:.2g} of them"
    many = f"{whole['sessions']:,} sessions have" if whole["sessions"] != 1 else "1 session has"
    yield (
        f"{many} {turns['mean']:.3g}{error} requests on average; {whole['single_turn_share']:.0%} have only one{drawn}."
    )
    if whole["spawned"]:
        yield f"{whole['spawned']:,} of the sessions were begun by a request of another: sub-agents."
    think, gap = _stat(tables, "think_s"), _stat(tables, "gap_s")
    pause, since = (think, "end") if think else (gap, "arrival")
    if pause and pause["n"] >= MIN_N and pause["p50"] is not None and pause["p90"] is not None:
        yield (
            f"Half of the later turns come within {duration(pause['p50'])} of the {since} of the turn before, one in "
            f"ten after more than {duration(pause['p90'])}."
        )
    carried = _stat(tables, "carried_share")
    if carried and carried["n"] >= MIN_N:
        yield (
            f"The prompt and answer before are as long as {carried['p50']:.0%} of the median later turn's prompt: "
            "context that a cache which follows sessions could hold."
        )


def _stat(tables: Mapping[str, pl.DataFrame], metric: str) -> dict[str, Any] | None:
    found = tables["session_stats"].filter(by="all", metric=metric)
    return found.row(0, named=True) if len(found) else None
