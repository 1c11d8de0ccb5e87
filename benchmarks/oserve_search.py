"""OServe's search beside trying every deployment: `.venv/bin/python benchmarks/oserve_search.py`.

The four types of a mix of oserve_sweeps.py (S5) on 16 GPUs, whose replicas may have any TP and PP by powers of two;
demand at several shares of what the best deployment serves. Times are CPU seconds of one process, capacities known.
"""

import argparse
import os
import platform
import time
from importlib.metadata import version

import numpy as np
from oserve_sweeps import MIXES, Mix, parts

from lmaas.analysis.errors import UserError
from lmaas.policies.oserve.capacity import capacities
from lmaas.policies.oserve.search import Budget, Deployments, exhaustive, fillings, search
from lmaas.replay.estimating.estimate import estimate
from lmaas.replay.profile import Profile

SLO = ["ttft<10s, tpot<200ms"]
LOADS = (0.5, 0.8, 1.1, 1.5, 2.0)  # of what the best deployment serves


def shapes(model: str, gpu: str, most: int) -> list[Profile]:
    """Estimated replicas of up to `most` GPUs, TP within a node of eight, times PP."""
    found = []
    for tp in (1, 2, 4, 8):
        for pp in (1, 2, 4, 8, 16):
            if tp * pp <= most:
                try:
                    found.append(estimate(model, gpu, tp, pp))
                except UserError:
                    continue
    return found


def best(made: list[Profile], capacity: np.ndarray, gpus: int) -> float:
    """Requests/s of the mix that the best deployment serves."""
    budget = Budget(np.array([p.gpus_per_replica for p in made]), capacity, np.full(4, 1.0), gpus)
    tried = Deployments(budget)
    return max(4 / tried.flow(counts).pressure for counts in fillings(budget.gpus, gpus) if _all(capacity, counts))


def _all(capacity: np.ndarray, counts: tuple[int, ...]) -> bool:
    """Whether every type has a shape that serves it."""
    return bool((capacity[np.array(counts) > 0] > 0).any(axis=0).all())


def compared(mix: Mix, model: str, gpu: str, gpus: int) -> None:
    """A line a load."""
    made = shapes(model, gpu, gpus)
    capacity = capacities(made, parts(mix, SLO), 0.99)
    size, most = np.array([p.gpus_per_replica for p in made]), best(made, capacity, gpus)
    print(f"{model} on {gpu}, {mix.name}: {len(made)} shapes, {sum(1 for _ in fillings(size, gpus)):,} deployments\n")
    print("| load | solved | search, s | exhaustive, s | times as fast | served, of the best | fullest, of the best |")
    print("|" + "---|" * 7)
    for load in LOADS:
        budget = Budget(size, capacity, np.full(4, load * most / 4), gpus)
        began = time.process_time()
        tried = Deployments(budget)
        found = search(budget, deployments=tried)
        took_s, began = time.process_time() - began, time.process_time()
        optimum = exhaustive(budget)
        all_s = time.process_time() - began
        served = tried.value(found)[0] / tried.value(optimum)[0]
        fuller = tried.flow(found).pressure / tried.flow(optimum).pressure
        print(
            f"| {load:g} | {len(tried.known)} | {took_s:.2f} | {all_s:.2f} | {all_s / took_s:.1f} | {served:.4f} | "
            f"{fuller:.4f} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="opt-30b")
    parser.add_argument("--gpu", default="h100")
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--mix", default="S5", choices=[mix.name for mix in MIXES])
    given = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, numpy {version('numpy')}, scipy {version('scipy')}\n")
    compared(next(mix for mix in MIXES if mix.name == given.mix), given.model, given.gpu, given.gpus)


if __name__ == "__main__":
    main()
