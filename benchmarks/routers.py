"""Requests replayed per CPU-second by router and fleet size: `.venv/bin/python benchmarks/routers.py`.

Poisson arrivals at three quarters of what the fleet sustains, sessions of ten requests, no block hashes. Routers that
look at every replica at each arrival are marked `linear`: their rate falls with the fleet. Then ratios, of times taken
in turn in the same run: a user's copy of a built-in router, loaded from a file, over the built-in one; and one routing
function (fewest requests, by a scan) that declares views it does not read, over itself declaring none. CPU seconds of
this process, single thread, the best of `--runs`.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from kernel import PROFILE, requests

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile
from lmaas.replay.routernames import find_router
from lmaas.replay.routers import ROUTERS, Router

LINEAR = (
    "least-kv",
    "llumnix",
    "weighted",
    "session-affinity",
    "prefix-aware",
    "scored",
    "preserve-anticipated",
    "aladdin",
)
COPIES = ("power-of-two", "least-kv", "scored", "aladdin")
VIEWS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "token columns": {"tokens": True},
    "cached prefixes": {"prefix": True},
    "100 iterations ahead": {"ahead": 100},
    "requests in flight": {"flight": True},
}


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


def seconds(table: Requests, replicas: int, router: str | Router) -> float:
    """CPU seconds of one replay."""
    replay = Replay(table, Fleet((Pool("s", "r", find_profile(PROFILE)),)), [replicas], router)
    began = time.process_time()
    replay.run()
    return time.process_time() - began


def in_turn(table: Requests, replicas: int, routers: Mapping[str, str | Router], runs: int) -> dict[str, float]:
    """CPU seconds by router, the best of several rounds in which each runs once."""
    for router in routers.values():
        seconds(requests(2000, replicas), replicas, router)  # compiles or loads
    rounds = [{name: seconds(table, replicas, router) for name, router in routers.items()} for _ in range(runs)]
    return {name: min(one[name] for one in rounds) for name in routers}


def table_of(n: int, replicas: int) -> Requests:
    """Requests with sessions of ten."""
    table = requests(n, replicas)
    return replace(table, session=np.random.default_rng(1).integers(0, max(n // 10, 1), n))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--replicas", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.platform()}, {platform.machine()}, Python {platform.python_version()}, numba {version('numba')}")
    with tempfile.TemporaryDirectory() as folder:
        routers: dict[str, str | Router] = {name: name for name in ROUTERS}
        routers |= {f"{name}, a user's file": users_copy(name, Path(folder)) for name in COPIES}
        scan = replace(find_router("least-requests"), weights=None)
        routers |= {f"declares {what}": replace(scan, **asked) for what, asked in VIEWS.items()}
        taken = {n: in_turn(table_of(given.requests, n), n, routers, given.runs) for n in given.replicas}
    print(f"{'router':<34}" + "".join(f"{n:>12}" for n in given.replicas) + "  thousand requests/CPU-s by replicas")
    for name in routers:
        cells = "".join(f"{given.requests / taken[n][name] / 1e3:>12,.0f}" for n in given.replicas)
        print(f"{name:<34}" + cells + ("  linear" if name.split(",")[0] in LINEAR else ""))
    print("times over:")
    pairs = [(f"{name}, a user's file", name) for name in COPIES]
    pairs += [(f"declares {what}", "declares nothing") for what in VIEWS]
    for name, other in pairs:
        cells = "".join(f"{taken[n][name] / taken[n][other]:>12.2f}" for n in given.replicas)
        print(f"{name:<34}{cells}  over {other}")


if __name__ == "__main__":
    main()
