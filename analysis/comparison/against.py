"""`--compare`: what changed between two traces or two periods, how much, and whether it is more than chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.characterise import Analysis
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.source import shown
from lmaas.analysis.instants import At, Period
from lmaas.analysis.progress import Tell, part, rising, silent, steps
from lmaas.analysis.selection import bounds, selected
from lmaas.analysis.trace import Trace, TraceMeta
from lmaas.analysis.units import parse_duration
from lmaas.analysis.workload.prefix import prefix

from .blocks import Cut, blocks, metrics_of, shared_names
from .contrast import Draws
from .findings import findings
from .measures import Pair

SEED = 20260101
EVERYTHING = Period()
PASSED = 0.6  # share of the time of the passes over the rows, measured on 3 M of them


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `tables` maps names to tables whose columns `comparison.tables.COLUMNS` documents."""

    before: str  # what is compared with, in words
    after: str
    meta: TraceMeta  # of before
    block_s: float
    blocks: tuple[int, int]  # of before, of after
    tables: dict[str, pl.DataFrame]
    findings: tuple[str, ...]

    def metrics(self) -> dict[str, Any]:
        """JSON-ready facts; the tables stand with the others."""
        trace = self.meta.model_dump(mode="json", exclude={"source"})
        facts = {"before": self.before, "after": self.after, "block_s": self.block_s, "blocks": list(self.blocks)}
        return facts | {"trace": trace, "findings": list(self.findings)}


@dataclass(frozen=True)
class Against:
    """What a trace is compared with: a trace (None: the same), and a period of it or a length of time before."""

    trace: Trace | None = None
    period: Period = EVERYTHING
    earlier_s: float | None = None

    @classmethod
    def parse(cls, text: str, open_other: Callable[[str], Trace]) -> Against:
        """Of the value of `--compare`: `A..B`, a length of time, else what `open_other` opens."""
        period = Period.between(text)
        if period is not None:
            return cls(period=period)
        try:
            earlier_s = parse_duration(text, "--compare")
        except UserError:
            return cls(trace=open_other(text))
        if earlier_s <= 0:
            raise UserError(f"--compare {shown(text)}: a period as long before must be longer ago than 0 s", Exit.USAGE)
        return cls(earlier_s=earlier_s)

    def side(self, trace: Trace, period: Period) -> tuple[Trace, Period]:
        """The trace and period to compare `period` of `trace` with."""
        if self.earlier_s is None:
            return self.trace or trace, self.period
        if not period:
            hint = "say which with --since, such as --since -1d --compare 1d, or write --compare A..B"
            raise UserError(f"--compare with {self.earlier_s:g} s before what? {hint}", Exit.USAGE)
        since_s, until_s, (first, last) = bounds(trace, period)
        shifted = [(end if at is None else at) - self.earlier_s for at, end in ((since_s, first), (until_s, last))]
        return trace, Period(At(shifted[0]), At(shifted[1]))


def compare(before: Trace, after: Trace, progress: Tell = silent) -> Comparison:
    """What is different in `after`: effect sizes with intervals, mixes, percentiles and distribution functions.

    The same two traces give the same numbers: what is drawn is drawn from a fixed seed. `progress` is told
    the share of the time that is done, a `Share` of the requests.
    """
    both = (before, after)
    cut = Cut.choose([t.meta.span_s for t in both], max(t.meta.quantum_s for t in both))
    names = shared_names(both)
    rows = [float(t.meta.rows_kept) for t in both]
    tell = rising(progress, sum(rows), "requests")
    passes = steps(part(tell, 0.0, PASSED), rows)
    cuts = [blocks(t, cut, names, metrics_of(t)) for _, t in zip(passes, both, strict=True)]
    draws = Draws.of(cuts[0].count, cuts[1].count, np.random.default_rng(SEED))
    tables = Pair(cuts[0], cuts[1], draws, _reuse(before, after)).tables()
    tell(1.0)
    labels = _labels(before.meta, after.meta)
    counts = (cuts[0].count, cuts[1].count)
    return Comparison(*labels, before.meta, cut.block_s, counts, tables, findings(tables))


def compared(
    result: Analysis,
    trace: Trace,
    against: Against,
    *,
    where: str | None = None,
    since: str | None = None,
    until: str | None = None,
    progress: Tell = silent,
) -> Analysis:
    """`result`, the analysis of that part of `trace`, with its comparison; `where` holds on both sides.

    `progress`: as of `compare`.
    """
    period = Period.parse(since, until)
    other, other_period = against.side(trace, period)
    with selected(other, other_period, where) as before, selected(trace, period, where) as after:
        found = compare(before, after, progress)
    return dataclasses.replace(result, tables=result.tables | found.tables, comparison=found)


def _reuse(before: Trace, after: Trace) -> tuple[float, float] | None:
    sizes = {t.meta.block_size if "block_hashes" in t.meta.columns else None for t in (before, after)}
    (size, *others) = sizes
    if others or size is None:
        return None
    found = [prefix(t.scan(), size).get("prefix") for t in (before, after)]
    shares = [None if table is None else table.filter(by="all")["reuse"].first() for table in found]
    return None if None in shares else (float(shares[0]), float(shares[1]))  # type: ignore[arg-type]


def _labels(before: TraceMeta, after: TraceMeta) -> tuple[str, str]:
    found = [_label(m, before.trace_id != after.trace_id) for m in (before, after)]
    if found[0] == found[1]:  # two traces of one name
        found = [f"{label} ({m.trace_id[:6]})" for label, m in zip(found, (before, after), strict=True)]
    return (found[0], found[1]) if found[0] != found[1] else ("before", "after")


def _label(meta: TraceMeta, named: bool) -> str:
    """A trace's name, its period where it is a part; the name alone goes without saying within one trace."""
    part = meta.selection
    period = "" if part is None else part.period
    return " ".join(filter(None, [shown(meta.name, 40) if named or not period else "", period]))
