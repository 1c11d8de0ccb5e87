"""What the recommendation rests on: assumptions moved, replayed, and where they would break it; and other seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.full.breakeven import ATTAINS, CHEAPER, HOLDS, MISSES

from .. import figures
from ..format import number, percent, share, text
from ..palette import policy_styles
from ..section import Column, Figure, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

Row = dict[str, Any]
TITLES = {
    "growth": "traffic",
    "output length": "output lengths",
    "cold start": "cold start",
    "SLO limits": "SLO limits",
    "forecast error": "forecast error",
    "price": "price",
}
WHERE = TITLES | {"cold start": "a cold start of", "forecast error": "forecasts off by"}
BREAKS = (
    Column("assumption", "Assumption", brief=True),
    Column("tested", "Tested", brief=True),
    Column("event", "What happens first", brief=True),
    Column("between", "between", brief=True),
    Column("about", "about", brief=True),
    Column("other", "Recommended then", brief=True),
)
POINTS = (
    Column("assumption", "Assumption"),
    Column("at", "Value"),
    Column("policy", "Policy"),
    Column("slo_attainment", "SLO attained", "share"),
    Column("gpu_hours_provisioned", "GPU-h", "number"),
    Column("cost_usd", "Cost", "usd"),
    Column("ttft_p99_s", "TTFT p99", "duration_s"),
    Column("recommended", "Recommended"),
    Column("why", "Not replayed"),
)
SEEDS = (
    Column("policy", "Policy"),
    Column("seed", "Seed", "count"),
    Column("slo_attainment", "SLO attained", "share"),
    Column("gpu_hours_provisioned", "GPU-h", "number"),
    Column("cost_usd", "Cost", "usd"),
    Column("ttft_p99_s", "TTFT p99", "duration_s"),
    Column("why", "Not replayed"),
)


def section(result: Evaluation) -> Section | None:
    """A row a factor and direction, a panel a factor, every point; nothing without `--depth full`."""
    if result.break_even.is_empty():
        return None
    rows, attain = result.sensitivity, float(result.settings["attain"])
    breaks = pl.DataFrame(
        [_said(row, rows) for row in result.break_even.iter_rows(named=True)], infer_schema_length=None
    )
    tables = [table(f"Where it no longer holds that {_claim(result)}", breaks, BREAKS, "break_even.parquet")]
    if result.seeds["seed"].n_unique() > 1:
        label = f"The same under {result.seeds['seed'].n_unique()} seeds"
        mine = result.seeds.filter(pl.col("policy").is_in(result.scores["policy"].to_list()))
        tables.append(table(label, mine, SEEDS, "seeds.parquet"))
    return Section(
        "sensitivity",
        "Sensitivity",
        finding(result.break_even, rows, attain),
        figures=(_figure(result, rows, attain),),
        tables=tuple(tables),
        notes=(
            "Each point is an evaluation of its own in which this one thing is otherwise, in the part that is learned "
            "from, too: policies know of it. Forecast error alone is unknown to them: the true demand, off by so much "
            "on average.",
            "Between two tested points a straight line is drawn; what lies beyond the outermost was not looked at.",
            *_prices(rows),
        ),
        brief=True,
    )


def finding(breaks: pl.DataFrame, points: pl.DataFrame, attain: float) -> str:
    """What breaks the recommendation, and what does not; points: columns SENSITIVITY."""
    subject = text(breaks["policy"][0])
    events = breaks.filter(pl.col("event") != HOLDS)
    held = [TITLES[f] for f in breaks["factor"].unique(maintain_order=True) if f not in events["factor"].to_list()]
    if events.is_empty():
        return f"Nothing that was tested changes what is said of {subject}."
    own = dict(points.filter("as_evaluated").select("factor", "value").iter_rows())
    first = [_sentence(row, own.get(row["factor"]), subject, attain) for row in events.iter_rows(named=True)]
    rest = f" No change within what was tested of {_listed(held)}." if held else ""
    return f"{'; '.join(first)[0].upper()}{'; '.join(first)[1:]}.{rest}"


def _sentence(row: Row, own: float | None, subject: str, attain: float) -> str:
    """own: the evaluation's own value, from which the event lies above or below."""
    up = own is None or row["high"] > own
    at = row["at"] if row["at"] is not None else row["high"] if up else row["low"]
    side = "" if row["low"] is None else "above " if up else "below "
    where = f"with {WHERE[row['factor']]} {side}{'' if row['at'] is None else 'about '}{_value(at, row['unit'])}"
    if row["event"] != CHEAPER:
        return f"{where} {subject} {'attains' if row['event'] == ATTAINS else 'no longer attains'} {share(attain)}"
    return f"{where} {text(row['other'])} is recommended" if row["other"] else f"{where} {subject} no longer is"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _value(value: float, unit: str) -> str:
    return {"x": f"{number(value, 3)} x", "s": f"{number(value, 3)} s", "share": percent(value)}[unit]


def _claim(result: Evaluation) -> str:
    name = text(result.break_even["policy"][0])
    best = result.sensitivity.filter(pl.col("as_evaluated") & pl.col("recommended"))["policy"].to_list()
    return f"{name} is recommended" if name in map(text, best) else f"{name} comes closest to the target"


def _assumption(row: Row) -> str:
    return TITLES[row["factor"]] + (f" of {text(row['gpu'])}" if row["gpu"] else "")


def _said(row: Row, points: pl.DataFrame) -> Row:
    """A row of BREAKS."""
    values = points.filter((pl.col("factor") == row["factor"]) & pl.col("gpu").eq_missing(pl.lit(row["gpu"])))["value"]
    ends = [_value(float(v), row["unit"]) for v in (values.min(), values.max())]  # type: ignore[arg-type]
    holds = row["event"] == HOLDS
    low, high = (None if row[end] is None else _value(row[end], row["unit"]) for end in ("low", "high"))
    words = {MISSES: "misses the target", ATTAINS: "attains the target", CHEAPER: "another is recommended"}
    return {
        "assumption": _assumption(row),
        "tested": f"{ends[0]} to {ends[1]}",
        "event": "nothing: it holds" if holds else words[row["event"]],
        "between": None if holds else f"{low} and {high}" if low else f"already at {high}",
        "about": None if row["at"] is None else _value(row["at"], row["unit"]),
        "other": row["other"],
    }


def _prices(rows: pl.DataFrame) -> tuple[str, ...]:
    if "price" in rows["factor"].to_list():
        return ()
    return (
        "Price: one GPU type, or none with a price, so a change of price changes every cost alike and no decision.",
    )


def _figure(result: Evaluation, rows: pl.DataFrame, attain: float) -> Figure:
    """A panel a factor: attainment of the policy in question and of those that take its place."""
    others = result.break_even["other"].drop_nulls().to_list()
    shown = list(dict.fromkeys([result.break_even["policy"][0], *others]))
    styles = policy_styles(result.scores)
    panels = list(rows.select("factor", "gpu").unique(maintain_order=True).iter_rows())
    data, layout = [], figures.layout({}, {}, hovermode="closest", showlegend=True)
    del layout["xaxis"], layout["yaxis"]
    across, gap = min(3, len(panels)), 0.09
    down = -(-len(panels) // across)
    for k, (factor, gpu) in enumerate(panels):
        mine = rows.filter((pl.col("factor") == factor) & pl.col("gpu").eq_missing(pl.lit(gpu)))
        unit = {"x": "times", "s": "s", "share": "%"}[mine["unit"][0]]
        n, (row, column) = "" if k == 0 else str(k + 1), divmod(k, across)
        width, height = (1 - gap * (across - 1)) / across, (1 - 0.22 * (down - 1)) / down
        left, top = column * (width + gap), 1 - row * (height + 0.22)
        title = f"{_assumption({'factor': factor, 'gpu': gpu})}, {unit}"
        layout[f"xaxis{n}"] = figures.axis(figures.label(title), domain=[left, left + width], anchor=f"y{n}")
        layout[f"yaxis{n}"] = figures.axis(
            "SLO attainment, %" if column == 0 else "", domain=[max(0.0, top - height), top], anchor=f"x{n}"
        )
        layout.setdefault("shapes", []).append(
            figures.rule("y", 100 * attain) | {"yref": f"y{n}", "xref": f"x{n} domain"}
        )
        for policy in shown:
            of = mine.filter((pl.col("policy") == policy) & pl.col("slo_attainment").is_not_null())
            scale = 100 if unit == "%" else 1
            y, style = figures.rounded(100 * of["slo_attainment"]), styles[policy]
            drawn = figures.marks(
                policy, scale * of["value"], y, style, hovertemplate=f"%{{x:.4~g}} {unit}: %{{y:.2f}} %"
            )
            drawn |= {"mode": "lines+markers", "line": {"color": style.color, "dash": style.dash, "width": 2}}
            drawn["marker"] = drawn["marker"] | {"size": 8}
            data.append(drawn | {"xaxis": f"x{n}", "yaxis": f"y{n}", "legendgroup": policy, "showlegend": k == 0})
    caption = (
        "SLO attainment as one assumption changes. Dashed: the target. Every marker is a replay, or the evaluation."
    )
    return Figure({"data": data, "layout": layout}, caption, _points(rows), 90 + 250 * down)


def _points(rows: pl.DataFrame) -> Table:
    said = []
    for row in rows.iter_rows(named=True):
        at = _value(row["value"], row["unit"]) + (", as evaluated" if row["as_evaluated"] else "")
        said.append(
            row | {"assumption": _assumption(row), "at": at, "recommended": "yes" if row["recommended"] else ""}
        )
    return table("Every point and policy", pl.DataFrame(said, infer_schema_length=None), POINTS, "sensitivity.parquet")
