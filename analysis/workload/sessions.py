"""Sessions: how many turns, how long between them, how the context grows, how many at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .session_columns import COLUMNS
from .tables import named

if TYPE_CHECKING:
    from .given import Given

MAX_ROWS = 5_000_000  # held at about 200 bytes each; of more a sample of sessions
SEED = 20_261_121  # of the draw: the same sessions in every shard of a trace, with one version of Polars
GROUPS = 16  # sub-samples, to tell the error of a sample
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
ERRORS = ("mean", "p50", "p90", "p99")
TURNS = (1, 2, 3, 4, 5, 9, 17, 33, 65, 129, 257, 513, 1025)  # where a step of `session_turns` begins
PER_SESSION = ("turns", "session_s", "context_tokens")
PER_TURN = ("think_s", "gap_s", "growth_tokens", "carried_share")
TOGETHER = 0.5  # of the sessions begin at one instant: their times count from each one's start


def describe(given: "Given") -> dict[str, pl.DataFrame]:
    """The tables sessions, session_stats and session_turns, where the trace has session ids."""
    if "session_id" not in given.meta.columns:
        return {}
    first_s, last_s = given.at
    return sessions(given.trace.scan(), given.group("service"), last_s - first_s, given.meta.quantum_s)


def sessions(
    table: pl.LazyFrame, service: pl.Expr | None = None, span_s: float = 0.0, quantum_s: float = 0.0, *,
    max_rows: int = MAX_ROWS,
) -> dict[str, pl.DataFrame]:  # fmt: skip
    """Tables sessions, session_stats and session_turns; columns as in COLUMNS. Empty where no row has a session.

    A session's turns are its requests by arrival, then turn, then row. Where more than `max_rows` rows have a session,
    1 in 2, 4, … of the sessions is drawn by the hash of its id, whole; errors are those between GROUPS sub-samples.
    """
    in_session = table.filter(pl.col("session_id").is_not_null())
    rows = int(in_session.select(pl.len()).collect(engine="streaming").item())
    if not rows:
        return {}
    draw = max(0, int(np.ceil(np.log2(rows / max_rows))))
    drawn = in_session.with_columns(session=pl.col("session_id").hash(SEED)).filter(pl.col("session") % 2**draw == 0)
    turns = _turns(drawn, named("service") if service is None else service)
    if turns.is_empty():
        return {}
    sample = _Sample(turns, _by_session(turns, _spawned(in_session, turns)), 2.0**-draw, span_s, quantum_s)
    groups = list(sample.groups())
    return {
        "sessions": _frame("sessions", [_overview(g) for g in groups]),
        "session_stats": _frame("session_stats", [row for g in groups for row in _stats(g)]),
        "session_turns": _frame("session_turns", list(_steps(groups[0]))),
    }


def _turns(drawn: pl.LazyFrame, service: pl.Expr) -> pl.DataFrame:
    """One row a turn, a session's together and in order, with what the turn before says of it."""
    order = ["session", "arrival_s", "turn", "source_row"]
    columns = ("arrival_s", "turn", "source_row", "think_s", "e2e_s", "parent_id", "request_id")
    tokens = (pl.col(c).cast(pl.Int64) for c in ("input_tokens", "output_tokens"))
    rows = drawn.select("session", *columns, *tokens, service=service).collect(engine="streaming").sort(order)
    # a session's rows lie together: the row before, not a window over sessions, which takes ten times as long
    later = pl.col("session").eq_missing(pl.col("session").shift(1))
    before = {c: pl.when(later).then(pl.col(c).shift(1)) for c in ("arrival_s", "end_s", "input_tokens", "context")}
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    at, prompt = pl.col("arrival_s"), pl.col("input_tokens")
    pause = pl.coalesce("think_s", at - before["end_s"])
    return rows.with_columns(
        number=row - pl.when(~later).then(row).forward_fill() + 1,
        group=(pl.col("session") // 2**32 % GROUPS).cast(pl.Int8),
        end_s=at + pl.col("e2e_s"),
        context=prompt + pl.col("output_tokens"),
    ).with_columns(
        gap_s=(at - before["arrival_s"]).cast(pl.Float64),
        overlaps=at < before["end_s"],
        think_s=pl.when((pl.col("number") > 1) & (pause >= 0)).then(pause),
        growth_tokens=(prompt - before["input_tokens"]).cast(pl.Float64),
        cut=prompt < before["input_tokens"],
        carried_share=pl.when(prompt > 0, before["context"] <= prompt)
        .then(before["context"] / prompt)
        .when(prompt > 0, before["context"] > prompt)
        .then(1.0),
    )


def _spawned(in_session: pl.LazyFrame, turns: pl.DataFrame) -> pl.Series:
    """Sessions whose first turn follows a request of another session."""
    first = turns.filter(pl.col("number") == 1, pl.col("parent_id").is_not_null()).select("session", "parent_id")
    if first.is_empty():
        return turns["session"].clear()
    parents = in_session.select(parent_id="request_id", theirs=pl.col("session_id").hash(SEED))
    both = parents.join(first.lazy(), on="parent_id").filter(pl.col("theirs") != pl.col("session"))
    return both.select("session").unique().collect(engine="streaming")["session"]


def _by_session(turns: pl.DataFrame, spawned: pl.Series) -> pl.DataFrame:
    at = pl.col("arrival_s")
    return (
        turns.group_by("session", maintain_order=True)
        .agg(
            pl.col("group", "service").first(),
            turns=pl.len().cast(pl.Float64),
            session_s=at.last() - at.first(),
            context_tokens=pl.col("input_tokens").max().cast(pl.Float64),
            first_s=at.first(),
            end_s=pl.max_horizontal(at.last(), pl.col("end_s").max()),
        )
        .with_columns(spawned=pl.col("session").is_in(spawned.implode()))
    )


@dataclass(frozen=True)
class _Group:
    """The sessions of one service (that of their first turn), or all."""

    by: str
    name: str
    turns: pl.DataFrame
    sessions: pl.DataFrame
    share: float
    span_s: float
    quantum_s: float

    def error(self, values: pl.DataFrame, statistic: pl.Expr) -> float | None:
        """Standard error of a statistic of the column `value`; null where all sessions were looked at."""
        if self.share == 1:
            return None
        found = values.group_by("group").agg(statistic.alias("value"))["value"].drop_nulls().to_numpy()
        if len(found) < GROUPS:
            return None
        return float(found.std(ddof=1) * np.sqrt((1 - self.share) / GROUPS))


@dataclass(frozen=True)
class _Sample:
    turns: pl.DataFrame
    sessions: pl.DataFrame
    share: float
    span_s: float
    quantum_s: float

    def groups(self) -> Iterator[_Group]:
        rest = (self.share, self.span_s, self.quantum_s)
        yield _Group("all", "all", self.turns, self.sessions, *rest)
        parts = self.sessions.partition_by("service", as_dict=True)
        if len(parts) > 1:  # one service would repeat `all`
            for (name,), part in sorted(parts.items(), key=lambda p: (-len(p[1]), str(p[0][0]))):
                yield _Group("service", str(name), self.turns.join(part, on="session", how="semi"), part, *rest)


def _overview(g: _Group) -> dict[str, Any]:
    single = g.sessions.select("group", value=(pl.col("turns") == 1).cast(pl.Float64))
    return {
        "by": g.by,
        "name": g.name,
        "sessions": round(len(g.sessions) / g.share),
        "requests": round(len(g.turns) / g.share),
        "single_turn_share": single["value"].mean(),
        "single_turn_se": g.error(single, pl.col("value").mean()),
        "spawned": round(int(g.sessions["spawned"].sum()) / g.share),
        "overlap_share": g.turns["overlaps"].mean(),
        "cut_share": g.turns["cut"].mean(),
        **_at_once(g),
        "looked_at": g.share,
    }


def _at_once(g: _Group) -> dict[str, float | None]:
    """Sessions open at once, from the first arrival to the last end (arrival, where no end was observed)."""
    first, end = (g.sessions[c].sort().to_numpy() for c in ("first_s", "end_s"))
    commonest = np.unique(first, return_counts=True)[1].max()
    if g.span_s <= 0 or (commonest > 1 and commonest >= TOGETHER * len(first)):
        return {"concurrent_mean": None, "concurrent_peak": None}
    # at each start, those begun by then less those that ended before
    open_now = np.arange(1, len(first) + 1) - np.searchsorted(end, first, "left")
    mean = float((end - first).sum()) / g.span_s / g.share
    return {"concurrent_mean": mean, "concurrent_peak": float(open_now.max()) if g.share == 1 else None}


def _stats(g: _Group) -> Iterator[dict[str, Any]]:
    for metric in (*PER_SESSION, *PER_TURN):
        part = g.sessions if metric in PER_SESSION else g.turns
        values = part.select("group", value=pl.col(metric)).drop_nulls()
        if values.is_empty():
            continue
        value = pl.col("value")
        statistics = {"mean": value.sort().mean(), "max": value.max()}  # sorted: a fixed order of addition
        statistics |= {p: value.quantile(q, "linear") for p, q in PERCENTILES.items()}
        found = values.select(n=pl.len(), **statistics).row(0, named=True)
        if metric in ("think_s", "gap_s") and g.quantum_s >= 1:
            found |= {p: None for p in PERCENTILES if found[p] < g.quantum_s}
        errors = {f"{s}_se": g.error(values, statistics[s]) for s in ERRORS}
        exact = g.share == 1
        yield {"by": g.by, "name": g.name, "metric": metric, **found, "exact": exact, **errors, "looked_at": g.share}


def _steps(g: _Group) -> Iterator[dict[str, Any]]:
    turns = g.sessions["turns"].to_numpy()
    for a, b in zip(TURNS, (*TURNS[1:], None), strict=True):
        inside = pl.col("number") >= a if b is None else pl.col("number").is_between(a, b - 1)
        part = g.turns.filter(inside, pl.col("input_tokens") > 0)
        if part.is_empty():
            continue
        prompt = part["input_tokens"].cast(pl.Float64)
        yield {
            "from_turn": a,
            "to_turn": None if b is None else b - 1,
            "reached_share": float((turns >= a).mean()),
            "n": len(part),
            "input_p50": prompt.quantile(0.5, "linear"),
            "input_p90": prompt.quantile(0.9, "linear"),
            "output_p50": part["output_tokens"].cast(pl.Float64).quantile(0.5, "linear"),
            "looked_at": g.share,
        }


def _frame(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    kinds: dict[str, Any] = dict.fromkeys(("by", "name", "metric"), pl.String) | {"exact": pl.Boolean}
    kinds |= dict.fromkeys(("sessions", "requests", "spawned", "n", "from_turn", "to_turn"), pl.Int64)
    return pl.DataFrame(rows, schema={c: kinds.get(c, pl.Float64) for c in COLUMNS[name]})
