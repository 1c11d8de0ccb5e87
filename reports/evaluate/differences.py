"""Differences between policies: how far apart, within what chance would make, and a word for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..format import MISSING, NBSP, change, duration, number, span, text, usd
from ..palette import Style, policy_styles
from ..section import Column, Figure, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

Row = dict[str, Any]
OVERALL = "overall"
SHARE = "slo_attainment"  # of all requests, or of a tier's or a service's
LATENCY = {f"{name}_p{p}_s": f"{name.upper()} p{p}" for name in ("ttft", "tpot", "e2e") for p in (50, 90, 95, 99)}
LABELS = {
    "slo_attainment": "SLO attainment",
    "goodput_rps": "Goodput, req/s",
    "goodput_tok_s": "Goodput, tok/s",
    **LATENCY,
    "gpu_hours_provisioned": "GPU-hours",
    "cost_usd": "Cost",
}
TIMES = 9.0
SHOWN = ("slo_attainment", "ttft_p99_s", "gpu_hours_provisioned")  # panels of the figure
WRITERS = {**dict.fromkeys(LATENCY, duration), "cost_usd": usd}
BRIEF = (
    Column("policy", "Policy", brief=True),
    Column("against", "Against", brief=True),
    Column("verdict", "All in all", brief=True),
    Column("slo_attainment", "Attained, points", brief=True),
    Column("cost", "Cost, %", brief=True),
    Column("ttft", "TTFT p99, %", brief=True),
)
EVERY = (
    Column("policy", "Policy"),
    Column("against", "Against"),
    Column("metric", "Score"),
    Column("value", "Policy's"),
    Column("reference", "The other's"),
    Column("difference", "Difference"),
    Column("interval", "90 % interval"),
    Column("verdict", "Verdict"),
)


def section(result: Evaluation) -> Section | None:
    """A row a pair in the terminal, every score in the report; nothing where one policy stands alone."""
    rows = result.differences
    if rows.is_empty():
        return None
    main = table("Each policy against another", pl.DataFrame([_brief(g) for g in _pairs(rows)]), BRIEF)
    scored = [_every(row) for row in rows.filter(pl.col("metric") != OVERALL).iter_rows(named=True)]
    every = table("Every score of every pair", pl.DataFrame(scored), EVERY, "differences.parquet")
    figure = _figure(result, rows, every)
    return Section(
        "differences",
        "Differences",
        finding(rows, result.settings["intervals"]),
        tables=(main, *(() if figure else (every,))),
        figures=(figure,) if figure else (),
        notes=_notes(result.settings["intervals"]),
        brief=True,
    )


def finding(rows: pl.DataFrame, made: Row) -> str:
    """What the policies asked for are to their first reference, beyond chance."""
    if "why" in made:
        return f"The evaluated part is {made['why']}: differences are stated, and none is judged."
    overall = rows.filter((pl.col("metric") == OVERALL) & pl.col("verdict").is_not_null())
    first = overall.filter(pl.col("relation") == pl.col("relation").first())
    if first.is_empty():
        return "No difference between the policies could be judged."
    said = []
    for word in ("better", "no difference", "worse"):
        names = [text(name) for name in first.filter(pl.col("verdict") == word)["policy"]]
        if names:
            said.append(f"{', '.join(names)} {'no different' if word == 'no difference' else word}")
    return f"Beyond chance, all in all, and against {text(first['against'][0])}: {'; '.join(said)}."


def _notes(made: Row) -> tuple[str, ...]:
    if "why" in made:
        return ()
    return (
        f"90 % intervals by a paired block bootstrap: {made['blocks']} blocks of {span(made['block_s'])}, the same for "
        f"both, drawn again {made['draws']:,} times. An interval that holds 0 is no difference. They say what other "
        "hours of the same traffic would have done, not what another kind of traffic would.",
        *((f"Wider by what {made['seeds']} seeds scatter: start-up times, arrivals.",) if "seeds" in made else ()),
        "All in all: by attainment, and where both attain the target, or attain alike, by cost; against a static fleet "
        "at the same GPU-hours by attainment, and where that is alike by TTFT p99.",
    )


def _pairs(rows: pl.DataFrame) -> list[pl.DataFrame]:
    return [group for _, group in rows.group_by("policy", "relation", "against", maintain_order=True)]


def _brief(pair: pl.DataFrame) -> Row:
    by = {row["metric"]: row for row in pair.iter_rows(named=True)}
    first = pair.row(0, named=True)
    cost = by.get("cost_usd") or by.get("gpu_hours_provisioned")
    shown = {"slo_attainment": by.get("slo_attainment"), "cost": cost, "ttft": by.get("ttft_p99_s")}
    said = {name: None if row is None else _said(row) for name, row in shown.items()}
    return {"policy": first["policy"], "against": _whom(first), **said, "verdict": by[OVERALL]["verdict"]}


def _whom(row: Row) -> str:
    if row["relation"] == "same GPU-hours":
        return "static ≤ its GPU-h" if "at most" in row["against"] else "static ≥ its GPU-h"
    return f"{row['against']} (recommended)" if row["relation"] == "recommended" else str(row["against"])


def _every(row: Row) -> Row:
    value, reference = written(row)
    return {
        "policy": row["policy"],
        "against": _whom(row),
        "metric": label(row["metric"]),
        "value": value,
        "reference": reference,
        "difference": signed(row["difference"], row),
        "interval": bounds(row) or none(row),
        "verdict": row["verdict"],
    }


def label(metric: str) -> str:
    """'SLO attainment, tier batch' of `slo_attainment @ tier=batch`."""
    score, at, of = metric.partition(" @ ")
    return f"{LABELS[score]}, {of.replace('=', ' ', 1)}" if at else LABELS[score]


def written(row: Row) -> tuple[str, str]:
    """The policy's score and the other's."""
    write = WRITERS.get(row["metric"], percentage if row["metric"].startswith(SHARE) else number)
    return write(row["value"]), write(row["reference"])


def none(row: Row) -> str:
    """'none: under 20 windows', where there is no interval."""
    return f"none: {row['why']}" if row["low"] is None and row["why"] else ""


def percentage(value: float) -> str:
    """'99.21 %'."""
    return f"{100 * value:.2f}{NBSP}%"


def _said(row: Row) -> str:
    """'−2.25 [−2.62, −1.88]': the column says the unit."""
    return " ".join(part for part in (signed(row["difference"], row).split(NBSP)[0], bounds(row)) if part)


def signed(value: float, row: Row) -> str:
    """Attainment in points, the others relative to the reference; a reference of 0 leaves no share."""
    if row["metric"].startswith(SHARE):
        return f"{_points(value)}{NBSP}points"
    return relative(value / row["reference"]) if row["reference"] else MISSING


def bounds(row: Row) -> str:
    """'[−0.21, +0.05]', in the unit of `signed`."""
    if row["low"] is None or not row["reference"]:
        return ""
    low, high = (signed(row[name], row).split(NBSP)[0] for name in ("low", "high"))
    return f"[{low},{NBSP}{high}]"


def relative(by: float) -> str:
    """'+8.5 %'; from ten times on '×63.6'."""
    return change(by) if by < TIMES else f"×{number(1 + by, 3)}"


def _points(share: float) -> str:
    written = f"{abs(100 * share):.2f}"
    return ("" if written == "0.00" else "−" if share < 0 else "+") + written


def _figure(result: Evaluation, rows: pl.DataFrame, every: Table) -> Figure | None:
    """Three panels: what is known of the policies' distances to their common reference."""
    first = rows.filter(pl.col("relation") == rows["relation"][0], pl.col("low").is_not_null())
    shown = [metric for metric in SHOWN if first.filter(pl.col("metric") == metric).height]
    if not shown:
        return None
    styles = policy_styles(result.scores)
    names = first["policy"].unique(maintain_order=True).to_list()
    layout = _layout(shown, [figures.label(name, 28) for name in names], first)
    data = []
    for k, metric in enumerate(shown):
        of = first.filter(pl.col("metric") == metric)
        data += [_whisker(row, styles[row["policy"]], k) for row in of.iter_rows(named=True)]
    against = text(first["against"][0])
    caption = (
        f"Against {against}, with 90 % intervals: attainment in points, the others as ratios. Where the bar crosses "
        "the line, chance alone could make the difference."
    )
    return Figure({"data": data, "layout": layout}, caption, every, 110 + 34 * len(names))


def _whisker(row: Row, style: Style, panel: int) -> Row:
    """Points for attainment, ratios for the others: those may be a hundredfold."""
    names = ("difference", "low", "high")
    if row["metric"] == "slo_attainment":
        at, low, high = (100 * row[name] for name in names)
    else:
        at, low, high = (1 + row[name] / row["reference"] if row["reference"] else 1.0 for name in names)
    reach = {
        "type": "data", "symmetric": False, "array": figures.rounded([max(high - at, 0)]),
        "arrayminus": figures.rounded([max(at - low, 0)]), "color": style.color, "thickness": 2, "width": 5,
    }  # fmt: skip
    unit = "%{x:+.2f} points" if row["metric"] == "slo_attainment" else "×%{x:.3~g}"
    name = figures.label(row["policy"], 28)
    mark = figures.marks(row["policy"], [at], [name], style, hovertemplate=unit, showlegend=False)
    mark["marker"] = mark["marker"] | {"size": 8}  # an interval may be narrow
    suffix = "" if panel == 0 else str(panel + 1)
    return mark | {"error_x": reach, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}


def _ratios(rows: pl.DataFrame) -> Row:
    """A ratio's axis: logarithmic, with decades alone, where they lie far apart."""
    known = rows.filter(pl.col("reference") > 0)
    found = [*(1 + known["low"] / known["reference"]), *(1 + known["high"] / known["reference"]), 1.0]
    return {"type": "log", "dtick": 1} if min(found) > 0 and max(found) > 5 * min(found) else {}


def _layout(shown: list[str], names: list[str], rows: pl.DataFrame) -> Row:
    each, gap = 1 / len(shown), 0.035
    layout: Row = figures.layout({}, {}, hovermode="closest", showlegend=False)
    shapes = []
    for k, metric in enumerate(shown):
        suffix, points = "" if k == 0 else str(k + 1), metric == "slo_attainment"
        place = [k * each + (gap if k else 0), (k + 1) * each - (gap if k + 1 < len(shown) else 0)]
        scale = {} if points else {"tickprefix": "×", **_ratios(rows.filter(pl.col("metric") == metric))}
        title = f"{LABELS[metric]},<br>{'points' if points else 'ratio'}"  # narrow: panels stand side by side
        layout[f"xaxis{suffix}"] = figures.axis(
            title, domain=place, anchor=f"y{suffix}", nticks=5, tickangle=0, **scale
        )
        layout[f"yaxis{suffix}"] = figures.axis(
            "", type="category", categoryorder="array", categoryarray=names[::-1], anchor=f"x{suffix}",
            showticklabels=k == 0, range=[-0.5, len(names) - 0.5],
        )  # fmt: skip
        even = 0 if points else 1  # a shape's place on a log axis is in the axis's own unit
        across = {"x0": even, "x1": even, "y0": 0, "y1": 1, "xref": f"x{suffix}", "yref": f"y{suffix} domain"}
        shapes.append({"type": "line", "line": {"color": "@muted", "width": 1.5, "dash": "dash"}, **across})
    return layout | {"shapes": shapes}
