"""Output-length prediction: errors on held-out halves, speed, cost a request: `.venv/bin/python benchmarks/lengths.py`.

One core, CPU time. Traces: the bundled sample, and where ../shared is Azure's of 2023 and one resampled from ServeGen.
"""

import os

os.environ["POLARS_MAX_THREADS"] = "1"

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.lengths import LengthPredictor
from lmaas.analysis.lengths.kinds import PREDICTORS
from lmaas.analysis.lengths.requests import requests_of
from lmaas.analysis.lengths.scores import scores
from lmaas.analysis.workspace import Workspace
from lmaas.replay.profile import default_profile

ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT.parent / "shared" / "traces"
AZURE = ("AzureLLMInferenceTrace_conv.csv", "AzureLLMInferenceTrace_code.csv")
WANTED = 500_000  # predictions a second on one core, features included
PRESERVE = 0.0023  # of a request's service time: PreServe's claim for its predictor
SHOWN = (
    "predictor", "n", "mae_tokens", "acc_100", "bias", "bucket_accuracy", "kendall_tau", "pinball_tokens",
    "coverage_80", "coverage_95",
)  # fmt: skip
ALONE = 200  # requests predicted one at a time


def cpu_s(work: Callable[[], Any]) -> tuple[Any, float]:
    """(its result, CPU seconds)."""
    began = time.process_time()
    done = work()
    return done, time.process_time() - began


def sources(folder: Path, quick: bool) -> dict[str, Path | None]:
    """Traces by name."""
    found: dict[str, Path | None] = {"sample": None}
    azure = TRACES / "azure-llm-2023"
    found |= {name.removeprefix("AzureLLMInferenceTrace_"): azure / name for name in AZURE if (azure / name).exists()}
    resample = TRACES / "servegen" / "resample.py"
    if resample.exists() and not quick:
        path = folder / "servegen.parquet"
        asked = ("--rps", "1", "--days", "4", "--seed", "21")
        subprocess.run([sys.executable, str(resample), *asked, "-o", str(path)], check=True, capture_output=True)
        found["servegen"] = path
    return found


def halves(path: Path | None, workspace: Workspace) -> tuple[pl.DataFrame, float]:
    """(the requests of a trace, the middle of its time)."""
    requests, _ = requests_of(open_trace(None if path is None else str(path), workspace, say=lambda line: None))
    first, last = requests["arrival_s"][0], requests["arrival_s"][-1]
    return requests, first + 0.5 * (last - first)


def trained(requests: pl.DataFrame, cut_s: float) -> tuple[dict[str, LengthPredictor], dict[str, float]]:
    """(a predictor of every kind with intervals, CPU seconds that each took)."""
    found = {
        kind: cpu_s(lambda kind=kind: LengthPredictor.train(requests, cut_s=cut_s, kind=kind, intervals=True))
        for kind in PREDICTORS
    }
    return {kind: predictor for kind, (predictor, _) in found.items()}, {kind: s for kind, (_, s) in found.items()}


def speed(predictor: LengthPredictor, late: pl.DataFrame) -> None:
    """Predictions a second in a batch, and one at a time."""
    n = late.height
    predictor.told(late[:1000])  # compiles the walk over the history
    whole = min(cpu_s(lambda: predictor.predict(late))[1] for _ in range(3))
    told = min(cpu_s(lambda: predictor.told(late))[1] for _ in range(2))
    parts = ""
    if predictor.features is not None:
        features = min(cpu_s(lambda: predictor.features.matrix(late))[1] for _ in range(3))
        parts = f"; features alone {n / features:,.0f}/s, trees alone {n / max(whole - features, 1e-9):,.0f}/s"
    verdict = ("ok" if n / whole >= WANTED else "BELOW") if predictor.kind == "trees" else "-"
    print(f"{predictor.kind}: {n / whole:,.0f} predictions/s ({verdict}, {WANTED:,}){parts}; all {n / told:,.0f}/s")
    bare = late.drop("output_tokens", "done_s")
    some = [bare[i : i + 1] for i in range(0, n, max(n // ALONE, 1))][:ALONE]
    _, alone_s = cpu_s(lambda: [predictor.predict(row) for row in some])
    service_s = mean_service_s(late)
    share, batch = alone_s / len(some) / service_s, whole / n / service_s
    print(
        f"    one at a time {1e3 * alone_s / len(some):.2f} ms a request: {share:.4%} of its {service_s:.1f} s "
        f"of service, batched {batch:.7%} (PreServe says {PRESERVE:.2%} of its own)",
        flush=True,
    )


def mean_service_s(requests: pl.DataFrame) -> float:
    """Mean time to the last token on an idle replica of each service's default profile."""
    total = 0.0
    for (service,), rows in requests.group_by("service"):
        lengths = (rows[name].to_numpy().astype(float) for name in ("input_tokens", "output_tokens"))
        total += float(np.sum(default_profile(str(service)).alone_s(*lengths)[1]))
    return total / requests.height


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the resampled trace")
    quick = parser.parse_args().quick
    versions = ", ".join(f"{name} {version(name)}" for name in ("xgboost-cpu", "polars", "numpy", "numba"))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    print(f"{machine}, python {platform.python_version()}, {versions}", flush=True)
    print(f"| trace | {' | '.join(SHOWN)} | training, CPU s |")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(Path(folder) / "home")
        for name, path in sources(Path(folder), quick).items():
            requests, cut_s = halves(path, workspace)
            predictors, took_s = trained(requests, cut_s)
            found = scores(predictors, requests).filter(pl.col("service").is_null()).select(SHOWN)
            for row in found.iter_rows():
                told = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in (*row, took_s[row[0]]))
                print(f"| {name} | {' | '.join(told)} |", flush=True)
            if name == "sample":
                for predictor in predictors.values():
                    speed(predictor, requests.filter(pl.col("arrival_s") >= cut_s))


if __name__ == "__main__":
    main()
