"""How good predictions were on requests that arrived after the training, beside the floors: never in-sample."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from ..progress import Tell, silent, steps
from .buckets import bucket_of
from .intervals import INTERVALS, LEVELS
from .predictor import LengthPredictor

TAU_ROWS = 50_000  # drawn for Kendall's tau: its standard error is then below 0.003
WITHIN = 100  # tokens, of Acc-100
PUBLISHED = {"mae_tokens": 78.25, "acc_100": 0.7795}  # PreServe's own predictor on ShareGPT (its artifact's README)
COLUMNS = {
    "predictor": "kind of predictor",
    "service": "null: all",
    "n": "requests scored: they arrived from the cut on",
    "mae_tokens": "mean |predicted - true|",
    "acc_100": "share predicted within 100 tokens",
    "bias_tokens": "mean of predicted - true",
    "bias": "bias_tokens / mean true output",
    "bucket_accuracy": "share whose bucket is predicted, of ten that the training outputs fill alike; null: of one",
    "buckets": "how many there are: fewer where many outputs are equal",
    "kendall_tau": "rank correlation (tau-b) of predicted and true, on at most 50,000 requests drawn; null: constant",
    "n_tau": "requests it is of",
    "pinball_tokens": "mean pinball loss of the quantiles, over LEVELS",
    "coverage_80": "share of true outputs in the 80 % interval",
    "coverage_95": "share of true outputs in the 95 % interval",
    "width_80_tokens": "mean width of the 80 % interval",
}


def scores(
    predictors: Mapping[str, LengthPredictor],
    requests: pl.DataFrame,
    scored: pl.Expr | None = None,
    *,
    seed: int = 0,
    told: Mapping[str, pl.DataFrame] | None = None,
    tell: Tell = silent,
) -> pl.DataFrame:
    """COLUMNS, a row for all requests and one a service of each predictor; empty where no request is left.

    Scored are the rows with an output that arrive from the predictors' latest cut on, or what `scored` says;
    `requests` may hold others, which are only looked back on. told: `LengthPredictor.told` of them, where it is there.
    """
    after = pl.col("arrival_s") >= max(p.cut_s for p in predictors.values())
    mask = after & (pl.col("output_tokens") >= 1) if scored is None else scored
    parts = []
    for _, (name, predictor) in zip(steps(tell, [1.0] * len(predictors)), predictors.items(), strict=True):
        rows = scored_rows(predictor, requests, mask, (told or {}).get(name))
        groups = [(None, rows), *((key[0], part) for key, part in rows.group_by("service"))]
        buckets = len(predictor.edges) + 1
        parts += [
            {"predictor": name, "service": s, "buckets": buckets} | _of(part, buckets, seed) for s, part in groups
        ]
    found = pl.DataFrame(parts, schema=_schema(), infer_schema_length=None).filter(pl.col("n") > 0)
    order = pl.col("predictor").replace_strict({name: k for k, name in enumerate(predictors)}, return_dtype=pl.Int32)
    return found.sort(order, "service", nulls_last=False)


def scored_rows(
    predictor: LengthPredictor, requests: pl.DataFrame, scored: pl.Expr, told: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What is told of the rows of which `scored` holds, with service, true (f8) and hit: its bucket is the true one."""
    rows = predictor.told(requests) if told is None else told
    rows = rows.with_columns(
        service=requests["service"].cast(pl.String), true=requests["output_tokens"].cast(pl.Float64)
    )
    rows = rows.filter(requests.select(scored.fill_null(False)).to_series())
    hit = bucket_of(rows["true"].to_numpy(), np.array(predictor.edges)) == rows["bucket"].to_numpy()
    return rows.with_columns(hit=pl.Series(hit, dtype=pl.Boolean))


def _of(rows: pl.DataFrame, buckets: int, seed: int) -> dict[str, float | int | None]:
    true, guess = rows["true"].to_numpy(), rows["predicted_tokens"].to_numpy()
    if not len(true):
        return {"n": 0}
    error = np.round(guess - true, 6)  # below, it is rounding: constant outputs are predicted exactly
    tau, n_tau = _kendall_tau(guess, true, seed)
    measures: dict[str, float | int | None] = {
        "n": len(true),
        "mae_tokens": float(np.abs(error).mean()),
        "acc_100": float((np.abs(error) <= WITHIN).mean()),
        "bias_tokens": float(error.mean()),
        "bias": float(error.mean() / true.mean()),
        "bucket_accuracy": rows["hit"].mean() if buckets > 1 else None,  # type: ignore[dict-item]
        "kendall_tau": tau,
        "n_tau": n_tau,
    }
    if f"q_{LEVELS[0]}" in rows.columns:
        off = {level: true - rows[f"q_{level}"].to_numpy() for level in LEVELS}
        measures["pinball_tokens"] = float(
            np.mean([np.maximum(level * by, (level - 1) * by).mean() for level, by in off.items()])
        )
        for percent, (low, high) in INTERVALS.items():
            measures[f"coverage_{percent}"] = float(((off[low] >= 0) & (off[high] <= 0)).mean())
        low, high = INTERVALS["80"]
        measures["width_80_tokens"] = float((off[low] - off[high]).mean())
    return measures


def _kendall_tau(guess: np.ndarray, true: np.ndarray, seed: int) -> tuple[float | None, int]:
    """(tau-b or None where either is constant, rows it is of)."""
    from scipy.stats import kendalltau  # deferred: costs 0.6 s

    if len(true) > TAU_ROWS:
        some = np.random.default_rng(seed).choice(len(true), TAU_ROWS, replace=False)
        guess, true = guess[some], true[some]
    if np.ptp(guess) == 0 or np.ptp(true) == 0:
        return None, len(true)
    return float(kendalltau(guess, true).statistic), len(true)


def _schema() -> dict[str, type[pl.DataType]]:
    texts, counts = ("predictor", "service"), ("n", "n_tau", "buckets")
    return {name: pl.String if name in texts else pl.Int64 if name in counts else pl.Float64 for name in COLUMNS}
