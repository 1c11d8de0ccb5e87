"""Data quality: what was read, what was set aside and why, and what to be careful with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.analysis.trace import TraceMeta

from ..format import text
from ..section import Column, Section, Table, table
from .tables import rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis


def section(result: Analysis) -> Section:
    """Verdict first; every row that was read is accounted for."""
    trace, quality = result.trace, result.quality
    statuses = rows(result, "status")
    columns = (Column("status", "Status"), Column("requests", "Requests", "count"), Column("share", "Share", "share"))
    return Section(
        "quality",
        "Data quality",
        finding(trace, quality.verdict),
        tables=(rows_table(trace), *((table("Requests by status", statuses, columns),) if statuses.height else ())),
        notes=tuple(dict.fromkeys(map(text, (*quality.findings, *trace.notes)))),
        brief=True,
    )


def finding(trace: TraceMeta, verdict: str) -> str:
    """The verdict and the rows behind it."""
    aside = sum(trace.rows_set_aside.values())
    if not aside:
        return f"{verdict}: all {trace.rows_read:,} rows read are in the table."
    reasons = "; ".join(f"{count:,} {text(reason)}" for reason, count in trace.rows_set_aside.items())
    return f"{verdict}: {aside:,} of {trace.rows_read:,} rows are set aside ({reasons})."


def rows_table(trace: TraceMeta) -> Table:
    """read = kept + set aside, by reason."""
    selection = trace.selection
    kept = selection.rows if selection else trace.rows_kept
    counts = [("read", trace.rows_read), ("kept in the trace table", kept)]
    if selection:
        counts += [
            ("of these not in the period", selection.outside),
            ("of these where the expression is not true", selection.unmet),
            ("of these analysed", trace.rows_kept),
        ]
    counts += [(f"set aside: {text(reason)}", count) for reason, count in trace.rows_set_aside.items()]
    frame = pl.DataFrame(counts, schema={"what": pl.String, "rows": pl.Int64}, orient="row")
    return table(
        "Rows: read = kept + set aside",
        frame,
        (Column("what", "Rows"), Column("rows", "Count", "count")),
        "rejects.parquet of the trace",
    )
