"""`forecast`: a trace in, how well each model foretells its second part out, with everything they issued."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.nominal import SAID, duration_s, observed_s
from lmaas.analysis.trace import Trace, TraceMeta
from lmaas.analysis.windows import DAY_S, count_windows, default_window_s, demand

from .forecaster import FORECASTERS
from .request_types import as_done, typed
from .rolling import Issued, issue
from .scores import QUANTILES, scored
from .shares import by_share

SCHEMA_VERSION = "1.0"
FLOOR = "last-value"  # beside every model
COLUMNS = ("arrival_s", "service", "region", "tier", "input_tokens", "output_tokens", "e2e_s")
LEAST_WINDOWS = 4  # of the training part
KEYS = ("model", "horizon_s")
PARTS = ("tier", "type")  # of a service and origin
SERIES = ("service", "origin", "tier", "type", "metric")
BY_TIER = (
    "rows by tier are the forecasts of their service and origin times the tier's share of the last day; they have no "
    "intervals, and what has no tier is in none"
)


@dataclass(frozen=True)
class Forecasted:
    """What models issued for the evaluated part, and how far off they were.

    windows: model, horizon_s, start_s, issued_s, service, origin, tier, type (null: all), metric, actual, forecast
    and q0.025, q0.1, q0.9, q0.975. scores: `scores.scored` by model, horizon_s and metric over all services and
    origins, and to_last_value, wape over that of last-value. series: the same by SERIES. weights: of models that weigh
    others, model, horizon_s, service, origin, metric, member, weight at the last issue. notes: model,
    service, origin, metric, note. horizon_s: from issue to the window's end.
    """

    trace: TraceMeta
    settings: dict[str, Any]
    windows: pl.DataFrame
    scores: pl.DataFrame
    series: pl.DataFrame
    weights: pl.DataFrame
    notes: pl.DataFrame
    remarks: tuple[str, ...]  # on all of it

    def metrics(self) -> dict[str, Any]:
        """A JSON-ready dict, all but the windows; the same bytes for the same trace and settings."""
        tables = {name: getattr(self, name).to_dicts() for name in ("scores", "series", "weights", "notes")}
        return {
            "schema_version": SCHEMA_VERSION,
            "trace": self.trace.model_dump(mode="json", exclude={"source"}),
            "settings": self.settings,
            "remarks": list(self.remarks),
            **tables,
        }


def forecast(
    trace: Trace,
    *,
    models: Sequence[str] = ("auto",),
    window_s: float | None = None,
    horizons_s: Sequence[float] = (),
    train_fraction: float = 0.5,
    by_tier: bool = False,
    by_type: bool = False,
    progress: Callable[[str, float], None] = lambda label, done: None,
) -> Forecasted:
    """Forecast every window after the first `train_fraction` of the time, at each horizon, with 80 and 95 % intervals.

    `horizons_s`: from issue to the end of the window, whole windows (rounded up); default the next window, the one
    after it, an hour and a day, as far as the training part is twice as long. Beside `models` stands last-value.
    UserError: an unknown model, a horizon shorter than a window or longer than the training part (2), nothing to
    train on (4).
    """
    for model in models:
        FORECASTERS.load(model)
    if not 0 < train_fraction < 1:
        lacking = "learn from" if train_fraction <= 0 else "forecast"
        raise UserError(
            f"--train-fraction {train_fraction:g} leaves nothing to {lacking}; use a share between 0 and 1", Exit.USAGE
        )
    requests, remarks = _requests(trace)
    first, end_s = float(requests["arrival_s"][0]), float(requests["arrival_s"][-1])
    cut_s = first + train_fraction * (end_s - first)
    window_s = default_window_s(cut_s - first) if window_s is None else float(window_s)
    count_windows(window_s, cut_s, end_s)  # refuses a window without length
    if cut_s - first < LEAST_WINDOWS * window_s or end_s - cut_s < window_s:
        raise UserError(
            f"{trace.meta.name} spans {end_s - first:,.0f} s: under {LEAST_WINDOWS} windows of {window_s:g} s to learn "
            "from, or none to forecast; a shorter --window or a longer trace would do",
            Exit.INPUT,
        )
    horizons = _horizons(horizons_s, window_s, cut_s - first)
    span = {"window_s": window_s, "cut_s": cut_s, "end_s": end_s}
    leads = [h - window_s for h in horizons]
    names = dict.fromkeys([*models, FLOOR])
    issued = {
        name: issue(
            requests, window_s=window_s, cut_s=cut_s, end_s=end_s, leads_s=leads, model=name, quantiles=QUANTILES,
            progress=partial(progress, name),
        )
        for name in names
    }  # fmt: skip
    windows = pl.concat(against(name, made.rows, requests, span) for name, made in issued.items())
    if by_tier:
        tiered = {n: by_share(m.rows, requests, "tier", **span) for n, m in issued.items()}
        parts = [against(name, rows, requests, span) for name, rows in tiered.items() if rows.height]
        remarks = (*remarks, BY_TIER if parts else "no request has a tier: there are no rows by tier")
        windows = pl.concat([windows, *parts])
    if by_type:
        known = typed(requests, cut_s)
        split = {n: by_share(m.rows, as_done(known), "type", **span) for n, m in issued.items()}
        parts = [against(name, rows, known, span) for name, rows in split.items() if rows.height]
        remarks = (*remarks, BY_TYPE if parts else "no request was done before the cut: there are no rows by type")
        windows = pl.concat([windows, *parts])
    every = windows.filter(pl.col("tier").is_null(), pl.col("type").is_null())
    settings = {**span, "horizons_s": horizons, "models": list(models), "train_fraction": train_fraction}
    return Forecasted(
        trace.meta, settings, windows,
        _to_floor(scored(every, [*KEYS, "metric"]), ["horizon_s", "metric"]),
        _to_floor(scored(windows, [*KEYS, *SERIES]), ["horizon_s", *SERIES]),
        _labelled(issued, "weights"), _labelled(issued, "notes"), tuple(remarks),
    )  # fmt: skip


BY_TYPE = (
    "rows by request type are the forecasts of their service and origin times the type's share of what was done in the "
    "last day, types being clusters of lengths learned before the cut; they have no intervals"
)


def _requests(trace: Trace) -> tuple[pl.DataFrame, tuple[str, ...]]:
    rows = trace.table(*COLUMNS).with_columns(pl.col("service", "region", "tier").cast(pl.String))
    if rows.is_empty():
        raise UserError(f"{trace.meta.name} has no request; nothing to forecast", Exit.INPUT)
    unknown = rows.select(observed_s().is_null().sum()).item()
    remarks = (
        (
            f"{unknown:,} of {rows.height:,} requests have no observed duration: their output counts as known after "
            f"{SAID}",
        )
        if unknown
        else ()
    )
    return rows.with_columns(done_s=pl.col("arrival_s") + duration_s()).sort("arrival_s"), remarks


def _horizons(asked: Sequence[float], window_s: float, train_s: float) -> list[float]:
    """Rising multiples of the window, s."""
    for h in asked:
        if h < window_s * (1 - 1e-9):
            raise UserError(
                f"--horizon {h:g}s is shorter than a window of {window_s:g} s; give {window_s:g}s or more, or a "
                "shorter --window",
                Exit.USAGE,
            )
        if h > train_s:
            raise UserError(
                f"--horizon {h:g}s is longer than the {train_s:,.0f} s there are to learn from; give a shorter one, or "
                "a larger --train-fraction",
                Exit.USAGE,
            )
    usual = [h for h in (window_s, 2 * window_s, 3600.0, DAY_S) if window_s <= h <= max(train_s / 1.9, window_s)]
    return sorted({window_s * -(-(h * (1 - 1e-9)) // window_s) for h in (asked or usual)})


def against(model: str, rows: pl.DataFrame, requests: pl.DataFrame, span: dict[str, float]) -> pl.DataFrame:
    """Rows of SCHEMA of one model as Forecasted.windows has them, for every series that arrived or was forecast.

    A window without forecast, as before a new service's first one, has null there; a last window cut short is left
    out. `rows` are of all tiers and types, or each of one tier, or each of one type.
    """
    window_s, cut_s = span["window_s"], span["cut_s"]
    series = list(SERIES)
    # whole windows from issue to start: a difference of times is off by their last digits, which differ
    behind = ((pl.col("start_s") - pl.col("issued_s")) / window_s).round().cast(pl.Int64).alias("behind")
    key = ["start_s", *series, "behind"]
    told = rows.with_columns(behind)
    point = told.filter(pl.col("quantile").is_null()).select(*key, forecast="value")
    for q in QUANTILES:
        of = told.filter((pl.col("quantile") - q).abs() < 1e-9).select(*key, pl.col("value").alias(f"q{q:g}"))
        point = point.join(of, on=key, how="left", nulls_equal=True, maintain_order="left")
    by = next((name for name in PARTS if rows[name].null_count() < rows.height), None)
    parts = [(None, requests)]
    if by is not None:
        parts = [(part[0], of) for part, of in requests.drop_nulls(by).group_by(by, maintain_order=True)]
    came = pl.concat(
        demand(of, window_s, cut_s, span["end_s"]).with_columns(
            pl.lit(part if name == by else None, dtype=pl.String).alias(name) for name in PARTS
        )
        for part, of in parts
    )
    windows = pl.select(start_s=cut_s + pl.int_range(count_windows(window_s, cut_s, span["end_s"])) * window_s)
    whole = windows.filter(span["end_s"] - pl.col("start_s") >= window_s * (1 - 1e-9))
    # who was forecast and did not come was forecast too high
    every = pl.concat([came.select(series), point.select(series)]).unique()
    grid = whole.join(every, how="cross").join(point.select("behind").unique(), how="cross")
    joined = grid.join(came.select("start_s", *series, actual="value"), on=key[:-1], how="left", nulls_equal=True)
    joined = joined.join(point, on=key, how="left", nulls_equal=True)
    return joined.select(
        pl.lit(model).alias("model"), horizon_s=(pl.col("behind") + 1) * window_s, start_s="start_s",
        issued_s=pl.col("start_s") - pl.col("behind") * window_s, service="service", origin="origin", tier="tier",
        type="type", metric="metric", actual=pl.col("actual").fill_null(0.0), forecast="forecast",
        **{f"q{q:g}": f"q{q:g}" for q in QUANTILES},
    ).sort("horizon_s", "start_s", *SERIES)  # fmt: skip


def _to_floor(scores: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    floor = scores.filter(pl.col("model") == FLOOR).select(*on, floor="wape")
    joined: pl.DataFrame = scores.join(floor, on=on, how="left", nulls_equal=True, maintain_order="left")
    ratio = pl.when(pl.col("floor") > 0).then(pl.col("wape") / pl.col("floor"))
    return joined.with_columns(to_last_value=ratio).drop("floor")


def _labelled(issued: dict[str, Issued], table: str) -> pl.DataFrame:
    parts: list[pl.DataFrame] = [getattr(i, table).drop("kind", "model", strict=False) for i in issued.values()]
    return pl.concat(p.select(pl.lit(n).alias("model"), pl.all()) for n, p in zip(issued, parts, strict=True))
