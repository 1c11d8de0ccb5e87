"""How requests arrive: times between them and what they resemble, dispersion across scales, bursts, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.analysis.workload.arrivals import CLOSE

from .. import figures
from ..format import number, percent, span
from ..palette import Style
from ..section import Column, Figure, Section, Table, table
from .tables import rows

if TYPE_CHECKING:
    from lmaas.analysis.characterise import Analysis

FAMILIES = {"exponential": "exponential", "gamma": "gamma", "weibull": "Weibull", "lognormal": "lognormal"}
LOOKS = {
    "exponential": Style("@grey", "dot", "circle"),
    "gamma": Style("@orange", "dash", "square"),
    "weibull": Style("@green", "dashdot", "diamond"),
    "lognormal": Style("@purple", "solid", "cross"),
}
OBSERVED = Style("@blue", "solid", "circle")
MIN_SCALES = 3  # points of a line
GAPS = (
    Column("n", "Gaps", "count"),
    Column("mean_s", "Mean", "duration_s"),
    Column("cv", "CV", "number"),
    Column("p50_s", "p50", "duration_s"),
    Column("p90_s", "p90", "duration_s"),
    Column("p99_s", "p99", "duration_s"),
    Column("zero_share", "Shown as 0", "share"),
)
FITS = (
    Column("name", "Distribution"),
    Column("shape", "Shape", "number"),
    Column("scale_s", "Scale", "duration_s"),
    Column("aic_over_best", "AIC − best", "number"),
    Column("ks", "Distance (KS)", "share"),
    Column("ks_noise", "By chance", "share"),
)
BURSTS = (
    Column("time", "From"),
    Column("length_s", "Length", "span_s"),
    Column("requests", "Requests", "count"),
    Column("expected", "Expected", "count"),
    Column("peak_rps", "Peak req/s", "number"),
    Column("peak_to_expected", "Peak / expected", "number"),
)
MEMORY = (
    Column("hurst", "Hurst exponent", "number"),
    Column("low", "95 % from", "number"),
    Column("high", "to", "number"),
    Column("from_s", "Scales from", "span_s"),
    Column("to_s", "to", "span_s"),
    Column("straight", "On a line"),
    Column("rhythm_removed", "Taken out before"),
)


def section(result: Analysis) -> Section | None:
    """Absent where the trace has neither gaps nor scales."""
    gaps, scales = rows(result, "gaps"), rows(result, "scales")
    if gaps.is_empty() and scales.is_empty():
        return None
    clock = figures.Clock(result.trace.epoch, result.trace.span_s)
    drawn = [
        *([gap_figure(rows(result, "gap_curve"))] if rows(result, "gap_curve").height else []),
        *([dispersion_figure(scales)] if _dispersions(scales).height >= MIN_SCALES else []),
    ]
    return Section(
        "arrivals",
        "Arrivals and bursts",
        finding(gaps, rows(result, "gap_fits"), rows(result, "burstiness")),
        tables=tuple(_tables(result, clock)),
        figures=tuple(drawn),
        notes=tuple(_notes(gaps, rows(result, "burstiness"), rows(result, "long_memory"))),
    )


def finding(gaps: pl.DataFrame, fits: pl.DataFrame, burstiness: pl.DataFrame) -> str:
    """How irregular the gaps are and how much arrives in bursts."""
    said = []
    if fits.height:
        best, cv = fits.row(0, named=True), gaps["cv"][0]
        which = f"{'an' if best['family'] == 'exponential' else 'a'} {FAMILIES[best['family']]} distribution"
        said.append(
            f"Times between arrivals have a coefficient of variation of {number(cv, 3)} (Poisson: 1) and are "
            f"{'like' if best['ks'] <= CLOSE else 'not like any of four distributions, most like'} {which}"
        )
    elif gaps.height:
        said.append(f"The distribution of times between arrivals cannot be told: {gaps['reason'][0]}")
    if burstiness.height:
        b = burstiness.row(0, named=True)
        if b["bursts"]:
            share = f"{percent(b['request_share'])} of the requests in {percent(b['time_share'])} of the time"
            said.append(f"{number(b['bursts'])} {'burst brings' if b['bursts'] == 1 else 'bursts bring'} {share}")
        else:
            said.append("there are no bursts beyond chance" if said else "There are no bursts beyond chance")
    return f"{'; '.join(said) or 'The trace is too short to say how requests arrive'}."


def _tables(result: Analysis, clock: figures.Clock) -> list[Table]:
    gaps, fits, bursts, memory = (rows(result, name) for name in ("gaps", "gap_fits", "bursts", "long_memory"))
    found = []
    if gaps.height:
        found.append(table("Times between arrivals, percentiles within 1 %", gaps, GAPS))
    if fits.height:
        named = fits.with_columns(name=pl.col("family").replace_strict(FAMILIES))
        found.append(table("Fitted distributions, likeliest first; of the lognormal σ and the median", named, FITS))
    if bursts.height:
        times = pl.Series("time", [clock.write(s) for s in bursts["start_s"]], dtype=pl.String)
        caption = f"The {bursts.height} bursts with the most requests beyond the expected level"
        found.append(table(caption, bursts.with_columns(times), BURSTS))
    if memory.height:
        removed = pl.when(pl.col("rhythm_removed") == "").then(pl.lit("nothing")).otherwise("rhythm_removed")
        shown = memory.with_columns(removed.alias("rhythm_removed"))
        found.append(table("Long memory of the load, by wavelets", shown, MEMORY))
    return found


def _notes(gaps: pl.DataFrame, burstiness: pl.DataFrame, memory: pl.DataFrame) -> list[str]:
    said = []
    if gaps.height and gaps["resolvable"][0]:
        said.append(
            "With many gaps every test rejects every distribution; the distance says how far off it is. Gaps are "
            "fitted as if independent, over the whole trace: where the rate changes, that alone spreads them."
        )
    for b in burstiness.iter_rows(named=True):
        said.append(
            f"A burst has at least {number(b['factor'])} times the median of the {span(b['baseline_s'])} around it, in "
            f"windows of {span(b['window_s'])}, and more than chance gives Poisson arrivals in one of a hundred traces."
        )
    if memory.height:
        said.append(
            "A Hurst exponent of 0.5 is no memory; shifts of level raise it, as memory does; above 1 the load wanders."
        )
    return said


def gap_figure(curve: pl.DataFrame) -> Figure:
    """Share of the gaps that are at least so long, observed and fitted, both axes logarithmic."""
    least = float(curve["observed"].filter(curve["observed"] > 0).min()) / 3  # type: ignore[arg-type]
    x = {"x": figures.rounded(curve["gap_s"])}
    data = [figures.line("observed", x, curve["observed"], OBSERVED)]
    for family, name in FAMILIES.items():
        # what lies far below the smallest observed share says nothing
        fitted = [v if v >= least else None for v in curve[family]]
        data.append(figures.line(name, x, fitted, LOOKS[family], connectgaps=False))
    layout = figures.layout(
        figures.axis("time between arrivals, seconds", type="log", tickformat="~g", dtick=1),
        figures.axis("share at least as long", type="log", tickformat="~g", dtick=1),
        showlegend=True,
    )
    columns = (
        Column("gap_s", "At least, s", "number"),
        Column("observed", "Observed", "number"),
        *(Column(family, name, "number") for family, name in FAMILIES.items()),
    )
    caption = "Times between arrivals: share that is at least as long, observed and fitted, logarithmic."
    return Figure({"data": data, "layout": layout}, caption, table("Share of the gaps", curve, columns), 340)


def _dispersions(scales: pl.DataFrame) -> pl.DataFrame:
    return scales.filter(pl.col("dispersion") > 0) if scales.height else scales


def dispersion_figure(scales: pl.DataFrame) -> Figure:
    """Variance over mean of the requests per window, by the window's length."""
    shown = _dispersions(scales)
    x = {"x": figures.rounded(shown["window_s"])}
    data = [figures.line("variance / mean", x, shown["dispersion"], OBSERVED, mode="lines+markers", marker={"size": 9})]
    ticks = shown["window_s"].to_list()
    layout = figures.layout(
        figures.axis("window", type="log", tickvals=ticks, ticktext=[span(t) for t in ticks]),
        figures.axis("variance / mean of requests", type="log", tickformat="~g", dtick="D2"),
        shapes=[figures.rule("y", 1)],
        showlegend=False,
    )
    columns = (
        Column("window_s", "Window", "span_s"),
        Column("windows", "Windows", "count"),
        Column("dispersion", "Variance / mean", "number"),
    )
    caption = "Index of dispersion across scales; the dashed line is that of Poisson arrivals."
    return Figure({"data": data, "layout": layout}, caption, table("Index of dispersion", shown, columns), 280)
