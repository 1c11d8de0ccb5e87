"""What is known of a trace beside its rows: epoch, time step, order, duplicates, in its metadata."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from .formats.base import Reading
from .formats.merged import NAMED
from .formats.source import Source, shown
from .ingest_write import TRACE, Written
from .trace import SCHEMA, TraceMeta

US = 1_000_000
STEPS_US = tuple(10**k for k in range(6, -1, -1))  # decimal steps of a clock, a second first
ENOUGH = 20  # gaps between distinct times before a step other than a decimal one is believed
SAMPLE = 10_000


def describe(source: Source, reading: Reading, written: Written, folder: Path, known: Mapping[str, str]) -> TraceMeta:
    """The metadata of the trace in `folder`; `known`: its trace_id, name and format."""
    trace = folder / TRACE
    columns = [name for name in SCHEMA if name == "source_row" or written.facts[name]]
    arrivals = pl.scan_parquet(trace, glob=False).select("arrival_s").collect()["arrival_s"].to_numpy()
    naive = written.facts["naive"]
    # a request id that the source gives is part of what makes a row the same; a row number is not
    compared = [name for name in columns if name != "source_row" and (name != "request_id" or name in reading.columns)]
    quantum, batched = time_step(arrivals)
    return TraceMeta(
        trace_id=known["trace_id"],
        name=known["name"],
        source=str(source.path),
        format=known["format"],
        epoch=written.epoch,
        epoch_kind="relative" if written.epoch is None else "assumed" if naive else "known",
        time_unit=reading.unit,
        quantum_s=quantum,
        block_size=reading.block_size if "block_hashes" in columns else None,
        rows_read=written.rows_read,
        rows_kept=written.facts["rows"],
        rows_set_aside=written.set_aside,
        span_s=float(arrivals[-1] - arrivals[0]),
        columns=columns,
        notes=[
            *_notes(source, reading, written, batched, quantum, duplicates(trace, compared)),
            *(_repeated_ids(trace) if reading.ids_repeat else []),
        ],
    )


def _repeated_ids(trace: Path) -> list[str]:
    """A sentence where rows share their request's id."""
    ids = pl.scan_parquet(trace, glob=False).select(pl.col("request_id").hash())
    again = ids.select(pl.len() - pl.col("request_id").n_unique()).collect(engine="streaming").item()
    rows = "row has" if again == 1 else "rows have"
    return [f"{again:,} {rows} the id of another, as an export writes a request again: kept"] if again else []


def _notes(
    source: Source, reading: Reading, written: Written, batched: bool, quantum: float, repeats: int
) -> list[str]:
    rows, naive = written.facts["rows"], written.facts["naive"]
    notes = [*_merged(written), *reading.notes]
    if naive:
        which = "times carry" if naive == rows else f"{naive:,} of {rows:,} times carry"
        notes.append(f"{which} no time zone: read as UTC")
    if written.inversions:
        notes.append(f"not in order of arrival: {written.inversions:,} rows earlier than the one before; sorted")
    if repeats:
        notes.append(f"{repeats:,} rows repeat another in every column: kept, the source may have no request id")
    if batched:
        notes.append(f"times come in batches about {quantum:g} s apart: no statistic below that is shown")
    elif quantum >= 1:
        notes.append(f"times are whole multiples of {quantum:g} s: no statistic below that is shown")
    if written.facts["block_hashes"] and not reading.block_size:
        notes.append("block_hashes without a block size (Parquet metadata lmaas.block_size): prefix reuse is not used")
    unused = [shown(column, 40) for column in source.columns if column not in reading.source_columns()]
    if unused:
        notes.append(f"not read: {', '.join(unused[:8])}{', …' if len(unused) > 8 else ''}")
    return notes


def _merged(written: Written) -> list[str]:
    if written.files is None:
        return []
    named = [f"{shown(name)} ({n:,} rows)" for name, _, n in written.files.head(NAMED).iter_rows()]
    more = f" and {written.files.height - NAMED:,} more" if written.files.height > NAMED else ""
    files = f"{written.files.height:,} file{'s' if written.files.height > 1 else ''}"
    return [f"from {files}, rows numbered through them: {', '.join(named)}{more}"]


def time_step(arrivals_s: np.ndarray) -> tuple[float, bool]:
    """The step of sorted timestamps in seconds, at least a microsecond, and whether they come in batches.

    The largest decimal step up to 1 s that all times are multiples of; the greatest common step where that is more;
    the usual gap where times come in batches, as a collector writes them: most requests share their time with
    others, and hardly a gap is much below the usual one.
    """
    times = np.rint(arrivals_s * US).astype(np.int64)
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    if len(gaps) == 0:
        return 1 / US, False
    common = _common_step(gaps)
    step = next(step for step in STEPS_US if common % step == 0 and times[0] % step == 0)
    if len(gaps) < ENOUGH:
        return step / US, False
    if common > US == step:
        return common / US, False
    usual = float(np.median(gaps))
    batched = len(gaps) < 0.5 * len(times) and usual > step and float(np.quantile(gaps, 0.01)) > 0.9 * usual
    return (usual if batched else step) / US, batched


def _common_step(gaps: np.ndarray) -> int:
    """Greatest common divisor; of a sample, then of what that leaves: one pass where the sample has said all."""
    common = int(np.gcd.reduce(gaps[:SAMPLE]))
    while common > 1 and len(rest := gaps[gaps % common > 0]):
        common = int(np.gcd(common, np.gcd.reduce(rest[:SAMPLE])))
    return common


def duplicates(trace: Path, columns: list[str]) -> int:
    """Rows of a sorted `trace` that repeat an earlier one in all `columns`."""
    arrival = pl.col("arrival_s")
    tied = ((arrival == arrival.shift(1)) | (arrival == arrival.shift(-1))).fill_null(False)
    # only rows that share their time with a neighbour can repeat one: in most traces few, and cheap to compare
    rows = pl.scan_parquet(trace, glob=False).filter(tied).select(pl.struct(columns).hash().alias("hash"))
    return int(rows.select(pl.len() - pl.col("hash").n_unique()).collect(engine="streaming").item())
