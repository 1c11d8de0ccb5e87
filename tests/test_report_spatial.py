"""Sections on how requests differ: what they say, and that every figure has its numbers beneath it."""

import json

import numpy as np
import polars as pl
import pytest
from report_data import figures_of
from spatial_data import clouds, requests
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.reports import terminal
from lmaas.reports.analyze import heterogeneity, pooling, tails, types
from lmaas.reports.html import html
from lmaas.reports.report import analysis_report

HOSTILE = "<img src=x onerror=alert(1)>"
SECTIONS = (types, tails, heterogeneity, pooling)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Two types, heavy prompts, a region for each half of the time, a tenant that makes the peaks."""
    rng = np.random.default_rng(0)
    n = 6000
    inputs, outputs, _ = clouds(((150, 150), (8000, 60)), (0.6, 0.4), n)
    rows = requests(
        inputs,
        outputs,
        span_s=4 * 3600.0,
        region=np.where(np.arange(n) < n // 2, "east", HOSTILE),
        tier=rng.choice(["batch", "interactive-fast", "interactive-normal"], n),
        tenant=rng.choice(["p", HOSTILE], n),
        service=rng.choice(["a", "b", HOSTILE], n),
    )
    return analyze(storer(tmp_path_factory.mktemp("planted"))(rows))


def test_each_section_says_its_number(planted):
    said = {module.__name__.rsplit(".", 1)[-1]: module.section(planted).finding for module in SECTIONS}
    assert said["types"].startswith("2 types of request: typical is the largest")
    assert "of the KV memory over time" in said["types"]
    assert "varies by" in said["heterogeneity"] and "times its mean" in said["heterogeneity"]
    assert said["pooling"].startswith("Sharing across regions would spare ")
    assert said["tails"].endswith(".") and "rompts" in said["tails"]


@pytest.mark.parametrize("module", SECTIONS)
def test_every_figure_has_its_numbers_and_units(planted, module):
    section = module.section(planted)
    assert section.figures and section.tables
    for figure in section.figures:
        assert figure.table.rows.height and figure.caption.endswith(".")
        assert {trace["type"] for trace in figure.spec["data"]} <= {"scatter", "heatmap"}
        for side in ("xaxis", "yaxis"):
            axis = figure.spec["layout"][side]
            assert axis["title"]["text"] or axis["type"] == "category"
        assert "NaN" not in json.dumps(figure.spec, allow_nan=False)


def test_the_map_holds_every_request(planted):
    heat, *centres = types.section(planted).figures[0].spec["data"]
    shown = sum(round(10**z) for line in heat["z"] for z in line if z is not None)
    assert shown == pytest.approx(6000, rel=0.01)
    assert len(heat["x"]) == len(heat["z"][0]) + 1 and len(heat["y"]) == len(heat["z"]) + 1
    assert [c["name"] for c in centres] == planted.tables["types"]["name"].to_list()


def test_shares_of_the_mix_add_up_in_every_window(planted):
    stacked = types.section(planted).figures[1].spec["data"]
    assert {line["stackgroup"] for line in stacked} == {"mix"}
    for window in zip(*(line["y"] for line in stacked), strict=True):
        assert sum(window) == pytest.approx(100, abs=0.1)


def test_names_of_the_trace_are_no_markup(planted):
    report = analysis_report(planted, ["analyze", "x"], "run-1")
    assert HOSTILE not in html(report)
    assert all(HOSTILE not in json.dumps(figure.spec) for figure in figures_of(report))


def test_the_terminal_shows_the_types_and_keeps_its_width(planted, capsys):
    terminal.show(analysis_report(planted, ["analyze", "x"], "run-1"), terminal.console())
    printed = capsys.readouterr().out
    assert "Request types" in printed and "long in, short out" in printed
    assert max(map(len, printed.splitlines())) <= terminal.WIDTH


def test_what_does_not_exist_is_not_shown(tmp_path):
    one = analyze(storer(tmp_path)(table(arrival_s=[5.0])))
    assert types.section(one).finding.endswith("one type of request.")
    assert not types.section(one).brief
    assert [module.section(one) for module in (tails, heterogeneity, pooling)] == [None] * 3
    none = analyze(storer(tmp_path)(table(arrival_s=[5.0], output_tokens=[0])))
    assert [module.section(none) for module in SECTIONS] == [None] * 4


def test_seven_types_look_different():
    styles = types._styles(pl.DataFrame({"name": list("abcdefg")}))
    assert len({style.color for style in styles.values()}) == 7
    assert "@blue" not in {style.color for style in styles.values()}


def test_what_is_not_chosen_is_no_failure(planted):
    shown = [t for t in types.section(planted).tables if t.caption.startswith("Why so many")]
    assert all(column.kind != "mark" for t in shown for column in t.columns)
    assert [t.rows["chosen"].to_list().count("chosen") for t in shown] == [1]
