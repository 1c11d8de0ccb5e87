"""What predictors are worth, as GPU-hours at equal attainment: `.venv/bin/python benchmarks/worth.py`.

The bundled sample; Azure's conversations of 2023 and a fortnight resampled from ServeGen whose first week trains (where
../shared is), with profiles that make pools range over several replicas. `--errors 30` injects fewer errors into
the truth, and `--only` with none named leaves nothing beside them but the floors.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import polars as pl

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies.inputs import Inputs
from lmaas.policies.matched import possible_share
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy
from lmaas.policies.worth import ERRORS, worth
from lmaas.replay.profile import find_profile

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "traces"
FORTNIGHT = ("--rps", "0.6", "--days", "14", "--seed", "0")
TRACES = ("sample", "azure", "fortnight")
COLUMNS = ("part", "predictor", "error", "headroom", "GPU-h", "bracket", "change", "gap closed", "replays")


def small(folder: Path, name: str, max_seqs: int) -> str:
    """A shipped profile whose engine runs fewer requests at once: pools of several replicas on little load."""
    profile = find_profile(name).model_dump(mode="json") | {
        "name": f"{name}, max_seqs {max_seqs}",
        "max_seqs": max_seqs,
    }
    path = folder / f"{max_seqs}.json"
    path.write_text(json.dumps(profile))
    return str(path)


def trace_of(which: str, folder: Path, given: Path | None) -> tuple[Path | None, str | None]:
    """(file, profile) of one of TRACES; no file: it is not there."""
    if which == "sample":
        return ROOT / "sample_traces" / "sample.parquet", None
    if which == "azure":
        path = SHARED / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"
        return path if path.exists() else None, small(folder, "llama-3.1-70b/a100/tp4", 8)
    path = given or folder / "fortnight.parquet"
    resample = SHARED / "servegen" / "resample.py"
    if given is None and resample.exists():
        subprocess.run([sys.executable, str(resample), *FORTNIGHT, "-o", str(path)], check=True, capture_output=True)
    return path if path.exists() else None, small(folder, "llama-3.1-70b/a100/tp4", 2)


def measure(which: str, given: argparse.Namespace, folder: Path, workspace: Workspace) -> None:
    """One trace's table."""
    path, profile = trace_of(which, folder, given.trace)
    if path is None:
        print(f"\n{which}: the trace is not there")
        return
    trace = open_trace(str(path), workspace, say=lambda text: None)
    ready = prepare(
        trace, slos=(), attain=given.attain, profile=profile, fleet=None, train_fraction=0.5, warmup_s=600.0,
        window_s=None, load=1.0, seed=0,
    )  # fmt: skip
    inputs = Inputs(ready)
    scores = run_policy(parse_policy("last-value"), ready, inputs, lambda share: None).scores
    print(
        f"\n{which}: {ready.replayed.height:,} requests replayed, {len(ready.fleet.pools)} pools, "
        f"{'default profiles' if profile is None else find_profile(profile).name}, windows of {ready.window_s:g} s, "
        f"cold start {ready.fleet.pools[0].profile.startup_s.cold:g} s; last-value without headroom attains "
        f"{scores['slo_attainment']:.2%}, busiest pool {scores['replicas_min']:.1f} to {scores['replicas_max']:.1f} "
        f"replicas; at most {possible_share(ready):.2%} can be attained; target {given.attain:.0%}",
        flush=True,
    )
    cpu, wall = time.process_time(), time.perf_counter()

    def say(name: str, share: float) -> None:
        if share == 1.0 and sys.stderr.isatty():
            print(f"{name} ({time.perf_counter() - wall:.0f} s)", file=sys.stderr)

    errors = [percent / 100 for percent in given.errors]
    found = worth(ready, inputs, given.attain, only=given.only, errors=errors, jobs=given.jobs, say=say)
    show(found)
    print(
        f"{found['replays'].sum()} replays in the table, {time.process_time() - cpu:,.0f} s of CPU, "
        f"{time.perf_counter() - wall:,.0f} s"
    )


def show(found: pl.DataFrame) -> None:
    """A row a predictor, as Markdown."""
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for row in found.iter_rows(named=True):
        off = f", off by {row['injected']:.0%}" if row["injected"] else ""
        error = row["error"]
        said = "–" if error is None else f"{error:.1%}" if row["part"] == "demand" else f"{error:.0f} tokens"
        if not row["attains"]:
            reached = f"attains {row['slo_attainment']:.2%} at most"
            print(f"| {row['part']} | {row['predictor']}{off} | {said} | {reached} ||||| {row['replays']} |")
            continue
        closed = "–" if row["gap_closed"] is None else f"{row['gap_closed']:.0%}"
        low, high = row["gpu_hours_matched_low"], row["gpu_hours_matched_high"]
        steady = "" if row["steady"] else " (unsteady)"
        print(
            f"| {row['part']} | {row['predictor']}{off} | {said} | {row['headroom_matched']:+.1%}{steady} | "
            f"{row['gpu_hours_matched']:,.1f} | {low:,.1f} to {high:,.1f} | {row['change']:+.1%} | {closed} | "
            f"{row['replays']} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="*", choices=TRACES, default=TRACES)
    parser.add_argument("--trace", type=Path, help="the fortnight, where it is made already")
    parser.add_argument("--attain", type=float, default=0.99)
    parser.add_argument(
        "--errors", type=float, nargs="*", default=[100 * e for e in ERRORS], help="injected into the truth, per cent"
    )
    parser.add_argument("--only", nargs="*", help="predictors beside the floors and the truth")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("polars", "numba", "statsforecast", "xgboost-cpu"))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as name:
        workspace = Workspace.open(Path(name) / "home")
        for which in given.traces:
            measure(which, given, Path(name), workspace)


if __name__ == "__main__":
    main()
