"""Requests replayed per CPU-second by router and fleet size: `.venv/bin/python benchmarks/routers.py`.

Poisson arrivals at three quarters of what the fleet sustains, sessions of ten requests, no block hashes. Routers that
look at every replica at each arrival are marked `linear`: their rate falls with the fleet. A user's copy of a built-in
router, loaded from a file, stands beside it. CPU seconds of this process, single thread, the best of `--runs`.
"""

import argparse
import platform
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from kernel import PROFILE, requests

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile
from lmaas.replay.routers import ROUTERS

LINEAR = ("least-kv", "weighted", "session-affinity", "prefix-aware", "scored")
COPIES = ("power-of-two", "least-kv", "scored")


def users_copy(name: str, folder: Path) -> str:
    """A built-in router's source as a user's file."""
    source = Path(ROUTERS.load(name).route.py_func.__code__.co_filename)
    text = (
        source.read_text()
        .replace("from .. import", "from lmaas.replay import")
        .replace("from ..", "from lmaas.replay.")
    )
    copy = folder / f"my_{source.name}"
    copy.write_text(text.replace("from .steps", "from lmaas.replay.routing.steps"))
    return f"{copy}:ROUTER"


def rate(table: Requests, replicas: int, router: str, runs: int) -> float:
    """Requests per CPU-second."""
    best = np.inf
    for _ in range(runs):
        replay = Replay(table, Fleet((Pool("s", "r", find_profile(PROFILE)),)), [replicas], router)
        began = time.process_time()
        replay.run()
        best = min(best, time.process_time() - began)
    return len(table) / best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--replicas", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.platform()}, {platform.machine()}, Python {platform.python_version()}, numba {version('numba')}")
    print(f"{'router':<30}" + "".join(f"{n:>12}" for n in given.replicas) + "  thousand requests/CPU-s by replicas")
    with tempfile.TemporaryDirectory() as folder:
        texts = [(name, name) for name in ROUTERS]
        texts += [(f"{name}, a user's file", users_copy(name, Path(folder))) for name in COPIES]
        for label, text in texts:
            cells = []
            for replicas in given.replicas:
                table = requests(given.requests, replicas)
                table = replace(table, session=np.random.default_rng(1).integers(0, len(table) // 10, len(table)))
                rate(requests(2000, replicas), replicas, text, 1)  # compiles or loads
                cells.append(f"{rate(table, replicas, text, given.runs) / 1e3:>12,.0f}")
            print(f"{label:<30}" + "".join(cells) + ("  linear" if label.split(",")[0] in LINEAR else ""), flush=True)


if __name__ == "__main__":
    main()
