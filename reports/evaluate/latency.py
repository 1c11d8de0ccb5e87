"""Latency distributions: the share of requests slower than each latency, so that tails can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import choose

from .. import figures
from ..format import duration, text
from ..palette import Style, policy_styles
from ..section import Column, Figure, Section, Table, table
from .policies import QUANTILES

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

METRICS = {
    "ttft_s": "TTFT, time to first token",
    "tpot_s": "TPOT, time per output token",
    "e2e_s": "E2E, to the last token",
}
TAILS = (0.5, 0.1, 0.05, 0.01, 0.001)
LOWEST = 5e-4  # share of requests below which a tail is not drawn
FLOOR = 1e-5  # below the axis: where a curve that falls to 0 leaves it


def section(result: Evaluation) -> Section | None:
    """One figure a latency, from the histogram, with the exact percentiles."""
    tails = slower(result.histogram)
    if tails.is_empty():
        return None
    styles = policy_styles(result.scores)
    shown = tuple(
        _figure(tails.filter(pl.col("metric") == m), label, styles, _quantiles(result.scores, m, label))
        for m, label in METRICS.items()
        if m in set(tails["metric"])
    )
    return Section(
        "latency",
        "Latency distributions",
        finding(choose(result.scores, result.settings["attain"]).subject),
        figures=shown,
        notes=("Seen from the request's origin; rejected and unfinished requests have no latency and are not drawn.",),
    )


def slower(histogram: pl.DataFrame) -> pl.DataFrame:
    """policy, metric, le, slower: the share of requests above each bucket's upper edge."""
    total = pl.col("count").sum().over("policy", "metric")
    done = pl.col("count").cum_sum().over("policy", "metric")
    rows = histogram.sort("policy", "metric", "le").with_columns(slower=1 - done / total)
    return rows.filter(total > 0, pl.col("le").is_finite(), pl.col("le") > 0).select("policy", "metric", "le", "slower")


def finding(subject: dict[str, Any] | None) -> str:
    """Median and tail of the policy of the headline."""
    if subject is None or subject["ttft_p50_s"] is None:
        return "No request got a first token."
    row = subject
    return (
        f"Under {text(row['policy'])} the first token comes within {duration(row['ttft_p50_s'])} for half of the "
        f"requests and after more than {duration(row['ttft_p99_s'])} for one in a hundred."
    )


def _figure(rows: pl.DataFrame, label: str, styles: dict[str, Style], shown: Table) -> Figure:
    before = pl.col("slower").shift(1, fill_value=1.0).over("policy")
    drawn = rows.filter(before >= LOWEST, pl.col("slower") < 0.995).with_columns(pl.col("slower").clip(FLOOR))
    present = [name for name in styles if name in set(rows["policy"])]
    data = [_curve(drawn.filter(pl.col("policy") == name), name, styles[name]) for name in present]
    y = figures.axis(
        "share of requests slower", type="log",
        tickvals=[1, *TAILS], ticktext=["100 %", "50 %", "10 %", "5 %", "1 %", "0.1 %"], range=[-3.2, 0.05],
    )  # fmt: skip
    spec = {
        "data": data,
        "layout": figures.layout(
            figures.axis("seconds", type="log", dtick="D2", tickformat="~g"), y, hovermode="closest"
        ),
    }
    return Figure(spec, f"{label}: share of requests slower than x, both axes logarithmic.", shown, 320)


def _curve(rows: pl.DataFrame, name: str, style: Style) -> dict[str, Any]:
    look = {"color": style.color, "dash": style.dash, "width": 2}
    return {"type": "scatter", "mode": "lines", "name": figures.label(name), "line": look,
            "x": figures.rounded(rows["le"]), "y": figures.rounded(rows["slower"]),
            "hovertemplate": "slower than %{x:.3~g} s: %{y:.2~%}"}  # fmt: skip


def _quantiles(scores: pl.DataFrame, metric: str, label: str) -> Table:
    """Exact, as everywhere in the report: buckets are for the curve alone."""
    name = metric.removesuffix("_s")
    rows = scores.select("policy", *(pl.col(f"{name}_{q}_s").alias(q) for q in QUANTILES), n=f"n_{name}")
    columns = [Column("policy", "Policy"), *(Column(q, q, "duration_s") for q in QUANTILES)]
    return table(f"{label}: exact percentiles", rows, (*columns, Column("n", "Requests", "count")), "scores.parquet")
