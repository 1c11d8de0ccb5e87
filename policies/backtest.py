"""The recorded fleet's replay beside the latencies that the trace observed: how far off everything else may be."""

import numpy as np
import polars as pl

from lmaas.analysis.trace import Trace
from lmaas.replay.calibration.judge import Latencies, compared
from lmaas.replay.calibration.log import METRICS, tpot_s

from .prepare import Prepared
from .rows import usable
from .runner import Run

RECORDED = "current"  # the policy that keeps the fleet file's replicas (static.Current)
BACKTEST = {
    "policy": pl.String,
    "service": pl.String,  # null: all of them
    "metric": pl.String,  # ttft, tpot or e2e
    "n": pl.Int64,  # requests with an observation
    "not_completed": pl.Int64,  # of these, in the replay
    "observed_p50_s": pl.Float64,
    "replayed_p50_s": pl.Float64,
    "p50_error": pl.Float64,  # replayed / observed - 1
    "observed_p95_s": pl.Float64,
    "replayed_p95_s": pl.Float64,
    "p95_error": pl.Float64,
    "median_error": pl.Float64,  # of the errors by request, without sign
    "observed_within": pl.Float64,  # share within the SLO's limit on this metric; null: it has none
    "replayed_within": pl.Float64,
}
FEWEST = 20  # observed requests of a service below which a percentile says nothing
CLOSE, ROUGH = 0.1, 0.3  # errors of a percentile: as good as simulators get, and misleading beyond


def backtest(trace: Trace, ready: Prepared, runs: list[Run], load: float) -> tuple[pl.DataFrame, list[str]]:
    """(BACKTEST of each run of the fleet as it is, what is to be said of it or of why there is none).

    Over the evaluated requests of services of which the fleet file names every pool's replicas. Nothing is said of a
    trace without observed latencies.
    """
    nothing = pl.DataFrame(schema=BACKTEST)
    if "e2e_s" not in trace.meta.columns:
        return nothing, []
    recorded = [run for run in runs if run.name.partition("(")[0] == RECORDED]
    services = {pool.service for pool in ready.fleet.pools}
    services -= {pool.service for pool in ready.fleet.pools if pool.initial is None}
    if not recorded or not services:
        return nothing, [
            "no back-test: the trace has observed latencies; with a fleet file that says how many replicas served it "
            "(pools.replicas) the replay of that fleet is compared with them"
        ]
    if load != 1:
        return nothing, ["no back-test: at another load than the trace's the latencies it observed do not apply"]
    columns = [name for name in ("ttft_s", "e2e_s") if name in trace.meta.columns]
    observed = trace.table("input_tokens", "output_tokens", *columns).filter(usable())
    tables = [_of_run(run, observed, sorted(services)) for run in recorded]
    table = pl.concat(tables) if tables else nothing
    said = [sentence for run in recorded if (sentence := told(table.filter(policy=run.name)))]
    return table, said or ["no back-test: too few of the evaluated requests have observed latencies"]


def _of_run(run: Run, observed: pl.DataFrame, services: list[str]) -> pl.DataFrame:
    """BACKTEST of one run; observed: the trace's replayable rows, in order."""
    rows = run.rows.filter(pl.col("service").is_in(services))
    seen = observed[rows["row"].to_numpy()]
    e2e = seen["e2e_s"].to_numpy().astype(np.float64)
    e2e = np.where(e2e > 0, e2e, np.nan)  # nobody answers at once: a broken clock
    ttft = seen["ttft_s"].to_numpy().astype(np.float64) if "ttft_s" in seen.columns else np.full(len(e2e), np.nan)
    true = Latencies(ttft, tpot_s(ttft, e2e, rows["output_tokens"].to_numpy().astype(np.int64)), e2e)
    said = Latencies(*(rows[f"{m}_s"].fill_null(np.nan).to_numpy() for m in METRICS))
    limits = {m: rows[f"limit_{m}_s"].to_numpy() for m in METRICS}
    of = rows["service"].to_numpy()
    parts = [(None, np.ones(len(e2e), bool)), *((name, of == name) for name in services if len(services) > 1)]
    found = []
    for service, mine in parts:
        for row in compared(said, true, mine).iter_rows(named=True):
            if row["n"] < FEWEST:
                continue
            judged = mine & np.isfinite(true.of(row["metric"]))
            within = _within(true.of(row["metric"]), said.of(row["metric"]), limits[row["metric"]], judged)
            found.append({"policy": run.name, "service": service, **row, **within})
    return pl.DataFrame(found, schema=BACKTEST)


def _within(true: np.ndarray, said: np.ndarray, limit_s: np.ndarray, rows: np.ndarray) -> dict[str, float | None]:
    asked = rows & np.isfinite(limit_s)
    if not asked.any():
        return {"observed_within": None, "replayed_within": None}
    with np.errstate(invalid="ignore"):
        return {
            "observed_within": float((true <= limit_s)[asked].mean()),
            "replayed_within": float((said <= limit_s)[asked].mean()),
        }


def worst_error(table: pl.DataFrame) -> tuple[float, str] | None:
    """(the largest error of a percentile over all services, with its sign; which one); None: nothing was compared."""
    over_all = table.filter(pl.col("service").is_null())
    errors = [
        (row[f"{q}_error"], f"{row['metric'].upper()} {q}")
        for row in over_all.iter_rows(named=True)
        for q in ("p50", "p95")
        if row[f"{q}_error"] is not None and np.isfinite(row[f"{q}_error"])
    ]
    return max(errors, key=lambda error: abs(error[0])) if errors else None


def told(table: pl.DataFrame) -> str | None:
    """A run's back-test in a sentence."""
    worst = worst_error(table)
    if worst is None:
        return None
    n, lost = int(table["n"].max() or 0), int(table["not_completed"].max() or 0)  # type: ignore[arg-type]
    medians = ", ".join(
        f"{row['metric'].upper()} {row['p50_error']:+.1%} at p50 and {row['p95_error']:+.1%} at p95"
        for row in table.filter(pl.col("service").is_null()).iter_rows(named=True)
    )
    text = f"back-test: the replay of {table['policy'][0]} against {n:,} observed requests: {medians}"
    return text + (f"; {lost:,} of them did not complete in the replay" if lost else "")
