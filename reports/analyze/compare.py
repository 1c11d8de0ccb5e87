"""What changed: the analysed requests beside those they are compared with, largest effect first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .. import figures
from ..format import MISSING, change, duration, number, percent, span, text
from ..palette import Style
from ..section import Column, Figure, Section, table

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis
    from lmaas.analysis.comparison.against import Comparison

NAMES = {
    "input_tokens": "ISL (input tokens)",
    "output_tokens": "OSL (output tokens)",
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "e2e_s": "E2E",
    "queue_s": "Queue",
}
COLUMNS = (
    Column("what", "Measure", brief=True),
    Column("was", "Before", brief=True),
    Column("is", "After", brief=True),
    Column("changed", "Change", brief=True),
    Column("effect", "Effect", brief=True),
    Column("verdict", "Size", brief=True),
    Column("interval", "95 % interval of the effect"),
    Column("p", "p", "number"),
    Column("kind", "Kind of effect"),
    Column("ks", "KS distance", "number"),
    Column("apart", "Wasserstein distance"),
)
MIX = (
    Column("by", "By"),
    Column("name", "Name"),
    Column("before", "Before", "share"),
    Column("after", "After", "share"),
    Column("points", "Change, points", "number"),
)
KINDS = {
    "delta": "Cliff's delta",
    "ratio": "(after − before) / (after + before)",
    "share": "total variation distance",
    "rho": "difference",
}
NAMED = 70  # signs of both names in a caption
STYLES = (Style("@muted", "dash", "circle"), Style("@blue", "solid", "square"))
LEAST = {"tokens": 1.0, "s": 1e-3}  # a logarithmic axis has no 0


def section(result: Analysis) -> Section | None:
    """Absent unless something was asked to be compared."""
    found = result.comparison
    if found is None:
        return None
    rows, mix = found.tables["compare"], found.tables["compare_mix"]
    tables = [table(caption(found), worded(rows, mix), COLUMNS, "compare.parquet")]
    values = found.tables["compare_values"]
    if values.height:
        exact = "exact" if values["exact"].all() else "within 1 % where not exact"
        tables.append(table(f"Percentiles, {exact}; intervals of 95 %", percentiles(values, found), _values()))
    if mix.height:
        moved = mix.with_columns(points=pl.col("change") * 100)
        tables.append(table("Shares of requests", moved, MIX, "compare_mix.parquet"))
    return Section(
        "compare",
        "What changed",
        text(found.findings[0]),
        tables=tuple(tables),
        figures=tuple(_figure(cdf, metric, found) for (metric,), cdf in _cdfs(found)),
        notes=(
            *map(text, found.findings[1:]),
            text(f"Before: {found.before}. After: {found.after}."),
            f"Chance is judged by blocks of {span(found.block_s)} ({found.blocks[0]:,} before, {found.blocks[1]:,} "
            "after), dealt out to both sides at random.",
        ),
        brief=True,
    )


def caption(found: Comparison) -> str:
    """Both sides by name, where that fits a line; the notes have them anyway."""
    sides = f"{text(found.after)} against {text(found.before)}"
    return f"{sides if len(sides) <= NAMED else 'After against before'}, largest effect first"


def worded(rows: pl.DataFrame, mix: pl.DataFrame) -> pl.DataFrame:
    """`compare` with its values as a reader says them: their units differ from row to row."""
    return pl.DataFrame([_words(r, mix) for r in rows.iter_rows(named=True)], infer_schema_length=None)


def _words(row: dict[str, Any], mix: pl.DataFrame) -> dict[str, Any]:
    metric, _, part = row["measure"].partition(", ")
    was, now = (_value(row[k], row["unit"], row["kind"]) for k in ("before", "after"))
    changed = MISSING if row["change"] is None or row["kind"] in ("share", "rho") else change(row["change"])
    if row["mover"] is not None:
        by = row["measure"].removeprefix("mix of ")
        mover = mix.filter(pl.col("by") == by, pl.col("name") == row["mover"]).row(0, named=True)
        was, now = f"{text(row['mover'])} {percent(mover['before'])}", percent(mover["after"])
    low, high = row["low"], row["high"]
    verdict = {True: row["size"], False: "noise", None: f"{row['size']}, not judged"}[row["beyond_noise"]]
    return {
        "what": f"{NAMES[metric]}, {part}" if metric in NAMES else row["measure"].replace("_", " "),
        "was": was,
        "is": now,
        "changed": changed,
        "effect": f"{row['effect']:.2f}" if row["kind"] == "share" else f"{row['effect']:+.2f}",
        "verdict": verdict,
        "interval": MISSING if low is None else f"{number(low, 2)} to {number(high, 2)}",
        "p": row["p"],
        "kind": KINDS[row["kind"]],
        "ks": row["ks"],
        "apart": MISSING if row["wasserstein"] is None else _value(row["wasserstein"], row["unit"], ""),
    }


def _value(value: float | None, unit: str, kind: str) -> str:
    if value is None:
        return MISSING
    if unit == "s":
        return duration(value)
    if kind == "share":
        return percent(value)
    return number(value, 3 if unit.endswith("/s") or kind == "rho" else 4)


def _values() -> tuple[Column, ...]:
    return (
        Column("what", "Of"),
        Column("side", "Side"),
        Column("n", "n", "count"),
        *(Column(c, c) for c in ("p50", "p50 interval", "p99", "p99 interval")),
    )


def percentiles(values: pl.DataFrame, found: Comparison) -> pl.DataFrame:
    """`compare_values` with units and the sides' names."""
    sides = {"before": found.before, "after": found.after}
    rows = []
    for r in values.iter_rows(named=True):
        unit = "tokens" if r["metric"].endswith("tokens") else "s"
        row = {"what": NAMES[r["metric"]], "side": sides[r["side"]], "n": r["n"]}
        for p in ("p50", "p99"):
            ends = [_value(r[f"{p}_{end}"], unit, "") for end in ("low", "high")]
            row |= {p: _value(r[p], unit, ""), f"{p} interval": MISSING if MISSING in ends else " to ".join(ends)}
        rows.append(row)
    return pl.DataFrame(rows)


def _cdfs(found: Comparison) -> list[tuple[tuple[str], pl.DataFrame]]:
    parts = found.tables["compare_cdf"].partition_by("metric", as_dict=True)
    return [((m,), parts[m,]) for m in NAMES if (m,) in parts]


def _figure(cdf: pl.DataFrame, metric: str, found: Comparison) -> Figure:
    """Both distribution functions on one logarithmic axis."""
    unit = "tokens" if metric.endswith("tokens") else "s"
    names = {"before": found.before, "after": found.after}
    shown = cdf.with_columns(pl.col("before", "after").clip(lower_bound=LEAST[unit]), share=pl.col("share") * 100)
    data = [
        figures.line(
            text(names[side]),
            {"x": figures.rounded(shown[side])},
            shown["share"],
            style,
            hovertemplate="%{x:,.4~g} " + unit,
        )
        for side, style in zip(("before", "after"), STYLES, strict=True)
    ]
    x = figures.axis(
        NAMES[metric] if unit == "tokens" else f"{NAMES[metric]}, seconds", type="log", dtick="D2", tickformat="~s"
    )
    if unit == "s":
        x |= {"tickformat": "~g"}
    y = figures.axis("share of requests below, %", range=[0, 100])
    columns = (
        Column("share", "Share below, %", "number"),
        Column("before", text(found.before), "number"),
        Column("after", text(found.after), "number"),
    )
    what = f"{NAMES[metric]}: the share of requests below each value, logarithmic."
    layout = figures.layout(x, y, hovermode="y unified", showlegend=True)
    return Figure({"data": data, "layout": layout}, what, table(what, shown, columns, "compare_cdf.parquet"), 320)
