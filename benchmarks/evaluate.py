"""Five policies on 1 M requests, and where the time goes: `.venv/bin/python benchmarks/evaluate.py [--load 2.35]`.

The bundled sample with its arrivals scaled, default depth: what is learned, each policy's replay, the static fleet
beside it, intervals and worst windows, and the losses of N+1. One policy after another, CPU seconds; the kernel is
compiled beforehand.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies import evaluation

POLICIES = ["preserve"]
BASELINES = ["static-peak", "last-value", "hpa", "oracle"]


def timed(name: Callable[..., str], of: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    """The function, its CPU seconds noted under `name` of its arguments."""

    def run(*given: Any, **named: Any) -> Any:
        began = time.process_time()
        try:
            return of(*given, **named)
        finally:
            key = name(*given)
            spent[key] = spent.get(key, 0.0) + time.process_time() - began

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=float, default=2.35, help="times the sample's 425,595 requests")
    given = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("numba", "polars", "statsforecast", "xgboost-cpu"))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as folder:
        trace = open_trace(None, Workspace.open(Path(folder)), say=lambda line: None)
        evaluation.evaluate(trace, ["static(replicas=4)"], baselines=["none"], load=0.02)  # compiles, imports
        spent: dict[str, float] = {}
        stages = {
            "prepare": "learned once: rows, rates",
            "beside_policies": "static fleets",
            "collect": "intervals, worst windows",
            "with_spare": "N+1",
        }
        for name, label in stages.items():
            setattr(evaluation, name, timed(lambda *a, label=label: label, getattr(evaluation, name), spent))
        evaluation.run_policy = timed(lambda named, *a: named.name, evaluation.run_policy, spent)
        began, wall = time.process_time(), time.perf_counter()
        found = evaluation.evaluate(trace, POLICIES, baselines=BASELINES, load=given.load)
        whole, wall = time.process_time() - began, time.perf_counter() - wall
    arrived, policies = found.scores["arrived"][0], found.scores.height
    requests = given.load * trace.meta.rows_kept
    print(f"{requests:,.0f} requests, {arrived:,} of them evaluated, {policies} policies, {found.equal.height} static")
    print(f"fleets beside them: {whole:.1f} CPU s ({wall:.1f} s on the clock)")
    spent["all else"] = whole - sum(spent.values())
    for label, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {label:<28} {seconds:>6.1f} CPU s {seconds / whole:>6.0%}")


if __name__ == "__main__":
    main()
