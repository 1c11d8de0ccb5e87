"""A file to a stored trace, beside bare readers: `.venv/bin/python benchmarks/ingest.py --rows 20000000`.

Writes an Azure-shaped CSV and a Mooncake-shaped JSONL of random requests (not timed), each of so many rows, then, each
in a process of its own: Polars' streaming scan and DuckDB to Parquet with nothing checked, and `ingest`. Prints
machine, versions, and for each wall and CPU seconds, rows/s, rows a CPU-second of two cores, peak memory, bytes a row.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl

PART = 500_000  # rows made at a time
GAP_US, BATCH_MS, BLOCK = 17_600, 3000, 512
JSON_TYPES = {"timestamp": pl.Int64(), "input_length": pl.Int64(), "output_length": pl.Int64()}
DUCK_TYPES = dict.fromkeys(JSON_TYPES, "BIGINT") | {"hash_ids": "UBIGINT[]"}


def write_csv(path: Path, rows: int) -> None:
    """TIMESTAMP,ContextTokens,GeneratedTokens at the rate of the Azure week of 2024."""
    rng, at = np.random.default_rng(0), 1_715_299_200_000_000
    with path.open("wb") as file:
        file.write(b"TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for start in range(0, rows, PART):
            n = min(PART, rows - start)
            times = at + np.cumsum(rng.exponential(GAP_US, n)).astype(np.int64)
            at = int(times[-1])
            inputs = np.clip(rng.lognormal(7, 1.1, n), 1, 7999).astype(int)
            outputs = np.clip(rng.lognormal(4.5, 1.2, n), 1, 5000).astype(int)
            frame = pl.DataFrame({"t": pl.Series(times).cast(pl.Datetime("us")), "i": inputs, "o": outputs})
            dates = pl.col("t").dt.strftime("%Y-%m-%d %H:%M:%S%.6f+00:00")
            frame.select(dates, "i", "o").write_csv(file, include_header=False)


def write_jsonl(path: Path, rows: int) -> None:
    """timestamp, input_length, output_length, hash_ids: batches 3 s apart, some 27 hashes a request, a part reused."""
    rng, at, used = np.random.default_rng(0), 0, 200_000
    with path.open("wb") as file:
        for start in range(0, rows, PART // 5):
            n = min(PART // 5, rows - start)
            times = at + np.cumsum(rng.exponential(294, n)).astype(np.int64)
            at = int(times[-1])
            inputs = np.clip(rng.lognormal(8.8, 1.1, n), 1, 126_000).astype(int)
            blocks = -(-inputs // BLOCK)
            ends = np.cumsum(blocks)
            place = np.arange(ends[-1]) - np.repeat(ends - blocks, blocks)
            reused = place < np.repeat((blocks * rng.uniform(0, 0.8, n)).astype(int), blocks)
            ids = np.where(
                reused, (np.repeat(rng.integers(0, 700, n), blocks) * 250 + place), used + np.arange(ends[-1])
            )
            used += int(ends[-1])
            lists = pl.DataFrame({"row": np.repeat(np.arange(n), blocks), "id": ids})
            columns = {
                "timestamp": times // BATCH_MS * BATCH_MS,
                "input_length": inputs,
                "output_length": np.clip(rng.lognormal(5.4, 1.0, n), 1, 2000).astype(int),
                "hash_ids": lists.group_by("row", maintain_order=True).agg("id")["id"],
            }
            pl.DataFrame(columns).write_ndjson(file)


def bare_polars(source: Path, folder: Path) -> Path:
    """Polars alone: text of a CSV, numbers of a JSONL."""
    out = folder / "polars.parquet"
    if source.suffix == ".csv":
        pl.scan_csv(source, infer_schema=False).sink_parquet(out)
    else:
        pl.scan_ndjson(source, schema=JSON_TYPES | {"hash_ids": pl.List(pl.UInt64())}).sink_parquet(out)
    return out


def bare_duckdb(source: Path, folder: Path) -> Path:
    """DuckDB alone: the types it finds in a CSV, numbers of a JSONL."""
    import duckdb

    out = folder / "duckdb.parquet"
    with duckdb.connect() as connection:
        if source.suffix == ".csv":
            connection.read_csv(str(source)).write_parquet(str(out), compression="zstd")
        else:
            rows = connection.read_json(str(source), columns=DUCK_TYPES, format="newline_delimited")
            rows.write_parquet(str(out), compression="zstd")
    return out


def ours(source: Path, folder: Path) -> Path:
    """The whole of `lmaas ingest` but the start of Python."""
    from lmaas.analysis.ingest import ingest
    from lmaas.analysis.workspace import Workspace

    return ingest(source, Workspace.open(folder), say=lambda _: None).path


READERS: dict[str, Callable[[Path, Path], Path]] = {"polars": bare_polars, "duckdb": bare_duckdb, "ours": ours}


def measure(reader: str, source: Path) -> None:
    """In a process of its own: one line of JSON."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        out = READERS[reader](source, Path(folder))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak_gib, "bytes": out.stat().st_size}))


def main() -> None:
    """Write the files, measure each reader on each, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--jsonl-rows", type=int, help="as many as --rows, some 250 bytes each, unless given")
    parser.add_argument("--runs", type=int, default=1, help="of each reader, in turn; the best is printed")
    parser.add_argument("--measure", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure[0], Path(options.measure[1]))
    versions = ", ".join(f"{name} {version(name)}" for name in ("polars", "duckdb", "pyarrow", "numpy"))
    print(f"{platform.platform()}, Python {platform.python_version()}, {versions}")
    print("file       rows        reader  wall s   CPU s      rows/s  rows/2 CPU s  peak GiB  bytes/row")
    with tempfile.TemporaryDirectory() as folder:
        for write, name, rows in (
            (write_csv, "azure.csv", options.rows),
            (write_jsonl, "m.jsonl", options.jsonl_rows or options.rows),
        ):
            source = Path(folder) / name
            write(source, rows)
            command = [sys.executable, __file__, "--measure"]
            best: dict[str, dict[str, float]] = {}
            for _ in range(options.runs):
                for reader in READERS:
                    said = subprocess.run([*command, reader, str(source)], capture_output=True, text=True, check=True)
                    found = json.loads(said.stdout)
                    best[reader] = min(best.get(reader, found), found, key=lambda one: one["cpu"])
            for reader, m in best.items():
                speeds = f"{rows / m['wall']:>11,.0f} {2 * rows / m['cpu']:>13,.0f}"
                times = f"{m['wall']:>7.1f} {m['cpu']:>7.1f}"
                print(f"{name:<9} {rows:>11,} {reader:>7} {times} {speeds} {m['peak']:9.2f} {m['bytes'] / rows:10.2f}")
            source.unlink()
    return None


if __name__ == "__main__":
    main()
