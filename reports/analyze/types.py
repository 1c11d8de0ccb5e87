"""Request types: what they are, where they lie among the lengths, how their mix changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..format import number, percent, span, text
from ..palette import Style, series
from ..section import Column, Figure, Section, Table, table
from .tables import rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

TYPES = (
    Column("name", "Type", brief=True),
    Column("requests", "Requests", "count"),
    Column("request_share", "Share of requests", "share", brief=True),
    Column("input_share", "of input tokens", "share"),
    Column("output_share", "of output tokens", "share"),
    Column("prefill_share", "of prefill work", "share"),
    Column("kv_share", "of KV memory", "share", brief=True),
    Column("input_centre", "Input, centre", "count", brief=True),
    Column("input_p10", "Input p10", "count"),
    Column("input_p90", "Input p90", "count"),
    Column("output_centre", "Output, centre", "count", brief=True),
    Column("output_p10", "Output p10", "count"),
    Column("output_p90", "Output p90", "count"),
)
COUNTS = (
    Column("types", "Types", "count"),
    Column("score", "Score a request", "number"),
    Column("chosen", "Chosen"),
)
CELLS = (
    Column("input_from", "Input from", "number"),
    Column("input_to", "to below", "number"),
    Column("output_from", "Output from", "number"),
    Column("output_to", "to below", "number"),
    Column("requests", "Requests", "count"),
    Column("name", "Type"),
)
DRIFT = (
    Column("time", "Part from"),
    Column("against", "Against"),
    Column("n", "Requests", "count"),
    Column("distance", "Distance", "number"),
    Column("floor", "Chance (p95)", "number"),
    Column("drifted", "Above chance"),
)
FULLEST = 40  # cells in the table under the map


def section(result: Analysis) -> Section | None:
    """Absent where no request has both lengths."""
    found, cells = rows(result, "types"), rows(result, "length_cells")
    if found.is_empty():
        return None
    clock = figures.Clock(result.trace.epoch, result.trace.span_s)
    mix, drift = rows(result, "type_mix"), rows(result, "mix_drift")
    drawn = [_map(cells, found)]
    if len(found) > 1 and mix["start_s"].n_unique() > 1:
        drawn.append(_mix(mix, found, clock))
    if drift.height:
        drawn.append(_drift(drift, clock))
    tables = [table("Types by their nearest centre, answered requests", found, TYPES, "types.parquet")]
    if rows(result, "type_count").height > 1:
        counts = _said(rows(result, "type_count"), "chosen", "chosen")
        tables.append(table("Why so many types: the highest score is chosen", counts, COUNTS))
    note = (
        f"Clusters of (log input, log output) in the first half of the time ({percent(found['fitted_share'][0])} of "
        "the requests), to which all belong by the nearest centre; long and short are beside that half's medians.",
    )
    several = len(found) > 1
    return Section(
        "types", "Request types", finding(found), tables=tuple(tables), figures=tuple(drawn), notes=note, brief=several
    )


def finding(found: pl.DataFrame) -> str:
    """The largest type, and the one that holds more memory than its number lets expect."""
    if len(found) == 1:
        r = found.row(0, named=True)
        centre = f"{number(r['input_centre'], 2)} tokens in and {number(r['output_centre'], 2)} out"
        return f"The lengths form one cloud around {centre}: one type of request."
    large = found.sort(["request_share", "type"], descending=[True, False]).row(0, named=True)
    heavy = found.sort(["kv_share", "type"], descending=[True, False]).row(0, named=True)
    said = f"{len(found)} types of request: {large['name']} is the largest ({percent(large['request_share'])})"
    if heavy["type"] == large["type"]:
        return f"{said} and holds {percent(heavy['kv_share'])} of the KV memory over time."
    part = f"{percent(heavy['request_share'])} of the requests"
    return f"{said}; {heavy['name']} holds {percent(heavy['kv_share'])} of the KV memory over time with {part}."


def _said(found: pl.DataFrame, column: str, word: str) -> pl.DataFrame:
    """A boolean in words: a cross where it is false would look like a failure."""
    return found.with_columns(pl.when(column).then(pl.lit(word)).otherwise(pl.lit("")).alias(column))


def _styles(found: pl.DataFrame) -> dict[str, Style]:
    styles = series(found["name"].to_list())
    # on a blue map the first would drown, and the seventh, which is blue again
    free = iter(("@ink", "@grey"))
    return {n: Style(next(free, "@ink"), s.dash, s.symbol) if s.color == "@blue" else s for n, s in styles.items()}


def _map(cells: pl.DataFrame, found: pl.DataFrame) -> Figure:
    """How many requests lie where among the lengths, and the types' centres."""
    # whole rows and columns of cells, empty ones too: one side of a cell is a quarter of an octave
    at = {side: [round(4 * math.log2(v)) for v in cells[f"{side}_from"]] for side in ("input", "output")}
    low = {side: min(of) for side, of in at.items()}
    wide = {side: max(of) - low[side] + 1 for side, of in at.items()}
    z: list[list[float | None]] = [[None] * wide["input"] for _ in range(wide["output"])]
    for i, o, n in zip(at["input"], at["output"], cells["requests"], strict=True):
        z[o - low["output"]][i - low["input"]] = round(math.log10(n), 3)
    edge = {side: [round(2 ** ((low[side] + k) / 4), 3) for k in range(wide[side] + 1)] for side in at}
    ticks = list(range(math.ceil(math.log10(cells["requests"].max())) + 1))  # type: ignore[arg-type]
    heat = {
        "type": "heatmap",
        "x": edge["input"],
        "y": edge["output"],
        "z": z,
        "zmin": 0,
        "colorscale": [[0, "@grid"], [0.5, "@sky"], [1, "@blue"]],
        "hoverongaps": False,
        "hovertemplate": "%{x:,.0f} tokens in, %{y:,.0f} out: 10^%{z:.1f} requests<extra></extra>",
        "colorbar": {
            "title": {"text": "requests", "font": {"size": 12, "color": "@muted"}},
            "tickvals": ticks,
            "ticktext": [f"{10**t:,}" for t in ticks],
            "tickfont": {"size": 11, "color": "@muted"},
            "thickness": 12,
            "outlinewidth": 0,
        },
    }
    centres = [_centre(r, _styles(found)[r["name"]]) for r in found.iter_rows(named=True)]
    x = figures.axis("input tokens", type="log", tickformat="~s", dtick=1)
    y = figures.axis("output tokens", type="log", tickformat="~s", dtick=1)
    layout = figures.layout(x, y, hovermode="closest", showlegend=len(found) > 1)
    caption = "Answered requests by input and output tokens, both axes logarithmic; marks are the types' centres."
    return Figure({"data": [heat, *centres], "layout": layout}, caption, _fullest(cells, found), 460)


def _centre(r: dict[str, Any], style: Style) -> dict[str, Any]:
    mark = figures.marks(r["name"], [r["input_centre"]], figures.rounded([r["output_centre"]]), style)
    mark["marker"] |= {"size": 14, "line": {"width": 2, "color": "@page"}}
    said = f"{figures.label(r['name'])}: %{{x:,.0f}} in, %{{y:,.0f}} out<extra></extra>"
    return mark | {"hovertemplate": said}


def _fullest(cells: pl.DataFrame, found: pl.DataFrame) -> Table:
    named = cells.join(found.select("type", "name"), on="type", how="left")
    top = named.sort(["requests", "input_from", "output_from"], descending=[True, False, False]).head(FULLEST)
    caption = f"The {len(top)} fullest of {len(cells):,} cells, in tokens"
    return table(caption, top, CELLS, "length_cells.parquet")


def _mix(mix: pl.DataFrame, found: pl.DataFrame, clock: figures.Clock) -> Figure:
    names, window = found["name"].to_list(), float(mix["length_s"][0])
    first = float(mix["start_s"].min())  # type: ignore[arg-type]
    count = round((float(mix["start_s"].max()) - first) / window) + 1  # type: ignore[arg-type]
    grid = pl.DataFrame({"at": range(count)}, schema={"at": pl.Int64})
    place = ((pl.col("start_s") - first) / window).round().cast(pl.Int64).alias("at")
    shares = {
        n: grid.join(mix.filter(name=n).select(place, "request_share"), on="at", how="left")
        .sort("at")["request_share"]
        .fill_null(0.0)
        for n in names
    }
    x, styles = clock.regular(first, window), _styles(found)
    data = [figures.line(n, x, shares[n] * 100, styles[n], stackgroup="mix", hovertemplate="%{y:.1f} %") for n in names]
    times = pl.Series("time", [clock.write(first + k * window) for k in range(count)], dtype=pl.String)
    shown = pl.DataFrame([times, *(shares[n].alias(f"s{k}") for k, n in enumerate(names))])
    columns = [Column("time", "Window from"), *(Column(f"s{k}", text(n), "share") for k, n in enumerate(names))]
    y = figures.axis("% of the requests", range=[0, 100])
    layout = figures.layout(clock.axis(), y, showlegend=True)
    height = 280 + 16 * len(names)  # on a narrow screen each name of the legend has a line
    caption = f"Mix of types over time, windows of {span(window)}; 0 where there are none."
    return Figure({"data": data, "layout": layout}, caption, table("Share of requests by type", shown, columns), height)


def _drift(drift: pl.DataFrame, clock: figures.Clock) -> Figure:
    steps = drift.filter(against="previous")
    length, first = float(drift["length_s"][0]), float(steps["start_s"].min())  # type: ignore[arg-type]
    place = ((pl.col("start_s") - first) / length).round().cast(pl.Int64).alias("at")
    placed = steps.with_columns(place)
    grid = pl.DataFrame({"at": range(int(placed["at"].max()) + 1)}, schema={"at": pl.Int64})  # type: ignore[arg-type]
    every = grid.join(placed, on="at", how="left").sort("at")
    x = clock.regular(first, length)
    data = [
        figures.line("distance", x, every["distance"], Style("@blue", "solid", "circle"), mode="lines+markers"),
        figures.line("chance alone (p95)", x, every["floor"], Style("@grey", "dash", "square")),
    ]
    y = figures.axis("Jensen-Shannon distance", rangemode="tozero")
    times = pl.Series([clock.write(float(at)) for at in drift["start_s"]], dtype=pl.String)
    shown = _said(drift, "drifted", "yes").with_columns(time=times)
    caption = f"How far the mix of lengths moved from one part of {span(length)} to the next (0 not at all, 1 wholly)."
    layout = figures.layout(clock.axis(), y, showlegend=True)
    return Figure(
        {"data": data, "layout": layout}, caption, table("Drift of the mix", shown, DRIFT, "mix_drift.parquet"), 280
    )
