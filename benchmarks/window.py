"""Window fidelity, its speed and its agreement with the replay: `.venv/bin/python benchmarks/window.py`.

First 1,000 settings over two weeks of five-minute windows, by parts. Then the same policies at both fidelities on the
bundled sample and on two traces resampled from ServeGen (where ../shared is), with a verdict a bound.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.trace import Trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies import evaluate
from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import prepare
from lmaas.policies.preserve import PreServe
from lmaas.policies.window import Windows

ROOT = Path(__file__).resolve().parent.parent
RESAMPLE = ROOT.parent / "shared" / "traces" / "servegen" / "resample.py"
HOURS, POINTS, RANK = 0.05, 0.03, 0.8  # the bounds: GPU-hours, attainment, rank correlation over policies
PLANNED = ("preserve", "last-value", "oracle")
POLICIES = (
    "preserve(tier2=false)", "preserve(tier2=false,headroom=-0.3)", "preserve(tier2=false,headroom=0.25)",
    "preserve(tier2=false,headroom=0.5)", "preserve(tier2=false,headroom=1.0)", "last-value",
    "last-value(headroom=0.5)", "oracle", "static-peak", "static-mean", "hpa", "hpa(target=4)",
    "hpa(target=8)", "hpa(target=16)",
)  # fmt: skip
# profiles that make the busiest pools range over several replicas: with large GPUs every policy runs one a pool
RESAMPLED = (
    ("servegen, 3/s, seed 1", ("--rps", "3", "--days", "3", "--seed", "1"), "llama-3.1-405b/h100/tp8/fp8"),
    (
        "servegen, 5/s, seed 2",
        ("--rps", "5", "--days", "2", "--start-day", "7", "--seed", "2"),
        "llama-3.1-70b/h100/tp2/fp8",
    ),
)

HELD_OUT = (
    (
        "servegen, 4/s, seed 11",
        ("--rps", "4", "--days", "2", "--start-day", "3", "--seed", "11"),
        "llama-3.1-70b/a100/tp4",
    ),
    (
        "servegen, 2/s, seed 12",
        ("--rps", "2", "--days", "4", "--start-day", "9", "--seed", "12"),
        "llama-3.1-405b/h200/tp8/fp8",
    ),
)


def two_weeks(folder: Path, days: float = 15.0, rate: float = 0.6, seed: int = 0) -> Path:
    """One service in three regions with a daily rhythm; the first day trains."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, days * 86_400, int(rate * 3 * days * 86_400 * 2)))
    t = t[rng.random(len(t)) < 0.5 * (1 + 0.6 * np.sin(2 * np.pi * t / 86_400))]
    n = len(t)
    columns = {
        "arrival_s": t,
        "service": ["agent-70b"] * n,
        "region": rng.choice(["us", "eu", "ap"], n),
        "tier": ["interactive-normal"] * n,
        "input_tokens": np.clip(rng.lognormal(9.4, 0.6, n), 1, 50_000).astype(np.int64),
        "output_tokens": np.clip(rng.lognormal(6.2, 0.7, n), 1, 4000).astype(np.int64),
    }
    path = folder / "two-weeks.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def many_settings(folder: Path, settings: int) -> None:
    """Seconds of each part of a search: what is done once, and the pass over all settings."""
    trace = open_trace(str(two_weeks(folder)), Workspace.open(folder / "home"), say=lambda text: None)
    clock, times = time.perf_counter(), []

    def lap(what: str) -> None:
        nonlocal clock
        times.append((what, time.perf_counter() - clock))
        clock = time.perf_counter()

    ready = prepare(
        trace, slos=(), attain=0.99, profile=None, fleet=None, train_fraction=1 / 15, warmup_s=600.0, window_s=300.0,
        load=1.0, seed=0,
    )  # fmt: skip
    lap("read, split, load-test μ")
    inputs = Inputs(ready)
    windows = Windows.of(trace, ready, inputs, 0.99)
    lap("load-test responses, stream the demand")
    policies = [PreServe(headroom=float(share)) for share in np.linspace(-0.4, 2.0, settings)]
    inputs.demand("auto", policies[0].start(ready.fleet, ready.history).lead_s)
    lap("forecast")
    found = windows.settings(policies)
    lap(f"{settings:,} settings x {len(windows.grid.start_s):,} windows x {len(ready.fleet.pools)} pools")
    for what, seconds in times:
        print(f"{seconds:>8.1f} s  {what}")
    print(f"{sum(seconds for _, seconds in times):>8.1f} s  in all; {ready.requests.height:,} requests, peak memory "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")  # fmt: skip
    low, high = found["gpu_hours_provisioned"].min(), found["gpu_hours_provisioned"].max()
    print(f"          GPU-hours {low:,.0f} to {high:,.0f}, attainment {found['slo_attainment'].min():.1%} to "
          f"{found['slo_attainment'].max():.1%}")  # fmt: skip


def agreement(name: str, trace: Trace, profile: str | None) -> None:
    """Both fidelities of all policies, side by side, and whether the bounds are met."""
    ask = {"baselines": ["none"], "profile": profile, "jobs": os.cpu_count() or 1}
    exact, near, seconds = None, None, []
    for fidelity in ("request", "window"):
        began = time.perf_counter()
        scores = evaluate(trace, POLICIES, fidelity=fidelity, **ask).scores
        seconds.append(time.perf_counter() - began)
        exact, near = (scores, near) if fidelity == "request" else (exact, scores)
    assert exact is not None and near is not None
    both = exact.join(near, on="policy", suffix="_window", maintain_order="left").with_columns(
        hours=pl.col("gpu_hours_provisioned_window") / pl.col("gpu_hours_provisioned") - 1,
        points=100 * (pl.col("slo_attainment_window") - pl.col("slo_attainment")),
        planned=pl.col("policy").str.contains("^(" + "|".join(PLANNED) + ")"),
    )
    print(f"\n{name}: {profile or 'default profiles'}, busiest pool {exact['replicas_min'].min():.0f} to "
          f"{exact['replicas_max'].max():.0f} replicas; {seconds[0]:.0f} s replayed, {seconds[1]:.0f} s by windows "
          "with its check")  # fmt: skip
    print(f"{'policy':<26}{'GPU-h':>10}{'windows':>10}{'off':>8}{'attained':>10}{'windows':>10}{'points':>8}")
    for row in both.iter_rows(named=True):
        print(
            f"{row['policy']:<26}{row['gpu_hours_provisioned']:>10,.0f}{row['gpu_hours_provisioned_window']:>10,.0f}"
            f"{row['hours']:>+8.1%}{row['slo_attainment']:>10.2%}{row['slo_attainment_window']:>10.2%}{row['points']:>+8.1f}"
        )
    planned = both.filter("planned")
    hours, points = planned["hours"].abs().max(), planned["points"].abs().max()
    _verdict("GPU-hours of planned policies", f"off by up to {hours:.1%}", hours <= HOURS)
    _verdict("attainment of planned policies", f"off by up to {points:.1f} points", points <= 100 * POINTS)
    _verdict(
        "attainment of the others", f"off by up to {both.filter(~pl.col('planned'))['points'].abs().max():.1f} points"
    )
    for score in ("slo_attainment", "gpu_hours_provisioned"):
        rank = spearmanr(both[score], both[f"{score}_window"]).statistic
        _verdict(f"rank correlation, {score}", f"{rank:.3f}", rank >= RANK)


def _verdict(what: str, value: str, met: bool | None = None) -> None:
    print(f"  {what}: {value}{'' if met is None else ' (met)' if met else ' (NOT met)'}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--held-out", action="store_true", help="also two traces that the method was not made with")
    given = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"polars {version('polars')}, numpy {version('numpy')}, numba {version('numba')}")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_settings(folder, given.settings)
        workspace = Workspace.open(folder / "home")
        sample = open_trace(str(ROOT / "sample_traces" / "sample.parquet"), workspace, say=lambda text: None)
        agreement("bundled sample", sample, None)
        if not RESAMPLE.exists():
            print(f"\nno resampled traces: {RESAMPLE} is not there")
            return
        for number, (label, arguments, profile) in enumerate(RESAMPLED + (HELD_OUT if given.held_out else ())):
            path = folder / f"{number}.parquet"
            subprocess.run(
                [sys.executable, str(RESAMPLE), *arguments, "-o", str(path)], check=True, capture_output=True
            )
            agreement(label, open_trace(str(path), workspace, say=lambda text: None), profile)


if __name__ == "__main__":
    main()
