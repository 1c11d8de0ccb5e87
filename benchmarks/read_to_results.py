"""A whole program, so that its start-up counts: Azure CSV in, one row a request out (`agreement.py` runs and times it).

`python benchmarks/read_to_results.py TRACE.csv PROFILE.json REPLICAS OUT.parquet`
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile

CONTEXT = 4096  # input + output of the peers' workload: Vidur's profile of Llama-2-70B ends there


def read_azure(path: Path, copies: int = 1) -> Requests:
    """An Azure 2023 CSV, prompts clipped to CONTEXT; `copies` of it rotated in time and superposed; arrivals from 0."""
    rows = pl.read_csv(path).select(
        pl.col("TIMESTAMP").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns").dt.epoch("ns"),
        pl.col("ContextTokens", "GeneratedTokens").cast(pl.Int64),
    )
    at, inputs, outputs = (rows[name].to_numpy() for name in rows.columns)
    arrival, n = (at - at[0]) / 1e9, len(at)
    span = arrival[-1]
    times = np.concatenate([(arrival + k * span / copies) % span if k else arrival for k in range(copies)])
    order = np.argsort(times, kind="stable")
    zeros = np.zeros(copies * n, np.int64)
    tiled = [np.tile(x, copies)[order] for x in (np.minimum(inputs, CONTEXT - outputs), outputs)]
    return Requests(times[order], zeros, *tiled, np.full(copies * n, 200.0), zeros)


def main(trace: str, profile: str, replicas: str, out: str) -> None:
    """Read, replay round robin, write."""
    requests = read_azure(Path(trace))
    fleet = Fleet((Pool("llama-2-70b", "default", find_profile(profile)),))
    outcome = Replay(requests, fleet, [int(replicas)], "round-robin").run()
    times = {"arrival_s": requests.arrival_s, "admitted_s": outcome.admitted_s, "first_s": outcome.first_s}
    what = {"status": outcome.status, "replica": outcome.record, "preemptions": outcome.preemptions}
    pl.DataFrame(times | {"done_s": outcome.done_s} | what).write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
