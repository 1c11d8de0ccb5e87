"""OServe's sensitivity to mixes, on generated traces: `.venv/bin/python benchmarks/oserve_sweeps.py`.

Spatial (S1 to S5): four request types side by side whose lengths differ more and more. Temporal (T1 to T4): the same
types, whose shares change more and more over twenty minutes. GPUs of one kind; every policy's throughput is the highest
load at which it attains the target, by replays at loads around what one shape serves by OServe's flow. `--policy`
(repeated) compares others, the first with the second; `--only S5` plays one mix.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from lmaas.analysis.errors import UserError
from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies.inputs import Inputs
from lmaas.policies.oserve.capacity import capacities
from lmaas.policies.oserve.flow import assign
from lmaas.policies.oserve.search import fillings
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy
from lmaas.replay.estimating.estimate import estimate
from lmaas.replay.profile import Profile
from lmaas.replay.rates import Mix as Lengths
from lmaas.replay.slo import NO_TIER, parse_slos, thresholds

# the paper's coefficients of variation at both ends, and its gains there; of T it gives the gains alone
SPATIAL, TEMPORAL = (0.112, 0.256, 0.400, 0.544, 0.688), (0.112, 0.304, 0.496, 0.688)
PAPER = {"S1": "1.14x", "S5": "2.66x", "T1": "1.23x", "T4": "1.98x"}
INPUT_TOKENS, OUTPUT_TOKENS = 1000.0, 250.0  # means of every mix
JITTER = 0.1  # of a length around its type's, lognormal
TURN_S = 1200.0  # until the shares are as they were
MINUTES = (20, 20)  # of training, of evaluation
# true lengths: outputs are drawn whatever the input, so that nobody could foretell them
POLICIES = (
    "oserve(lengths=true)",
    "homogeneous(lengths=true)",
    "homogeneous(lengths=true)+round-robin",
    "homogeneous(lengths=true, reload=true, period_s=300)",
)
LOADS = (0.72, 0.84, 0.94, 1.04, 1.14)  # of what equal replicas of the best shape serve by the flow
MOST_RATE = 2000.0  # requests/s


@dataclass(frozen=True)
class Mix:
    """Lengths' and shares' coefficients of variation: of input and output tokens each over requests, of a type's rate
    over time."""

    name: str
    lengths: float
    shares: float

    @property
    def types(self) -> list[tuple[float, float]]:
        """(input, output) tokens: each as far below its mean as above it, so that the coefficient is `lengths`."""
        apart = (1 - self.lengths, 1 + self.lengths)
        return [(INPUT_TOKENS * i, OUTPUT_TOKENS * o) for i, o in product(apart, apart)]


MIXES = [Mix(f"S{k}", cv, 0.0) for k, cv in enumerate(SPATIAL, 1)]
MIXES += [Mix(f"T{k}", SPATIAL[3], cv) for k, cv in enumerate(TEMPORAL, 1)]


def drawn(mix: Mix, requests_s: float, seed: int = 0) -> pl.DataFrame:
    """A trace at a constant rate; a type's share is 1/4 · (1 + √2 · shares · cos), a quarter turn after the last's."""
    rng = np.random.default_rng(seed)
    span_s = 60.0 * sum(MINUTES)
    n = rng.poisson(requests_s * span_s)
    arrival = np.sort(rng.uniform(0, span_s, n))
    turn = 2 * np.pi * (arrival[:, None] / TURN_S - np.arange(4) / 4)
    upto = np.cumsum((1 + 2**0.5 * mix.shares * np.cos(turn)) / 4, axis=1)
    kind = np.minimum((rng.random(n)[:, None] > upto).sum(axis=1), 3)
    lengths = np.array(mix.types)[kind] * rng.lognormal(-(JITTER**2) / 2, JITTER, (n, 2))
    tokens = np.maximum(1, np.rint(lengths)).astype(np.int64)
    return pl.DataFrame({"arrival_s": arrival, "input_tokens": tokens[:, 0], "output_tokens": tokens[:, 1]})


def shapes(model: str, gpu: str) -> list[Profile]:
    """Replicas of one to eight GPUs of a node, estimated, that the model fits."""
    found = []
    for tp in (1, 2, 4, 8):
        try:
            found.append(estimate(model, gpu, tp))
        except UserError:
            continue
    return found


def fleet_file(given: argparse.Namespace, folder: Path) -> Path:
    """One pool whose replicas may have any of the shapes, and its GPUs."""
    made = shapes(given.model, given.gpu)
    for profile in made:
        (folder / f"tp{profile.tp}.json").write_text(profile.model_dump_json())
    files = [str(folder / f"tp{profile.tp}.json") for profile in made]
    pool = {"service": "default", "min": 1, "mixed": [{"profile": name, "replicas": 0} for name in files[1:]]}
    content = {
        "services": {"default": {"profile": files[0]}},
        "regions": {"default": {"gpus": {str(made[0].gpu): given.gpus}}},
        "pools": [pool],
    }
    path = folder / "fleet.yaml"
    path.write_text(json.dumps(content))
    return path


@dataclass(frozen=True)
class Played:
    """One replay: share that attained, 99th percentile of E2E in seconds, what the policy said of itself."""

    attained: float
    e2e_p99_s: float
    notes: tuple[str, ...]


def played(mix: Mix, requests_s: float, given: argparse.Namespace) -> list[Played]:
    """Every policy on the mix at a rate."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn(mix, requests_s).write_parquet(folder / "mix.parquet")
        trace = open_trace(str(folder / "mix.parquet"), Workspace.open(folder / "home"), say=lambda text: None)
        ready = prepare(
            trace, slos=parse_slos(given.slo), attain=given.attain, profile=None, fleet=fleet_file(given, folder),
            train_fraction=MINUTES[0] / sum(MINUTES), warmup_s=300.0, window_s=60.0, load=1.0, seed=0,
        )  # fmt: skip
        inputs, found = Inputs(ready), []
        for text in given.policy:
            policy, _, router = text.partition("+")
            run = run_policy(parse_policy(policy, router or None), ready, inputs, lambda share: None)
            found.append(Played(run.scores["slo_attainment"], run.scores["e2e_p99_s"], run.notes))
    return found


def limits_of(slo: list[str]) -> tuple[float, float, float]:
    """TTFT, TPOT and E2E, s."""
    asked = thresholds(parse_slos(slo), "default", NO_TIER)
    ttft, tpot, e2e = (np.inf if limit is None else limit for limit in (asked.ttft_s, asked.tpot_s, asked.e2e_s))
    return ttft, tpot, e2e


def parts(mix: Mix, slo: list[str]) -> list[Lengths]:
    """Requests of each type, to load-test with."""
    rng, found = np.random.default_rng(1), []
    for lengths in mix.types:
        tokens = np.maximum(1, np.array(lengths) * rng.lognormal(0, JITTER, (4000, 2))).astype(np.int64)
        limits = [np.full(len(tokens), limit) for limit in limits_of(slo)]
        found.append(Lengths(tokens[:, 0], tokens[:, 1], *limits, np.zeros(len(tokens), np.int64)))
    return found


def by_flow(mix: Mix, given: argparse.Namespace) -> tuple[float, float]:
    """Requests/s of the mix that OServe's flow serves at most: with replicas of one shape, with any deployment."""
    made = shapes(given.model, given.gpu)
    gpus = np.array([profile.gpus_per_replica for profile in made])
    capacity = capacities(made, parts(mix, given.slo), given.attain)

    def most(deployments: list[tuple[int, ...]]) -> float:
        low, high = 0.0, MOST_RATE
        while high - low > 1e-3 * high:
            rate = (low + high) / 2
            flows = (assign(capacity, np.array(counts), np.full(4, rate / 4)) for counts in deployments)
            full = any(flow.left.sum() <= 1e-6 * rate for flow in flows)
            low, high = (rate, high) if full else (low, rate)
        return low

    filled = list(fillings(gpus, given.gpus))
    return most([counts for counts in filled if sum(n > 0 for n in counts) == 1]), most(filled)


def highest(rates: list[float], attained: list[float], target: float) -> float:
    """The rate at which attainment falls below the target, between two replays in proportion; inf: at none of them."""
    below = [k for k, share in enumerate(attained) if share < target]
    if not below:
        return np.inf
    k = below[0]
    if k == 0:
        return 0.0
    step = (attained[k - 1] - target) / max(attained[k - 1] - attained[k], 1e-12)
    return rates[k - 1] + step * (rates[k] - rates[k - 1])


def row(mix: Mix, given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The mix's line of the table, and what the policies deployed."""
    alike, any_ = by_flow(mix, given)
    rates = [alike * load for load in LOADS]
    runs: list[list[Played]] = []
    for rate in rates:
        runs.append(played(mix, rate, given))
        if all(one.attained < given.attain for one in runs[-1]):
            break
    best = [highest(rates, [run[k].attained for run in runs], given.attain) for k in range(len(given.policy))]
    at = max((k for k, run in enumerate(runs) if run[1].attained >= given.attain), default=0)
    first, second = runs[at][:2]
    cells = [mix.name, f"{mix.lengths:.3f}", f"{mix.shares:.3f}", *(f"{rate:.2f}" for rate in best)]
    cells += [f"{best[0] / best[1]:.2f}x" if best[1] else "–", f"{second.e2e_p99_s / first.e2e_p99_s:.2f}x"]
    cells += [f"{any_ / alike:.2f}x", PAPER.get(mix.name, "–")]
    notes = [f"{mix.name} {text}: {'; '.join(one.notes)}" for text, one in zip(given.policy, runs[at], strict=True)]
    return cells, notes


def main() -> None:
    """The table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", help="the first is compared with the second")
    parser.add_argument("--model", default="opt-30b")
    parser.add_argument("--gpu", default="h100")
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--slo", action="append", help="default: TTFT 10 s, TPOT 200 ms")
    parser.add_argument("--attain", type=float, default=0.99)
    parser.add_argument("--only", action="append", help="such as S5")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    given.policy, given.slo = given.policy or list(POLICIES), given.slo or ["ttft<10s, tpot<200ms"]
    if len(given.policy) < 2:
        parser.error("--policy: name two at least")
    chosen = [mix for mix in MIXES if not given.only or mix.name in given.only]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"numpy {version('numpy')}, numba {version('numba')}; {given.gpus} {given.gpu} of {given.model}, "
          f"{'; '.join(given.slo)}, {given.attain:.0%}\n")  # fmt: skip
    head = ["mix", "CV of lengths", "CV of shares", *given.policy, "throughput", "P99", "flow's bound", "paper"]
    print("|", " | ".join(head), "|\n|" + "---|" * len(head), flush=True)
    began, said = time.perf_counter(), []
    with ProcessPoolExecutor(given.jobs) as pool:
        for cells, notes in pool.map(row, chosen, [given] * len(chosen)):
            print("|", " | ".join(cells), "|", flush=True)
            said += notes
    print("\n" + "\n".join(said) + f"\n\n{time.perf_counter() - began:,.0f} s")


if __name__ == "__main__":
    main()
