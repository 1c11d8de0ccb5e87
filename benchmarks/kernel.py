"""Requests replayed per second, kernel alone: `.venv/bin/python benchmarks/kernel.py [--requests 1000000]`.

Prints machine, versions, and for 16, 64 and 256 replicas of one pool the rate by router, beside the
one-iteration-at-a-time reference on the same first requests in the same run. CPU seconds, one thread.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reference import Fleet as SlowFleet
from reference import Latency, Replica, Request, Shape

from lmaas.replay.engine import Controller, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import Actions, Seen

PROFILE = "llama-3.1-8b/h100/tp1"
RATE = 9.0  # requests/s a replica: about three quarters of what it sustains
ROUTERS = ("round-robin", "least-requests", "least-outstanding", "preserve")


def requests(n: int, replicas: int, seed: int = 0) -> Requests:
    """Poisson arrivals, lognormal lengths (median 735 in, 148 out)."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / (RATE * replicas), n))
    inputs = np.clip(rng.lognormal(6.6, 1, n), 1, 8000).astype(np.int64)
    outputs = np.clip(rng.lognormal(5, 0.8, n), 1, 2000).astype(np.int64)
    zeros = np.zeros(n, np.int64)
    return Requests(arrival, zeros, inputs, outputs, np.full(n, 200.0), zeros)


class Timed(Replay):
    """A replay that knows the CPU seconds of its kernel calls."""

    inside_s = 0.0

    def _ask(self, what: int, t: float, which: int) -> int:
        began = time.process_time()
        try:
            return super()._ask(what, t, which)
        finally:
            self.inside_s += time.process_time() - began


def fast(table: Requests, replicas: int, router: str) -> tuple[float, float]:
    """CPU seconds of one replay: all of it, and within kernel calls (the rest hands over and gathers)."""
    replay = Timed(table, Fleet((Pool("s", "r", find_profile(PROFILE)),)), [replicas], router)
    replay.inside_s, began = 0.0, time.process_time()
    replay.run()
    return time.process_time() - began, replay.inside_s


def slow(table: Requests, replicas: int, router: str, n: int) -> float:
    """CPU seconds of the reference on the first n requests."""
    profile = find_profile(PROFILE)
    lat = profile.latency
    shape = Shape(
        Latency(
            lat.base, lat.token_knots, lat.token_slopes, lat.attn_pair, lat.prefix_kv, lat.decode_seq, lat.decode_kv
        ),
        profile.kv_tokens,
        profile.block,
        profile.max_batch_tokens,
        profile.max_seqs,
    )
    fleet = SlowFleet([Replica(0, i, shape) for i in range(replicas)], router)
    columns = (table.arrival_s, table.pool, table.input_tokens, table.output_tokens)
    rows = [Request(k, float(columns[0][k]), *(int(c[k]) for c in columns[1:]), 200) for k in range(n)]
    began = time.process_time()
    fleet.run(rows)
    return time.process_time() - began


def nine_pools(n: int, per_pool: int, tick_s: float = 10.0) -> tuple[float, float]:
    """CPU seconds: three services x three regions, a token-aware router, a reactive scaler that looks every tick_s."""
    one = requests(n, 9 * per_pool)
    table = replace(one, pool=np.random.default_rng(1).integers(0, 9, n))
    profile = find_profile(PROFILE)
    pools = tuple(Pool(f"s{k // 3}", f"r{k % 3}", profile) for k in range(9))

    def act(t: float, seen: Seen) -> Actions:
        """One more where under a tenth of the places are free, one less where most are."""
        present = (seen.running + seen.waiting) / np.maximum(seen.active, 1)
        wanted = seen.active + seen.starting + (present > 60) - (present < 20)
        return Actions({p: int(max(w, 1)) for p, w in enumerate(wanted)})

    replay = Timed(table, Fleet(pools), [per_pool] * 9, "least-outstanding", Controller(lambda t: t + tick_s, act))
    replay.inside_s, began = 0.0, time.process_time()
    replay.run()
    return time.process_time() - began, replay.inside_s


def first_call(cache: str) -> str:
    """Seconds until the kernel may be called, in a process of its own, numba's import not counted."""
    program = """if True:
        import numba, time, lmaas.replay.columns
        wall, cpu = time.perf_counter(), time.process_time()
        import lmaas.replay.kernel.loop
        print(f"in {time.perf_counter() - wall:.1f} s ({time.process_time() - cpu:.1f} CPU-s)")
    """
    env = {**os.environ, "NUMBA_CACHE_DIR": cache}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout[
        :-1
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--reference", type=int, default=300, help="requests of the one-by-one loop")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.platform()}, {platform.processor() or platform.machine()}, Python {platform.python_version()}, "
          f"numba {version('numba')}, numpy {version('numpy')}")  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        print(f"kernel compiled {first_call(cache)}; loaded from the cache {first_call(cache)}")
    fast(requests(1000, 2), 2, "round-robin")
    print("M requests/CPU-s, best run:")
    print(f"{'replicas':>8} {'router':<18} {'kernel':>8} {'replay':>8} {'one by one, /CPU-s':>19} {'ratio':>8}")
    for replicas in (16, 64, 256):
        table = requests(given.requests, replicas)
        for router in ROUTERS:
            whole, inside = best([fast(table, replicas, router) for _ in range(given.runs)], given.requests)
            loop = given.reference / slow(table, replicas, router, given.reference)
            rates = f"{inside / 1e6:>8.2f} {whole / 1e6:>8.2f} {loop:>19.0f} {whole / loop:>8.0f}"
            print(f"{replicas:>8} {router:<18} {rates}", flush=True)
    whole, inside = best([nine_pools(given.requests, 8) for _ in range(given.runs)], given.requests)
    what = "nine pools of about 8, least-outstanding, scaled every 10 s"
    print(f"{what}: kernel {inside / 1e6:.2f}, replay {whole / 1e6:.2f}")


def best(runs: list[tuple[float, float]], n: int) -> tuple[float, float]:
    """Requests per CPU second of the best of the runs, (all, kernel)."""
    return n / min(run[0] for run in runs), n / min(run[1] for run in runs)


if __name__ == "__main__":
    main()
