"""Forecasts, their speed and what they are worth: `.venv/bin/python benchmarks/forecast.py`.

A trace of 14 days, 3 services in 3 regions, resampled from ServeGen (where ../shared is; else --trace), ten-minute
windows, refit daily: every model through the second week, at four horizons, two processes. The default alone is timed
for the next window, without and with intervals. CPU time is each process's own, so a shared machine tells the same.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from lmaas.analysis.forecasting.forecaster import FORECASTERS
from lmaas.analysis.forecasting.rolling import issue
from lmaas.analysis.forecasting.scores import QUANTILES, scored
from lmaas.analysis.forecasting.study import against
from lmaas.analysis.nominal import nominal_s

ROOT = Path(__file__).resolve().parent.parent
RESAMPLE = ROOT.parent / "shared" / "traces" / "servegen" / "resample.py"
MAKE = ("--rps", "1.8", "--days", "14", "--seed", "14")
WINDOW_S = 600.0
HORIZONS_S = (600.0, 1200.0, 3600.0, 86_400.0)
DEAREST = ("theta", "ensemble", "arima", "trees", "arima-312", "ets")
DEFAULT_S, ZOO_S = 90.0, 600.0  # the bounds, on two cores


def requests_of(path: Path) -> pl.DataFrame:
    """Rows as forecasts take them; durations are nominal."""
    columns = ["arrival_s", "service", "region", "input_tokens", "output_tokens"]
    rows = pl.read_parquet(path, columns=columns)
    return rows.with_columns(pl.col("service", "region").cast(pl.String), done_s=pl.col("arrival_s") + nominal_s())


def measured(
    path: Path, model: str, horizons: tuple[float, ...], quantiles: tuple[float, ...]
) -> tuple[float, float, pl.DataFrame, pl.DataFrame]:
    """(seconds, CPU seconds, scores by horizon and metric, and by SERIES) of one model through the second half."""
    requests = requests_of(path)
    first, end = requests["arrival_s"].min(), requests["arrival_s"].max()
    span = {"window_s": WINDOW_S, "cut_s": first + (end - first) / 2, "end_s": end}
    began, cpu = time.perf_counter(), time.process_time()
    made = issue(requests, leads_s=[h - WINDOW_S for h in horizons], model=model, quantiles=quantiles, **span)
    spent = time.perf_counter() - began, time.process_time() - cpu
    windows = against(model, made.rows, requests, span)
    keys = ["model", "horizon_s", "metric"]
    return *spent, scored(windows, keys), scored(windows, [*keys, "service", "origin"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, help="a canonical Parquet, instead of one that is made")
    parser.add_argument("--models", default=",".join(FORECASTERS), help="comma-separated")
    given = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python "
          f"{platform.python_version()}, statsforecast {version('statsforecast')}, polars {version('polars')}, "
          f"numpy {version('numpy')}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = given.trace or Path(folder) / "two-weeks.parquet"
        if given.trace is None:
            subprocess.run([sys.executable, str(RESAMPLE), *MAKE, "-o", str(path)], check=True, capture_output=True)
        for what, quantiles in (("points", ()), ("with intervals", QUANTILES)):
            wall, cpu, *_ = measured(path, "auto", (WINDOW_S,), quantiles)
            met = "met" if cpu < DEFAULT_S else "NOT met"
            print(f"auto, next window, {what}: {wall:.0f} s, {cpu:.0f} s of CPU in one process "
                  f"(bound {DEFAULT_S:.0f} s: {met})", flush=True)  # fmt: skip
        zoo(path, given.models.split(","))


def zoo(path: Path, models: list[str]) -> None:
    """Every model at every horizon; dearest first, so that two processes end together."""
    order = sorted(
        models,
        key=lambda m: (
            ("theta", "ensemble", "arima", "trees").index(m) if m in ("theta", "ensemble", "arima", "trees") else 9
        ),
    )
    began, done = time.perf_counter(), {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        futures = {m: pool.submit(measured, path, m, HORIZONS_S, QUANTILES) for m in order}
        for model, future in futures.items():
            done[model] = future.result()
            print(f"  {model}: {done[model][0]:.0f} s, {done[model][1]:.0f} s of CPU", file=sys.stderr, flush=True)
    wall, cpu = time.perf_counter() - began, sum(spent for _, spent, *_ in done.values())
    met = "met" if cpu / 2 < ZOO_S else "NOT met"
    print(f"all {len(models)} models, four horizons, intervals: {wall:.0f} s, {cpu:.0f} s of CPU in two processes "
          f"(bound {ZOO_S:.0f} s: {met} by CPU time)")  # fmt: skip
    whole, series = (pl.concat(found[k] for found in done.values()) for k in (2, 3))
    table(whole, series, {m: cpu for m, (_, cpu, *_) in done.items()})


def table(scores: pl.DataFrame, series: pl.DataFrame, cpu: dict[str, float]) -> None:
    """WAPE of total tokens, and over the last value's; coverage by horizon, and of the series held least."""
    of, each = (rows.filter(pl.col("metric") == "total_tokens") for rows in (scores, series))
    floor = dict(of.filter(pl.col("model") == "last-value").select("horizon_s", "wape").iter_rows())
    head = "".join(f" {h / 3600:.3g} h |" for h in HORIZONS_S)
    print(f"| model | CPU s |{head} in 80 % | worst | in 95 % | worst |\n|---|---|{'---|' * (len(HORIZONS_S) + 4)}")
    for (model,), rows in of.sort("model").group_by("model", maintain_order=True):
        wape = dict(rows.select("horizon_s", "wape").iter_rows())
        cells = "".join(f" {wape[h]:.3f} ({wape[h] / floor.get(h, 1):.2f}) |" for h in HORIZONS_S)
        mine = each.filter(pl.col("model") == model)
        held = "".join(
            f" {100 * rows[c].min():.1f} to {100 * rows[c].max():.1f} | {100 * mine[c].min():.1f} |"
            for c in ("coverage_80", "coverage_95")
        )
        print(f"| `{model}` | {cpu[str(model)]:.0f} |{cells}{held}")


if __name__ == "__main__":
    main()
