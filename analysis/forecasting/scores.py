"""How far off forecasts were."""

import polars as pl


def wape(forecasts: pl.DataFrame, actual: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Columns *by, wape: sum |forecast - actual| / sum actual over the windows of `actual` (from `demand`).

    Point forecasts only; a window without forecast counts as forecast 0, a window cut short by the end of the
    trace is left out, and wape is null where nothing arrived.
    """
    keys = ["start_s", "service", "origin", "metric"]
    point = forecasts.filter(pl.col("quantile").is_null()).select(*keys, forecast="value")
    # the last window is shorter where the trace ends within it
    whole = actual.filter(pl.col("length_s") >= pl.col("length_s").max() * (1 - 1e-9))
    error = (pl.col("forecast").fill_null(0.0) - pl.col("value")).abs().sum()
    total = pl.col("value").sum()
    score = pl.when(total > 0).then(error / total).alias("wape")
    joined = whole.join(point, on=keys, how="left")
    return joined.group_by(by).agg(score).sort(by) if by else joined.select(score)
