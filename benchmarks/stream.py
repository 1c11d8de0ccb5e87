"""Requests streamed from Parquet, results streamed out: `.venv/bin/python benchmarks/stream.py --requests 50000000`.

Writes a Poisson trace of that many rows in row groups of 131,072 (not timed), replays it over 16 replicas with
least-requests a row group at a time, and writes request, admitted_s, first_s, done_s, replica record back to Parquet.
Prints machine, versions, seconds, requests/s and the peak memory of the process, for each size asked for: a cost per
request that does not grow with the trace is the point.
"""

import argparse
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile

PROFILE, REPLICAS, RATE = "llama-3.1-8b/h100/tp1", 16, 9.0  # requests/s a replica: three quarters of what it sustains
GROUP = 131_072


def write(path: Path, n: int) -> None:
    """A trace of n requests with lognormal lengths."""
    rng, at = np.random.default_rng(0), 0.0
    schema = pa.schema([("arrival_s", pa.float64()), ("input_tokens", pa.int32()), ("output_tokens", pa.int32())])
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        for _ in range(0, n, GROUP):
            arrival = at + np.cumsum(rng.exponential(1 / (RATE * REPLICAS), GROUP))
            at = float(arrival[-1])
            inputs = np.clip(rng.lognormal(6.6, 1, GROUP), 1, 8000).astype(np.int32)
            outputs = np.clip(rng.lognormal(5, 0.8, GROUP), 1, 2000).astype(np.int32)
            out.write_table(pa.table([arrival, inputs, outputs], schema=schema))


def chunks(path: Path) -> Iterator[Requests]:
    """The trace a row group at a time."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=GROUP):
        arrival, inputs, outputs = (column.to_numpy() for column in batch.columns)
        zeros = np.zeros(len(arrival), np.int64)
        yield Requests(arrival, zeros, inputs, outputs, np.full(len(arrival), 200.0), zeros)


def replay(path: Path, out_path: Path) -> int:
    """Rows written."""
    source = chunks(path)
    run = Replay(
        next(source), Fleet((Pool("s", "r", find_profile(PROFILE)),)), [REPLICAS], "least-requests", scales=False
    )
    names, written = ("request", "record", "admitted_s", "first_s", "done_s"), 0
    schema = pa.schema([(n, pa.float64() if n.endswith("_s") else pa.int64()) for n in names])
    with pq.ParquetWriter(out_path, schema, compression="lz4") as out:
        for rows in run.stream(source):
            out.write_table(pa.table([np.ascontiguousarray(rows[n]) for n in names], schema=schema))
            written += len(rows)
    return written


def main() -> None:
    """Write, replay, print, for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, nargs="+", default=[1_000_000, 10_000_000])
    sizes = parser.parse_args().requests
    print(f"{platform.platform()}, Python {platform.python_version()}, numba {version('numba')}")
    print("  requests  wall s  CPU s  requests/s  peak GiB")
    with tempfile.TemporaryDirectory() as folder:
        trace, out = Path(folder) / "trace.parquet", Path(folder) / "out.parquet"
        write(trace, GROUP)
        replay(trace, out)  # compiles or loads the cache
        for n in sizes:
            write(trace, n)
            began, cpu = time.perf_counter(), time.process_time()
            written = replay(trace, out)
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{written:>10,}  {wall:6.1f}  {cpu:5.1f}  {written / wall:>10,.0f}  {peak:8.2f}", flush=True)


if __name__ == "__main__":
    main()
