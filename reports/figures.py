"""Plotly figures as plain data: one look for all of them, small enough to embed, nothing imported to build one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from .format import number, significant, text
from .palette import Style

POINTS = 2000  # a series has at most this many points
FIGURE_POINTS = 16_000  # all series of a figure together: ten such figures stay under 2 MB


@dataclass(frozen=True)
class Clock:
    """Trace seconds on a time axis: dates where the trace's epoch is known or assumed, else hours of `arrival_s`.

    last_s: the latest time that is shown; times of two hours and less are minutes, of two minutes and less seconds.
    """

    epoch: datetime | None
    last_s: float = math.inf

    @property
    def _unit(self) -> tuple[str, str, float]:
        """(name, sign, seconds) of the unit of a trace without dates."""
        if self.last_s > 7200:
            return "hours", "h", 3600.0
        return ("minutes", "min", 60.0) if self.last_s > 120 else ("seconds", "s", 1.0)

    def regular(self, start_s: float, step_s: float) -> dict[str, Any]:
        """x of a regular series as start and step: no list of times to embed."""
        if self.epoch is None:
            return {"x0": round(start_s / self._unit[2], 6), "dx": round(step_s / self._unit[2], 6)}
        return {"x0": self._moment(start_s).strftime("%Y-%m-%d %H:%M:%S"), "dx": round(step_s * 1000)}

    def axis(self) -> dict[str, Any]:
        """Layout of the time axis."""
        if self.epoch is None:
            return axis(f"{self._unit[0]} on the trace's clock")
        return axis("UTC") | {"type": "date"}

    def write(self, seconds: float) -> str:
        """One instant, for tables."""
        if self.epoch is None:
            _, sign, length = self._unit
            return f"{number(seconds / length)} {sign}"
        return self._moment(seconds).strftime("%Y-%m-%d %H:%M")

    def _moment(self, seconds: float) -> datetime:
        assert self.epoch is not None
        return (self.epoch + timedelta(seconds=seconds)).astimezone(UTC)


def rounded(values: Iterable[Any]) -> list[float | None]:
    """4 significant digits, null for unknown: what a figure needs of a number."""
    return [None if v is None or not math.isfinite(v) else significant(float(v)) for v in values]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """A quiet axis: light grid, no zero line, title in words with the unit."""
    return {
        "title": {"text": title, "font": {"size": 12, "color": "@muted"}, "standoff": 8},
        "gridcolor": "@grid",
        "linecolor": "@grid",
        "tickfont": {"size": 12, "color": "@muted"},
        "zeroline": False,
        "automargin": True,
        **more,
    }


def layout(x: Mapping[str, Any], y: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Layout shared by all figures: transparent, legend on top, one hover label for all series."""
    return {
        "xaxis": dict(x),
        "yaxis": dict(y),
        "margin": {"l": 56, "r": 16, "t": 8, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 13, "color": "@ink"},
        "hoverlabel": {"bgcolor": "@page", "bordercolor": "@muted", "font": {"color": "@ink"}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x unified",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "@muted", "activecolor": "@ink"},
        **more,
    }


def label(name: object, width: int = 40) -> str:
    """A name for a figure: Plotly reads a little HTML in its texts, so the signs that start it are spelled out."""
    plain = text(name)
    short = plain if len(plain) <= width else plain[: width - 1] + "…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def line(name: str, x: Mapping[str, Any], y: Iterable[Any], style: Style, **more: Any) -> dict[str, Any]:
    """A line of a regular series; `x` as `Clock.regular` writes it."""
    look = {"color": style.color, "dash": style.dash, "width": 2}
    trace = {"type": "scatter", "mode": "lines", "name": label(name), "line": look, **x, "y": rounded(y)}
    return trace | more


def marks(name: object, x: Iterable[Any], y: Sequence[Any], style: Style, **more: Any) -> dict[str, Any]:
    """One marker a point; `y` may be categories."""
    look = {"symbol": style.symbol, "size": 11, "color": style.color, "line": {"width": 2, "color": style.color}}
    trace = {"type": "scatter", "mode": "markers", "name": label(name), "x": rounded(x), "y": list(y), "marker": look}
    return trace | more


def rule(across: str, value: float | str) -> dict[str, Any]:
    """A dashed line over the whole figure at `value` (of a time axis a date) of the axis `across`, x or y."""
    along = "y" if across == "x" else "x"
    where = {f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{across}0": value, f"{across}1": value}
    return {"type": "line", "line": {"color": "@muted", "width": 1.5, "dash": "dash"}, **where}


def buckets(span_s: float, step_s: float, series: int) -> float:
    """Seconds a point of a figure stands for: `step_s`, or the smallest multiple that keeps the point budget."""
    limit = max(50, min(POINTS, FIGURE_POINTS // max(1, series)))
    return step_s * max(1, math.ceil(span_s / step_s / limit))


def peaks(rows: pl.DataFrame, bucket_s: float, start_s: float, end_s: float, values: Sequence[str]) -> pl.DataFrame:
    """`rows` (start_s, ...) on a regular grid; each point is the highest of its bucket, so no peak is lost.

    Buckets without a row are null: a gap in the line.
    """
    count = max(1, math.ceil((end_s - start_s) / bucket_s - 1e-9))
    grid = pl.DataFrame({"bucket": range(count)}, schema={"bucket": pl.Int64})
    index = ((pl.col("start_s") - start_s) / bucket_s + 1e-9).floor().cast(pl.Int64).alias("bucket")
    highest = rows.group_by(index).agg(pl.col(v).max() for v in values)
    return grid.join(highest, on="bucket", how="left").sort("bucket").select(*values)
