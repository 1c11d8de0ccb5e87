"""OServe against its own parts on the same GPUs: attainment, goodput and P99s of each ablation of its paper.

    .venv/bin/python benchmarks/oserve.py [SETTING ...]

Traces are looked for beside the checkout (../shared/traces). Prints the tables of docs/reproduction.md.
"""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from reproduce_replay import trace_file

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies.brought import suited
from lmaas.policies.inputs import Inputs
from lmaas.policies.oserve.fitted import Division, of_one_shape
from lmaas.policies.oserve.flow import assign
from lmaas.policies.oserve.search import fillings
from lmaas.policies.prepare import Prepared, prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy
from lmaas.replay.slo import parse_slos


@dataclass(frozen=True)
class Setting:
    """A trace, a shape to begin with, and the GPUs that every policy has."""

    trace: str
    profile: str
    load: float
    slo: str
    gpus: int


GPT = "gpt-oss-120b/h100/tp1/mxfp4"
SETTINGS = {
    "conversations, tight": Setting("azure-conv", GPT, 20.0, "ttft<1s, tpot<25ms", 16),
    "conversations, tight, overloaded": Setting("azure-conv", GPT, 24.0, "ttft<1s, tpot<25ms", 16),
    "conversations, lenient": Setting("azure-conv", "llama-3.1-70b/h200/tp1/fp8", 6.0, "ttft<2s, tpot<100ms", 16),
    "code": Setting("azure-code", "llama-3.1-70b/h200/tp1/fp8", 3.0, "ttft<2s, tpot<100ms", 16),
}
PARTS = {  # the paper's ablation, step by step; then what else is ours or could be
    "homogeneous, static": "deployment=homogeneous, switching=none, router=least-outstanding",
    "homogeneous, re-chosen, from disk": "deployment=homogeneous, switching=reload, router=least-outstanding",
    "heterogeneous, by load": "switching=reload, router=least-outstanding",
    "heterogeneous, by KV in use": "switching=reload, router=least-kv",
    "+ assignment": "switching=reload",
    "+ ad hoc switching: `oserve`": "",
    "without switching": "switching=none",
    "shares a replica, not a shape; queues or not": "router=weighted",
    "however small a mix's gain": "pooling=0",
    "true demand": "forecaster=truth",
    "true demand and lengths": "forecaster=truth, lengths=true",
}


def readied(setting: Setting) -> Prepared | None:
    """The trace made ready; None: it is not there."""
    path = trace_file(setting.trace)
    if path is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        trace = open_trace(str(path), Workspace.open(Path(name) / "home"), say=lambda text: None)
        return prepare(
            trace, slos=parse_slos((setting.slo,)), attain=0.99, profile=setting.profile, fleet=None,
            train_fraction=0.5, warmup_s=600.0, window_s=None, load=setting.load, seed=0,
        )  # fmt: skip


def least_full(division: Division, counts: tuple[int, ...]) -> float:
    """Utilisation of the fullest shape at the training part's last hour, beyond 1, too; inf: a type has no way."""
    runs = (division.capacity[np.array(counts) > 0] > 0).any(axis=0)
    if (division.demand[~runs] > 0).any():
        return np.inf
    return assign(division.capacity, np.array(counts), division.demand).pressure


def bound(division: Division) -> str:
    """What the flow itself promises: the best mixed deployment beside the best of one shape."""
    alike = min((least_full(division, counts) for counts in of_one_shape(division)), default=np.inf)
    mixed = min(least_full(division, counts) for counts in fillings(division.gpus, division.total))
    return f"utilisation by the flow {mixed:.2f} at best, {alike:.2f} with one shape"


def rows(setting: Setting, ready: Prepared) -> Iterator[str]:
    """A line a policy."""
    inputs = Inputs(ready)
    for label, parts in PARTS.items():
        text = f"oserve(gpus={setting.gpus}{', ' if parts else ''}{parts})"
        began = time.process_time()
        run = run_policy(parse_policy(text), ready, inputs, lambda share: None)
        s = run.scores
        print(f"{label}: {time.process_time() - began:.1f} s CPU", file=sys.stderr)
        yield (
            f"| {label} | {s['slo_attainment']:.2%} | {s['goodput_rps']:.1f} | {s['ttft_p99_s']:.2f} | "
            f"{1000 * s['tpot_p99_s']:.0f} | {s['e2e_p99_s']:.1f} | {s['scale_actions']} |"
        )


def main() -> None:
    """Measure and print."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("polars", "numba", "scipy", "xgboost-cpu"))
    print(f"{date.today()}, {platform.platform()}, {os.cpu_count()} cores, {versions}\n")
    for name in sys.argv[1:] or SETTINGS:
        setting = SETTINGS[name]
        ready = readied(setting)
        if ready is None:
            print(f"**{name}**: the trace is not there.\n")
            continue
        fitted, _ = suited(ready, parse_policy(f"oserve(gpus={setting.gpus})").policy, Inputs(ready))
        (division,) = fitted.history.own
        begins = ", ".join(f"{n} x TP {s.tp}" for s, n in zip(division.shapes, division.begins, strict=True) if n)
        print(
            f"**{name}**: {setting.gpus} GPUs, `{setting.profile}` and its kin, load {setting.load:g}x, {setting.slo}; "
            f"begins with {begins}; {bound(division)}.\n"
        )
        print("| | attained | goodput, requests/s | TTFT p99, s | TPOT p99, ms | E2E p99, s | actions |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for row in rows(setting, ready):
            print(row, flush=True)
        print()


if __name__ == "__main__":
    main()
