"""Closed-loop sessions: which request follows which, and how long after it is done."""

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Chains:
    """follow i8: number of the request's next turn, -1: none; think_s f8: pause before a turn; notes: what is odd."""

    follow: np.ndarray
    think_s: np.ndarray
    notes: tuple[str, ...]


def chains(rows: pl.DataFrame) -> Chains:
    """Turns in the order of `turn`, each after the one before it that is here, whatever its recorded arrival.

    rows: session (-1: none), turn, think_s, in arrival order. A row that cannot follow arrives at its recorded time
    and is counted by reason: it has no turn; it repeats one (the first to arrive counts); no pause from 0 up is known.
    The latter begins a chain of its own.
    """
    known = pl.col("think_s").is_finite() & (pl.col("think_s") >= 0)
    talks = rows.select("session", "turn", "think_s").with_row_index("row").filter(pl.col("session") >= 0)
    with_turn = talks.filter(pl.col("turn").is_not_null())
    turns = with_turn.unique(["session", "turn"], keep="first", maintain_order=True).sort("session", "turn", "row")
    before = turns.with_columns(
        pl.col("row", "turn").shift(1).over("session").name.prefix("last_"), paused=known.fill_null(False)
    ).filter(pl.col("last_row").is_not_null())
    links = before.filter("paused")
    skips = (links["turn"].cast(pl.Int64) - links["last_turn"].cast(pl.Int64) > 1).sum()
    follow, think_s = np.full(rows.height, -1, np.int64), np.zeros(rows.height)
    follow[links["last_row"].to_numpy()] = links["row"].to_numpy()
    think_s[links["row"].to_numpy()] = links["think_s"].to_numpy()
    odd = {
        "no turn": talks.height - with_turn.height,
        "a turn that is there already": with_turn.height - turns.height,
        "no think_s": before.height - links.height,
    }
    return Chains(follow, think_s, _said(rows.height, talks.height, links.height, odd, int(skips)))


def _said(rows: int, talks: int, links: int, odd: dict[str, int], skips: int) -> tuple[str, ...]:
    """What a reader must know of how the sessions were closed."""
    notes = [f"closed sessions: {links:,} of {rows:,} replayed requests are sent when the turn before them is complete"]
    if talks < rows:
        notes.append(f"closed sessions: {rows - talks:,} requests without session_id arrive at their own time")
    if any(odd.values()):
        why = ", ".join(f"{n:,} have {what}" for what, n in odd.items() if n)
        notes.append(f"closed sessions: {sum(odd.values()):,} requests of sessions arrive at their own time: {why}")
    if skips:
        notes.append(
            f"closed sessions: {skips:,} turns follow one that is not the one before: those between are missing"
        )
    return tuple(notes)
