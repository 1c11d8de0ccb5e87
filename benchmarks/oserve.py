"""OServe against its own parts and its paper's baselines on the same GPUs: attainment, goodput, P99s and GPU-hours.

    .venv/bin/python benchmarks/oserve.py [SETTING ...]

Traces are looked for beside the checkout (../shared/traces). Prints the tables of docs/reproduction.md.
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
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
from lmaas.replay.slo import NO_TIER, parse_slos, thresholds


@dataclass(frozen=True)
class Setting:
    """Traces of the same hour as one, a shape to begin with, and the GPUs that every policy has."""

    traces: tuple[str, ...]
    profile: str
    load: float
    slo: str
    gpus: int


GPT = "gpt-oss-120b/h100/tp1/mxfp4"
SETTINGS = {
    "conversations, tight": Setting(("azure-conv",), GPT, 20.0, "ttft<1s, tpot<25ms", 16),
    "conversations, tight, overloaded": Setting(("azure-conv",), GPT, 24.0, "ttft<1s, tpot<25ms", 16),
    "conversations, lenient": Setting(("azure-conv",), "llama-3.1-70b/h200/tp1/fp8", 6.0, "ttft<2s, tpot<100ms", 16),
    "code": Setting(("azure-code",), "llama-3.1-70b/h200/tp1/fp8", 3.0, "ttft<2s, tpot<100ms", 16),
    "conversations and code": Setting(("azure-conv", "azure-code"), GPT, 14.0, "ttft<1s, tpot<25ms", 16),
}
PARTS = {  # the paper's ablation, step by step; then what else is ours or could be
    "homogeneous, static": "deployment=homogeneous, switching=none, router=least-outstanding",
    "homogeneous, static, round robin": "deployment=homogeneous, switching=none, router=round-robin",
    "homogeneous, static, least requests": "deployment=homogeneous, switching=none, router=least-requests",
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
BASELINES = {  # on replicas of the best single shape: policy, whether their number may fall
    "Llumnix, constant, migrating": ("llumnix(migrate=true)", False),
    "NVIDIA Dynamo's planner": ("dynamo(tpot_s={tpot_s})", True),
}


def readied(setting: Setting, fleet: Path | None = None) -> Prepared | None:
    """The trace made ready; None: it is not there."""
    paths = [path for name in setting.traces if (path := trace_file(name)) is not None]
    if len(paths) < len(setting.traces):
        return None
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "trace.csv"
        pl.concat([pl.read_csv(path) for path in paths]).sort("TIMESTAMP").write_csv(path)
        trace = open_trace(str(path), Workspace.open(Path(name) / "home"), say=lambda text: None)
        return prepare(
            trace, slos=parse_slos((setting.slo,)), attain=0.99, profile=setting.profile, fleet=fleet,
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
        yield row(label, f"oserve(gpus={setting.gpus}{', ' if parts else ''}{parts})", ready, inputs)
    for label, (text, may_fall) in BASELINES.items():
        alike = of_best_shape(setting, ready, inputs, may_fall)
        limits = thresholds(parse_slos((setting.slo,)), "default", NO_TIER)
        yield row(label, text.format(tpot_s=limits.tpot_s), alike, Inputs(alike))


def row(label: str, text: str, ready: Prepared, inputs: Inputs) -> str:
    """One replay's."""
    began = time.process_time()
    s = run_policy(parse_policy(text), ready, inputs, lambda share: None).scores
    print(f"{label}: {time.process_time() - began:.1f} s CPU", file=sys.stderr)
    return (
        f"| {label} | {s['slo_attainment']:.2%} | {s['goodput_rps']:.1f} | {s['ttft_p99_s']:.2f} | "
        f"{1000 * s['tpot_p99_s']:.0f} | {s['e2e_p99_s']:.1f} | {s['gpu_hours_provisioned']:.2f} | "
        f"{s['scale_actions']} |"
    )


def of_best_shape(setting: Setting, ready: Prepared, inputs: Inputs, may_fall: bool) -> Prepared:
    """The same trace on as many replicas of the best single shape as the GPUs hold, at most."""
    fitted, _ = suited(ready, parse_policy(f"homogeneous(gpus={setting.gpus})").policy, inputs)
    (pool,) = fitted.fleet.pools
    with tempfile.TemporaryDirectory() as name:
        profile, fleet = Path(name) / "shape.json", Path(name) / "fleet.yaml"
        profile.write_text(pool.profile.model_dump_json())
        n = pool.initial
        counts = {"replicas": n, "min": 1 if may_fall else n, "max": n}
        fleet.write_text(json.dumps({"pools": [{"service": pool.service, **counts}]}))
        alike = readied(replace(setting, profile=str(profile)), fleet)
    assert alike is not None
    return alike


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
        print("| | attained | goodput, requests/s | TTFT p99, s | TPOT p99, ms | E2E p99, s | GPU-hours | actions |")
        print("|" + " --- |" * 8)
        for line in rows(setting, ready):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
