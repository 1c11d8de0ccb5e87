"""The windows in which policies missed most, and what they missed for: by rule, or by replay with one thing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from lmaas.policies.choice import choose
from lmaas.policies.worst import CAUSES, MOST

from .. import figures
from ..figures import Clock
from ..format import many, percent, text
from ..section import Column, Figure, Section, Table, table

if TYPE_CHECKING:
    from lmaas.policies.results import Evaluation

CHANGES = (
    Column("policy", "Policy"),
    Column("time", "From"),
    Column("pool", "Pool"),
    Column("missed", "Missed", "count"),
    Column("change", "What is changed"),
    Column("left", "Still missed", "number"),
    Column("mended", "Mended", "change"),
    Column("why", "Not replayed"),
)
COLUMNS = (
    Column("time", "Window from", brief=True),
    Column("pool", "Pool", brief=True),
    Column("missed", "Missed", "count", brief=True),
    Column("slo_attainment", "Attained", "share", brief=True),
    Column("cause", "Cause", brief=True),
    Column("how", "Found", brief=True),
    Column("mended", "Mended by its change", "share", brief=True),
    Column("rule", "By rule"),
    Column("needed", "Needed", "number"),
    Column("active", "Active", "number", brief=True),
    Column("starting", "Starting", "number"),
    Column("queue", "Waiting", "number", brief=True),
    Column("rise", "Rise", "number"),
    Column("forecast_off", "Forecast off", "change"),
    Column("kv_use", "KV in use", "share"),
    Column("preempted", "Preempted", "share"),
    Column("arrived", "Arrived", "count"),
)


def section(result: Evaluation) -> Section | None:
    """The ten worst of the policy the headline is about, and the causes of all; nothing where nothing was missed."""
    if result.worst.is_empty():
        return None
    subject = choose(result.scores, result.settings["attain"]).subject
    names = result.worst["policy"].unique(maintain_order=True).to_list()
    whose = subject["policy"] if subject and subject["policy"] in names else names[0]
    clock = Clock(result.trace.epoch, result.settings["end_s"])
    windows = result.worst.filter(pl.col("policy") == whose).with_columns(
        time=pl.col("start_s").map_elements(clock.write, return_dtype=pl.String),
        pool=pl.format("{}/{}/{}", "service", "region", "lane").str.strip_suffix("/shared"),
    )
    used = [name for name in CAUSES if name in set(result.worst["cause"])]
    return Section(
        "worst",
        "Worst windows",
        finding(windows, whose, result.scores),
        figures=(_figure(result.worst, used),),
        tables=(
            table(f"The worst windows of {text(whose)}, by missed requests", windows, COLUMNS, "worst.parquet"),
            *_changes(result, whose, clock),
        ),
        notes=(
            *_replayed(result, whose, clock),
            *_ruled(result.worst, used),
            "Needed: ceil(arrival rate / μ); active, starting: mean replicas; waiting: mean requests; rise: requests "
            "over the mean of the three windows before.",
        ),
        brief=True,
    )


def finding(windows: pl.DataFrame, policy: str, scores: pl.DataFrame) -> str:
    """How much of all misses the worst windows hold, and their commonest cause."""
    row = scores.filter(pl.col("policy") == policy).row(0, named=True)
    misses = round((1 - row["slo_attainment"]) * (row["arrived"] + (row.get("not_sent") or 0)))
    here = int(windows["missed"].sum())
    share = f" ({percent(here / misses)} of all it missed)" if 0 < here <= misses else ""
    causes = windows.group_by("cause").agg(pl.col("missed").sum()).sort("missed", "cause", descending=[True, False])
    first = causes.row(0, named=True)
    return (
        f"In its {many(windows.height, 'worst window')} {text(policy)} missed {many(here, 'request')}{share}; "
        f"commonest cause {windows['how'][0]}: {first['cause']} ({percent(first['missed'] / here)} of these)."
    )


def _changes(result: Evaluation, whose: str, clock: Clock) -> tuple[Table, ...]:
    """Every change of every window of the policy, and of its worst hour."""
    done = result.causes.filter(pl.col("policy") == whose) if result.causes.width else result.causes
    if done.is_empty():
        return ()
    shown = done.with_columns(
        time=pl.col("start_s").map_elements(clock.write, return_dtype=pl.String),
        pool=pl.format("{}/{}/{}", "service", "region", "lane").str.strip_suffix("/shared").fill_null("the worst hour"),
    )
    return (table(f"What each change leaves of the misses of {text(whose)}", shown, CHANGES, "causes.parquet"),)


def _replayed(result: Evaluation, whose: str, clock: Clock) -> tuple[str, ...]:
    """How causes by replay are found, how often the rules say the same, and the cause of the worst hour."""
    worst = result.worst.filter(pl.col("how") == "by replay")
    if worst.is_empty():
        return ()
    same = int((worst["cause"] == worst["rule"]).sum())
    hours = result.worst_hours.filter(pl.col("policy") == whose).to_dicts()
    mended = [f" ({percent(hour['mended'])} mended)" if hour["change"] else "" for hour in hours]
    return (
        "By replay: the policy is replayed with one thing changed (the true demand known, replicas ready at once, KV "
        "caches that never fill, the router that balances best). The cause is the change that mends most of the "
        "window's misses, if it mends half of them; else the demand, if levelled windows mend half, else the fleet's "
        "size, if twice as many replicas do; else it is not attributed.",
        f"Of {many(worst.height, 'window')} of all policies replay and rule name the same cause in {same:,}.",
        *(
            f"The worst hour of {text(whose)}, from {clock.write(hour['start_s'])}, {many(hour['missed'], 'request')} "
            f"missed: {hour['cause']}{how}."
            for hour, how in zip(hours, mended, strict=True)
        ),
    )


def _ruled(worst: pl.DataFrame, used: list[str]) -> tuple[str, ...]:
    """What the rules are, where any is shown."""
    if not (worst["how"] == "by rule").any():
        return ()
    return (
        "By rule: the first that holds, in this order. It says what was plain to see in the window, not that the "
        "misses would be gone without it.",
        *(f"{name}: {CAUSES[name]}." for name in used),
    )


def _figure(worst: pl.DataFrame, used: list[str]) -> Figure:
    """A bar a policy: the misses of its worst windows, by cause."""
    sums = worst.group_by("policy", "cause", maintain_order=True).agg(pl.col("missed").sum(), windows=pl.len())
    names = worst["policy"].unique(maintain_order=True).to_list()
    data = []
    for cause in used:
        by = dict(sums.filter(pl.col("cause") == cause).select("policy", "missed").iter_rows())
        data.append(_bar(cause, [by.get(name, 0) for name in names], names))
    layout = figures.layout(
        figures.axis("share of the misses in its worst windows, %"),
        figures.axis("", type="category", categoryorder="array", categoryarray=[*map(_label, names)][::-1]),
        hovermode="closest", barmode="stack", barnorm="percent", bargap=0.45, showlegend=True,
    )  # fmt: skip
    layout["legend"] = layout["legend"] | {"traceorder": "normal"}
    columns = (
        Column("policy", "Policy"),
        Column("cause", "Cause"),
        Column("missed", "Missed", "count"),
        Column("windows", "Windows", "count"),
    )
    how = " or ".join(worst["how"].unique(maintain_order=True))
    caption = f"What each policy's worst windows (up to {MOST}) missed requests for, {how}."
    shown = table("Misses of the worst windows, by cause", sums, columns, "worst.parquet")
    return Figure({"data": data, "layout": layout}, caption, shown, 130 + 34 * len(names))


LOOKS = {  # colour and pattern, the same in every report; never colour alone
    "out of reach": ("@ink", ""), "forecast miss": ("@orange", "/"), "cold start": ("@sky", "\\"),
    "demand spike": ("@vermillion", "x"), "too few replicas": ("@purple", "-"), "backlog": ("@grey", "|"),
    "imbalance": ("@green", "."), "KV saturation": ("@blue", "+"), "not attributed": ("@grid", ""),
}  # fmt: skip


def _bar(cause: str, missed: list[int], names: list[str]) -> dict[str, Any]:
    color, shape = LOOKS[cause]
    pattern = {"shape": shape, "fillmode": "overlay", "fgcolor": "@page", "size": 7, "solidity": 0.2}
    return {
        "type": "bar", "orientation": "h", "name": cause, "x": missed, "y": [_label(name) for name in names],
        "marker": {"color": color, "pattern": pattern}, "hovertemplate": "%{x:.1f} %",
    }  # fmt: skip


def _label(name: str) -> str:
    return figures.label(name, 28)
