"""Fleet size by arrival rate, N = ceil(k5 · r + c5): least squares over packing simulations of the training lengths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from lmaas.analysis.lengths.floors import InputBin
from lmaas.analysis.trace import TIERS
from lmaas.replay.engine import Outcome, Replay
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.requests import Requests

from .limits import Placement

RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of what a worker sustains
LIVES = 8  # mean stays in the fleet that a simulation lasts, so that most of it is steady
FEWEST, MOST = 400, 4000  # requests of a simulation
LOOKS = 2000  # instants at which workers in use are counted


@dataclass(frozen=True)
class Relation:
    """N = ceil(k5 · r + c5) workers at r requests/s; off: mean absolute error over the simulated rates, in workers.

    rates f8 (requests/s) and counts f8 (workers): what it was fitted to; mean_input, mean_output: of the lengths.
    """

    k5: float
    c5: float
    off: float
    rates: tuple[float, ...]
    counts: tuple[float, ...]

    def workers(self, requests_s: float) -> int:
        """At least one where anything comes."""
        if requests_s <= 0:
            return 0
        return max(1, math.ceil(self.k5 * requests_s + self.c5 - 1e-9))


def drawn(known: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """n of the known requests in an order of their own, with repeats where there are fewer; column predicted.

    predicted: the mean output of known requests with an input as long, as the policy's own predictor says it.
    """
    rng = np.random.default_rng([seed, 5])
    rows = rng.permutation(known.height)[:n] if known.height >= n else rng.integers(0, known.height, n)
    taken = known[rows]
    return taken.with_columns(predicted=pl.Series(InputBin.learn(known).predict(taken)))


def used(outcome: Outcome, pools: Sequence[Pool], cover: float) -> list[float]:
    """Workers in use in each pool: so many suffice at the share `cover` of instants; those that begin are left out.

    A worker is in use where a request is on it. Empty ones take nothing while others can: they may as well be gone.
    """
    placed_s = outcome.arrival_s + outcome.hold_s
    done = np.isfinite(outcome.done_s)
    times = np.linspace(outcome.arrival_s[len(placed_s) // 5], outcome.arrival_s[-1], LOOKS)
    stays = []  # (record, from, to) of every request on every worker
    moved = done & (outcome.prefilled > 0)
    stays.append((outcome.record[done & ~moved], placed_s[done & ~moved], outcome.done_s[done & ~moved]))
    stays.append((outcome.prefilled[moved] - 1, placed_s[moved], outcome.first_s[moved] + outcome.transfer_s[moved]))
    stays.append((outcome.record[moved], outcome.first_s[moved] + outcome.transfer_s[moved], outcome.done_s[moved]))
    record, since_s, until_s = (np.concatenate(part) for part in zip(*stays, strict=True))
    counts = np.zeros((len(pools), LOOKS))
    for number, pool in outcome.replicas.select("record", "pool").iter_rows():
        mine = record == number
        come, gone = np.sort(since_s[mine]), np.sort(until_s[mine])
        there = np.searchsorted(come, times, side="right") - np.searchsorted(gone, times, side="right")
        counts[pool] += there > 0
    return [float(np.quantile(one, cover, method="higher")) for one in counts]


def packed(
    fleet: Fleet, pools: Sequence[Pool], sample: pl.DataFrame, placement: Placement, requests_s: float, seed: int
) -> Outcome:
    """Poisson arrivals of the sample on as many workers of a service's pools as best fit opens, which start at once."""
    n = sample.height
    arrival_s = np.cumsum(np.random.default_rng([seed, 6]).exponential(1 / requests_s, n))
    zeros = np.zeros(n, np.int64)
    tier = sample["scored_tier"].replace_strict({t: k for k, t in enumerate(TIERS)}, return_dtype=pl.Int64)
    requests = Requests(
        arrival_s, zeros, sample["input_tokens"].to_numpy().astype(np.int64),
        sample["output_tokens"].to_numpy().astype(np.int64), sample["predicted"].to_numpy(), zeros,
        tier=tier.to_numpy(),
    )  # fmt: skip
    alone = Fleet(
        tuple(replace(pool, region="r", minimum=0, maximum=None, mixed=()) for pool in pools),
        kv_bandwidth_gb_s=fleet.kv_bandwidth_gb_s,
    )
    start = [1] * len(pools)
    return Replay(requests, alone, start, placement.router, instant_start=True, scales=True, seed=seed).run()


def fitted(rates: Sequence[float], counts: Sequence[float]) -> Relation:
    """Least squares; k5 above 0, so that more load never asks for less."""
    r, n = np.array(rates), np.array(counts)
    k5, c5 = np.polyfit(r, n, 1) if len(r) > 1 else (n[0] / r[0], 0.0)
    if k5 <= 0:
        k5, c5 = float((r * n).sum() / (r * r).sum()), 0.0
    return Relation(float(k5), float(c5), float(np.abs(k5 * r + c5 - n).mean()), tuple(rates), tuple(counts))


def relations(
    fleet: Fleet, pools: Sequence[Pool], known: pl.DataFrame, placement: Placement, worker_s: float, running: float,
    cover: float, seed: int = 0,
) -> list[Relation]:  # fmt: skip
    """A relation for each of a service's pools (its shared one, or its two lanes), all simulated together.

    known: service, scored_tier, input_tokens, output_tokens; worker_s: requests/s that a worker sustains, about;
    running: requests it then has. cover: share of the time that so many workers suffice.
    """
    rates, counts = [], []
    for times in RATES:
        n = int(np.clip(LIVES * times * max(running, 1.0), FEWEST, MOST))
        outcome = packed(fleet, pools, drawn(known, n, seed), placement, times * worker_s, seed)
        rates.append(times * worker_s)
        counts.append(used(outcome, pools, cover))
    return [fitted(rates, own) for own in zip(*counts, strict=True)]
