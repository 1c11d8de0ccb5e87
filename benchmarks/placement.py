"""Aladdin's placements per second by the number of workers: `.venv/bin/python benchmarks/placement.py`.

Poisson arrivals at three quarters of what the workers sustain (benchmarks/kernel.py), a fleet that does not change.
A placement's cost is what the router adds to a replay: CPU seconds of the whole replay less those of the same requests
dealt round robin, best of several rounds taken in turn. Requests that had to wait for a worker are counted: each was
asked for again at every heartbeat, so that the router answered more often than it placed.
"""

import argparse
import platform
import time
from importlib.metadata import version

import numpy as np
from kernel import PROFILE, requests

from lmaas.replay.engine import Replay
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile

ROUTERS = ("round-robin", "least-requests", "aladdin")


def played(n: int, workers: int, router: str) -> tuple[float, np.ndarray]:
    """(CPU seconds, seconds held by request) of one replay."""
    replay = Replay(requests(n, workers), Fleet((Pool("s", "r", find_profile(PROFILE)),)), [workers], router)
    began = time.process_time()
    outcome = replay.run()
    return time.process_time() - began, outcome.hold_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.platform()}, {platform.machine()}, Python {platform.python_version()}, numba {version('numba')}")
    print(f"{'workers':>8}{'placements/CPU-s':>18}{'microseconds each':>19}{'whole replay/CPU-s':>20}{'held':>8}")
    for workers in given.workers:
        for router in ROUTERS:
            played(2000, workers, router)  # compiles or loads
        rounds = [{router: played(given.requests, workers, router) for router in ROUTERS} for _ in range(given.runs)]
        best = {router: min(one[router][0] for one in rounds) for router in ROUTERS}
        each_s = (best["aladdin"] - best["round-robin"]) / given.requests
        held = float((rounds[0]["aladdin"][1] > 0).mean())
        print(
            f"{workers:>8}{1 / each_s:>18,.0f}{1e6 * each_s:>19.1f}{given.requests / best['aladdin']:>20,.0f}"
            f"{held:>8.2%}  {best['aladdin'] / best['least-requests']:.1f} times a replay with least-requests"
        )


if __name__ == "__main__":
    main()
