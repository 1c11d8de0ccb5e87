"""Traces for tests: ingested from text or bytes, or stored from a table; and whether every row is accounted for."""

from pathlib import Path

import polars as pl

from lmaas.analysis.ingest import ingest
from lmaas.analysis.trace import SCHEMA, Trace, TraceMeta
from lmaas.analysis.workload.tables import OTHERS
from lmaas.analysis.workspace import Workspace

HEADER = "arrival_s,input_tokens,output_tokens,service\n"


def reader(folder):
    """Ingest text, bytes or a file into a workspace."""
    said: list[str] = []

    def _read(content: Path | str | bytes, name: str = "trace.txt", **options) -> Trace:
        path = content
        if not isinstance(content, Path):
            path = folder / name
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest(path, Workspace.open(folder / "home"), say=said.append, **options)

    _read.said = said
    return _read


def rejects(trace: Trace) -> list[tuple]:
    return pl.read_parquet(trace.path.with_name("rejects.parquet")).sort("source_row").rows()


def rejected(trace: Trace) -> list[str]:
    """Text of the rows set aside."""
    return [row[2] for row in rejects(trace)]


def accounted(trace: Trace) -> int:
    """Rows read, after checking that kept and set-aside rows are exactly those, each once."""
    meta, kept, aside = trace.meta, trace.table("source_row", "arrival_s"), rejects(trace)
    assert meta.rows_read == meta.rows_kept + sum(meta.rows_set_aside.values())
    assert kept.height == meta.rows_kept
    assert len(aside) == sum(meta.rows_set_aside.values())
    assert sorted([*kept["source_row"], *(row[0] for row in aside)]) == list(range(meta.rows_read))
    assert kept["arrival_s"].is_sorted()
    return meta.rows_read


def table(**columns) -> pl.DataFrame:
    """A trace table in arrival order; columns not given are null, lengths 10 and 5, service 'm'."""
    n = len(columns["arrival_s"])
    given = pl.DataFrame({"service": ["m"] * n, "input_tokens": [10] * n, "output_tokens": [5] * n} | columns)
    full = given.with_columns(pl.lit(None, dtype=t).alias(c) for c, t in SCHEMA.items() if c not in given.columns)
    return full.select(pl.col(c).cast(t) for c, t in SCHEMA.items()).sort("arrival_s", maintain_order=True)


def storer(folder):
    """Store a table as a trace, as ingest would."""

    def make(rows: pl.DataFrame, epoch=None, quantum_s=0.001, block_size=None) -> Trace:
        rows.write_parquet(folder / "trace.parquet")
        at = rows["arrival_s"]
        meta = TraceMeta(
            trace_id="t",
            name="t",
            source="test",
            format="canonical",
            epoch=epoch,
            epoch_kind="known" if epoch else "relative",
            time_unit="s",
            quantum_s=quantum_s,
            block_size=block_size,
            rows_read=len(rows),
            rows_kept=len(rows),
            rows_set_aside={},
            span_s=at.max() - at.min(),
            columns=[c for c in rows.columns if rows[c].null_count() < len(rows)],
            notes=[],
        )
        return Trace(meta, folder / "trace.parquet")

    return make


ODD = {  # traces that statistics trip over
    "one row": table(arrival_s=[5.0]),
    "no span": table(arrival_s=[5.0] * 4, service=["a", "b", "a", "b"]),
    "all failed": table(arrival_s=[0.0, 100.0], input_tokens=[0, 0], output_tokens=[0, 0], status=["failed"] * 2),
    "no lengths": table(
        arrival_s=[0.0, 100.0],
        input_tokens=pl.Series([None, None], dtype=pl.UInt32),
        output_tokens=pl.Series([None, None], dtype=pl.UInt32),
    ),
    "a century": table(arrival_s=[0.0, 3.2e9]),
    "negative times": table(arrival_s=[-500.0, -1.0, 3.0]),
    "hostile names": table(
        arrival_s=[float(k) for k in range(300)],
        service=["<script>alert(1)</script>", "", "'; drop table x; --"] * 100,
        tenant=[OTHERS] * 300,
    ),
}
