"""The sections on arrivals, bursts, rhythm and change: what they say is what the tables say."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from report_data import resolved
from series_data import daily
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.reports import figures
from lmaas.reports.analyze import arrivals, rhythm
from lmaas.reports.report import analysis_report

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


def spread(counts, step_s=60.0):
    """Arrivals of so many requests a window, anywhere within it."""
    rng = np.random.default_rng(0)
    return np.sort(np.repeat(np.arange(len(counts)) * step_s, counts) + rng.random(counts.sum()) * step_s)


def planted(folder, epoch=MONDAY):
    """Nine days with a rhythm, one burst and one change of level; from the folder's store."""
    rate = 12 * daily(9, 1.3, step_s=60)
    rate[5 * 1440 + 300 :] *= 1.6
    rate[3000:3020] *= 12
    at = spread(np.random.default_rng(1).poisson(rate))
    return analyze(storer(folder)(table(arrival_s=at), epoch=epoch))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted"))


def test_arrivals_say_the_tables_numbers(result):
    section = arrivals.section(result)
    assert "1 burst brings" in section.finding and "coefficient of variation" in section.finding
    captions = [t.caption for t in section.tables]
    assert any(c.startswith("Fitted distributions") for c in captions)
    (burst,) = (t for t in section.tables if "most requests beyond" in t.caption)
    assert burst.rows["time"].to_list() == ["2026-11-04 02:00"]
    gap, dispersion = section.figures
    assert [d["name"] for d in gap.spec["data"]] == ["observed", *arrivals.FAMILIES.values()]
    curve = result.tables["gap_curve"]
    assert gap.spec["data"][0]["y"] == pytest.approx(curve["observed"].to_list(), rel=1e-3)
    assert gap.table.rows.height == len(curve)
    assert dispersion.spec["data"][0]["x"] == result.tables["scales"].drop_nulls("dispersion")["window_s"].to_list()


def test_rhythm_draws_the_week_and_the_change(result):
    section = rhythm.section(result)
    week, load = section.figures
    z = week.spec["data"][0]["z"]
    assert (len(z), {len(day) for day in z}) == (7, {24})
    for row in result.tables["hour_of_week"].iter_rows(named=True):
        assert z[row["day"]][row["hour"]] == pytest.approx(row["mean_rps"], rel=1e-3)
    assert week.table.rows["hour"].to_list() == [f"{h:02d}:00" for h in range(24)]
    (change,) = result.tables["changes"].filter(metric="rate").iter_rows(named=True)
    (shape,) = load.spec["layout"]["shapes"]
    assert shape["x0"] == shape["x1"] and shape["x0"].startswith("2026-11-07 0")
    assert change["change"] == pytest.approx(0.6, abs=0.06)
    assert "changes once by +" in section.finding and "2026-11-07 0" in section.finding
    names = {t.caption.split(" ")[0] for t in section.tables}
    assert {"Changes", "Drift:", "Strength", "Weekdays", "Autocorrelation", "Forecasts"} <= names


@pytest.mark.parametrize("theme", [0, 1])
def test_figures_are_valid_in_both_themes(result, theme):
    import plotly.graph_objects as go

    drawn = [f for s in (arrivals.section(result), rhythm.section(result)) for f in s.figures]
    assert len(drawn) == 4
    for figure in drawn:
        made = go.Figure(resolved(dict(figure.spec), theme))
        assert "@" not in made.to_json()
        assert made.layout.xaxis.title.text and (made.layout.yaxis.title.text or made.data[0].type == "heatmap")
        assert figure.table.rows.height and figure.caption.endswith(".")


def test_without_a_clock_there_is_no_calendar(tmp_path):
    section = rhythm.section(planted(tmp_path, epoch=None))
    assert [f.spec["data"][0]["type"] for f in section.figures] == ["scatter"]
    assert isinstance(section.figures[0].spec["layout"]["shapes"][0]["x0"], float)
    assert "changes once by" in section.finding and " h on the trace's clock;" in section.finding
    assert not any(t.caption.startswith("Weekdays") for t in section.tables)


def test_a_coarse_clock_is_said_to_hide_the_gaps(tmp_path):
    at = np.floor(spread(np.random.default_rng(2).poisson(60, 120)) / 10) * 10
    section = arrivals.section(analyze(storer(tmp_path)(table(arrival_s=at), quantum_s=10.0)))
    assert section.finding.startswith("The distribution of times between arrivals cannot be told: 9")
    assert not any("Fitted" in t.caption for t in section.tables)
    assert all("gap" not in f.caption for f in section.figures)


def test_of_many_changes_the_largest_are_drawn(result):
    jumps = pl.DataFrame({"at_s": [3600.0 * k for k in range(1, 16)], "change": [0.1 * k for k in range(1, 16)]})
    figure = rhythm.change_figure(result.tables["load"], jumps, figures.Clock(None))
    assert {s["x0"] for s in figure.spec["layout"]["shapes"]} == set(range(6, 16))
    assert "10 of 15 times" in figure.caption


ODD = {
    "one row": [5.0],
    "at one instant": [5.0] * 300,
    "two rows a century apart": [0.0, 3.2e9],
    "regular": [float(k) for k in range(0, 4000, 2)],
    "three days, one a day": [0.0, 86_400.0, 172_800.0],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_traces_give_a_report(tmp_path, name):
    rows = table(arrival_s=ODD[name])
    report = analysis_report(analyze(storer(tmp_path)(rows, epoch=MONDAY)), ["analyze"], "run-1")
    said = [s.finding for s in report.sections] + [n for s in report.sections for n in s.notes]
    assert all(said) and not any(word in " ".join(said) for word in ("nan", "None", "inf "))
    assert all(t.rows.height for s in report.sections for t in s.tables if isinstance(t.rows, pl.DataFrame))
