"""What a comparison says, in sentences a reviewer can quote: each rests on one row of its tables."""

from collections.abc import Mapping
from typing import Any

import polars as pl

MOST = 4
LENGTHS = {"input_tokens": ("Prompts", "prompts"), "output_tokens": ("Answers", "answers")}
LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E", "queue_s": "Queueing"}
RATES = {
    "requests per second": "requests/s",
    "input_tokens per second": "input tokens/s",
    "output_tokens per second": "output tokens/s",
}

Row = dict[str, Any]


def findings(tables: Mapping[str, pl.DataFrame]) -> tuple[str, ...]:
    """The largest changes beyond noise, at most MOST; one sentence where there is none."""
    table = tables["compare"]
    judged = table.filter(pl.col("beyond_noise").is_not_null())
    if judged.is_empty():
        return ("Too short to compare: what differs cannot be told from chance.",)
    told = judged.filter(pl.col("beyond_noise"), pl.col("size") != "negligible")
    if told.is_empty():
        most = judged.sort(pl.col("effect").abs(), "measure", descending=[True, False]).row(0, named=True)
        beyond = judged["beyond_noise"].sum()
        said = f"Only negligible changes: {beyond} of {len(judged)} measures differ by more than chance"
        said = said if beyond else f"No change beyond noise in {len(judged)} measures"
        return (f"{said}; the largest effect is {abs(most['effect']):.2f} ({most['measure']}).",)
    # one sentence a distribution, and one for the load
    about = (
        pl.when(pl.col("measure").is_in(list(RATES)))
        .then(pl.lit(""))
        .otherwise(pl.col("measure").str.extract("([^,]*)"))
    )
    rows = told.unique(about, keep="first", maintain_order=True).head(MOST)
    return tuple(_sentence(row, tables["compare_mix"]) for row in rows.iter_rows(named=True))


def _sentence(row: Row, mix: pl.DataFrame) -> str:
    metric, _, part = row["measure"].partition(", ")
    effect = f"(effect {abs(row['effect']):.2f}, {row['size']})"
    if row["kind"] == "share":
        return _mix(row, mix, effect)
    if row["kind"] == "rho":
        return f"The rank correlation of the lengths went from {row['before']:.2f} to {row['after']:.2f} {effect}."
    if metric in LENGTHS:
        return _length(row, metric, part, effect)
    if metric in LATENCIES:
        before, after = (_milliseconds(row[k]) for k in ("before", "after"))
        how = "slower" if row["effect"] > 0 else "faster"
        return f"{LATENCIES[metric]} became {how}: the {part} was {before} and is {after} {effect}."
    return _load(row, effect)


def _length(row: Row, metric: str, part: str, effect: str) -> str:
    who, more = LENGTHS[metric][0], row["effect"] > 0
    if part != "median":
        who = f"The longest {LENGTHS[metric][1]}"
    verb = "rose" if row["after"] > row["before"] else "fell" if row["after"] < row["before"] else "stayed"
    numbers = f"the {part} {verb} from {row['before']:,.0f} to {row['after']:,.0f} tokens"
    if verb == "stayed":
        numbers = f"the {part} stayed at {row['after']:,.0f} tokens"
    return f"{who} became {'longer' if more else 'shorter'}: {numbers} {effect}."


def _load(row: Row, effect: str) -> str:
    verb, unit = ("rose" if row["effect"] > 0 else "fell"), RATES.get(row["measure"])
    times = f", {row['after'] / row['before']:.3g} times as much" if row["before"] else ""
    subject = "The load" if unit else row["measure"][0].upper() + row["measure"][1:]
    before, after = (f"{row[k]:,.0f}" if row[k] >= 100 else f"{row[k]:.3g}" for k in ("before", "after"))
    numbers = f"from {before} to {after}" + (f" {unit}" if unit else "")
    return f"{subject} {verb} {numbers}{times} {effect}."


def _mix(row: Row, mix: pl.DataFrame, effect: str) -> str:
    by = row["measure"].removeprefix("mix of ")
    mover = mix.filter(pl.col("by") == by, pl.col("name") == row["mover"]).row(0, named=True)
    verb = "rose" if mover["change"] > 0 else "fell"
    return (
        f"The mix by {by} changed: {row['mover']} {verb} from {mover['before']:.1%} to {mover['after']:.1%} of the "
        f"requests {effect}."
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 10 else f"{1000 * seconds:,.0f} ms"
