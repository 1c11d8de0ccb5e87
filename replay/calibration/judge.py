"""The replay of a recorded fleet beside what was observed: the back-test of a profile."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.outcome import Collected
from lmaas.replay.prefixes import hashed
from lmaas.replay.profile import Profile

from .log import METRICS, Log, tpot_s

QUANTILES = {"p50": 0.5, "p95": 0.95}


@dataclass(frozen=True)
class Latencies:
    """f8 by request, seconds; NaN where a request did not complete, or (TPOT) has one token."""

    ttft_s: np.ndarray
    tpot_s: np.ndarray
    e2e_s: np.ndarray

    def of(self, metric: str) -> np.ndarray:
        """One of METRICS."""
        found: np.ndarray = getattr(self, f"{metric}_s")
        return found


def replayed(log: Log, profile: Profile, replicas: int = 1, router: str = "least-requests") -> Latencies:
    """What the log's requests would have seen on so many replicas that were there from the start."""
    nothing = np.zeros(len(log), np.int64)
    predicted = log.output_tokens.astype(float)
    requests = Requests(
        log.arrival_s, nothing, log.input_tokens, log.output_tokens, predicted, nothing, **hashed(log.prefix)
    )
    fleet = Fleet((Pool("calibration", "default", profile),))
    collected = Collected(len(log))
    for rows in Replay(requests, fleet, [replicas], router).stream([]):  # no Outcome: its tables cost as much again
        collected.add(rows)
    out = collected.columns(log.arrival_s)
    ttft = out["first_s"] - log.arrival_s + profile.overhead_s
    e2e = out["done_s"] - log.arrival_s + profile.overhead_s
    return Latencies(ttft, tpot_s(ttft, e2e, log.output_tokens), e2e)


def observed(log: Log) -> Latencies:
    """The log's own."""
    return Latencies(log.ttft_s, log.tpot_s, log.e2e_s)


def compared(told: Latencies, seen: Latencies, rows: np.ndarray) -> pl.DataFrame:
    """metric, n, observed and replayed p50 and p95 (s), their relative errors, median of the errors by request.

    rows: bool, the requests to judge. A request the replay does not complete is an error of 100 %.
    """
    found = []
    for metric in METRICS:
        true, said = seen.of(metric), told.of(metric)
        judged = rows & np.isfinite(true)
        true, said = true[judged], said[judged]
        done = np.isfinite(said)
        row: dict[str, float | str | int] = {"metric": metric, "n": len(true), "not_completed": int((~done).sum())}
        for name, q in QUANTILES.items():
            a = float(np.quantile(true, q)) if len(true) else np.nan
            b = float(np.quantile(said[done], q)) if done.any() else np.nan
            row |= {f"observed_{name}_s": a, f"replayed_{name}_s": b, f"{name}_error": b / a - 1}
        off = np.where(done, np.abs(said / true - 1), 1.0)
        found.append(row | {"median_error": float(np.median(off)) if len(off) else np.nan})
    return pl.DataFrame(found)


def backtest(log: Log, profile: Profile, replicas: int = 1, router: str = "least-requests") -> pl.DataFrame:
    """`compared` over all requests that were observed: how far off a profile is on a log it has not seen."""
    return compared(replayed(log, profile, replicas, router), observed(log), log.seen)
