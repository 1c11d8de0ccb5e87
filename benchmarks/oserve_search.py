"""OServe's search beside trying every deployment: `.venv/bin/python benchmarks/oserve_search.py`.

The four types of a mix of oserve_sweeps.py (S5) on 16 GPUs, whose replicas may have any TP and PP by powers of two;
demand at several shares of what the best deployment serves. Then drawn capacities (`drawn`; `--cases`). Times are CPU
seconds of one process, capacities known.
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
from lmaas.policies.oserve.search import FULL, WHOLE, Budget, Counts, Deployments, exhaustive, fillings, search
from lmaas.replay.estimating.estimate import estimate
from lmaas.replay.profile import Profile

SLO = ["ttft<10s, tpot<200ms"]
LOADS = (0.5, 0.8, 1.1, 1.5, 2.0)  # of what the best deployment serves
SHAPES = ((1, 2, 2, 4, 4, 4, 8, 8, 8, 8), (1, 2, 4, 8), (1, 2, 2, 4, 4, 8), (2, 4, 4, 8, 8, 16), (1, 1, 2, 2, 3, 4))
EXACT = 1e-6  # off the best by less is the best
SPREADS = (0.1, 0.3, 0.6, 1.0)  # standard deviation of the logarithm of what a shape serves of a type


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


def drawn(seed: int, gpus: int = 16) -> Budget:
    """Drawn capacities of one to eight types, and a demand: the seed says which shapes and how far they differ.

    A replica of g GPUs serves g to the power of 0.6 to 1.3 times as much as one of one, times a lognormal factor of one
    of SPREADS a type; up to 40 % of the pairs serve nothing. Demand is 0.3 to 2 times what GPUs would serve that were
    each part of the type's best shape.
    """
    rng = np.random.default_rng([gpus, seed])
    sizes, types = np.array([n for n in SHAPES[seed % len(SHAPES)] if n <= gpus]), int(rng.integers(1, 9))
    spread = SPREADS[seed // len(SHAPES) % len(SPREADS)]
    capacity = sizes[:, None] ** rng.uniform(0.6, 1.3, (len(sizes), 1)) * rng.lognormal(0, 1, types)
    capacity = capacity * rng.lognormal(0, spread, capacity.shape)
    capacity[1:] *= rng.random((len(sizes) - 1, types)) >= rng.choice([0.0, 0.15, 0.4])
    shares = rng.dirichlet(np.full(types, rng.choice([0.5, 2.0])))
    needed = float((shares / (capacity / sizes[:, None]).max(axis=0)).sum())
    return Budget(sizes, capacity, shares * rng.choice([0.3, 0.6, 0.9, 1.2, 2.0]) * gpus / needed, gpus)


def short(tried: Deployments, found: Counts, best: Counts) -> float:
    """Share by which `found` serves less than `best`; where both serve all, by which its fullest shape is fuller."""
    served, most = tried.value(found)[0], tried.value(best)[0]
    if served < (1 - FULL) * most or tried.flow(best).left.sum() > FULL * tried.budget.demand.sum():
        return 1 - served / most
    return tried.flow(found).peak / tried.flow(best).peak - 1


def on_drawn(cases: int, gpus: int) -> None:
    """A line a number of deployments: how the search does, with all in view and by its moves alone."""
    rows: dict[int, list[list[float]]] = {}
    for seed in range(cases):
        budget, off, solved, took_s = drawn(seed, gpus), [], [], []
        began = time.process_time()
        best = exhaustive(budget)
        all_s = time.process_time() - began
        for whole in (WHOLE, 0):
            tried, began = Deployments(budget), time.process_time()
            found = search(budget, deployments=tried, whole=whole)
            took_s.append(time.process_time() - began)
            solved.append(len(tried.known))
            off.append(short(tried, found, best))
        every = sum(1 for _ in fillings(budget.gpus, gpus))
        rows.setdefault(every, []).append([*off, *solved, all_s / took_s[0], all_s / took_s[1]])
    print(f"\n{gpus} GPUs, drawn capacities; in brackets by moves alone, without all deployments in view\n")
    print("| deployments | cases | the best found | worst | solved, most | times as fast: median | least |")
    print("|" + "---|" * 7)
    for every, found_rows in sorted(rows.items()):
        of = np.array(found_rows)
        exact, worst, most = (of[:, :2] < EXACT).mean(axis=0), of[:, :2].max(axis=0), of[:, 2:4].max(axis=0)
        half, least = np.median(of[:, 4:], axis=0), of[:, 4:].min(axis=0)
        print(
            f"| {every} | {len(of)} | {exact[0]:.1%} ({exact[1]:.1%}) | {worst[0]:.2%} ({worst[1]:.2%}) | "
            f"{most[0]:.0f} ({most[1]:.0f}) | {half[0]:.1f} ({half[1]:.1f}) | {least[0]:.1f} ({least[1]:.1f}) |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="opt-30b")
    parser.add_argument("--gpu", default="h100")
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--mix", default="S5", choices=[mix.name for mix in MIXES])
    parser.add_argument("--cases", type=int, default=100, help="drawn ones, of each number of GPUs")
    parser.add_argument("--drawn", type=int, action="append", help="GPUs of drawn cases; default: 8, 12 and 16")
    given = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, numpy {version('numpy')}, scipy {version('scipy')}\n")
    compared(next(mix for mix in MIXES if mix.name == given.mix), given.model, given.gpu, given.gpus)
    for gpus in given.drawn or (8, 12, 16):
        on_drawn(given.cases, gpus)


if __name__ == "__main__":
    main()
