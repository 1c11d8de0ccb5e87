"""The whole report; its HTML only for what can go wrong in HTML: escaping, fetching, size."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import polars as pl
import pytest
from evaluation_data import (
    FORECASTS,
    GATES,
    HOSTILE,
    ROLES,
    evaluation,
    meta,
    scores,
)
from hypothesis import given
from hypothesis import strategies as st
from report_data import figures_of, report_of, resolved, trace_of

from lmaas.analysis import analyze
from lmaas.reports import figures, format, terminal
from lmaas.reports.document import document, dumps, for_script, plain
from lmaas.reports.html import html
from lmaas.reports.report import analysis_report
from lmaas.reports.section import SHOWN_ROWS, Column, Report, Section, table
from lmaas.reports.sections import ANALYZE, EVALUATE

NBSP = format.NBSP


# ---- the whole report, as a page


class Page(HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        elif not self.cdata_elem:
            self.text += data

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


EDGES = {
    "usual": lambda: evaluation(),
    "one policy, one pool": lambda: evaluation({"preserve": "policy"}, ("chat",), (None,)),
    "no baseline": lambda: evaluation({"preserve": "policy", "hpa": "policy"}),
    "only a bound": lambda: evaluation({"oracle": "bound"}, scores=scores({"oracle": "bound"})),
    "one window": lambda: evaluation(hours=1 / 6),
    "relative times": lambda: evaluation(trace=meta(epoch=None, epoch_kind="relative")),
    "gates": lambda: evaluation(gates=GATES),
    "nothing attained": lambda: evaluation(scores=scores(slo_attainment=[0.0] * 5)),
    "everything attained": lambda: evaluation(scores=scores(slo_attainment=[1.0] * 5)),
    "no price": lambda: evaluation(scores=scores(cost_usd=[None] * 5, usd_per_month=[None] * 5)),
    "no latency": lambda: evaluation(
        scores=scores(
            **{f"{m}_{q}_s": [None] * 5 for m in ("ttft", "tpot", "e2e") for q in ("p50", "p90", "p95", "p99")}
        ),
        histogram=evaluation().histogram.clear(),
    ),
    "everything missing": lambda: evaluation(
        scores=scores().clear(),
        groups=evaluation().groups.clear(),
        timeline=evaluation().timeline.clear(),
        forecasts=FORECASTS.clear(),
        histogram=evaluation().histogram.clear(),
        failures={"preserve": "the fleet file has no chat pool"},
    ),
    "nothing forecast": lambda: evaluation(forecasts=pl.DataFrame()),
    "no tier": lambda: evaluation(groups=evaluation().groups.with_columns(name=pl.lit(None, pl.String))),
    "no need known": lambda: evaluation(timeline=evaluation().timeline.with_columns(needed=pl.lit(None, pl.Float64))),
    "no arrivals": lambda: evaluation(
        timeline=evaluation().timeline.with_columns(arrived=pl.lit(0), attained=pl.lit(0))
    ),
}


@pytest.mark.parametrize("edge", EDGES)
def test_the_page_is_whole_for_every_kind_of_result(edge: str):
    report = report_of(EDGES[edge]())
    page = Page(html(report))
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert {link[1:] for link in links if link} <= set(ids)
    assert page.data["report"] == json.loads(dumps(document(report)))
    terminal.show(report, terminal.console(), everything=True)


def test_trace_names_are_escaped_wherever_they_appear():
    result = evaluation(
        roles={"preserve": "policy", f"mine('{HOSTILE}')": "policy"},
        services=(HOSTILE, "</script><img src=x onerror=alert(1)>"),
        regions=(HOSTILE,),
        trace=meta(name=HOSTILE, source=HOSTILE, rows_set_aside={HOSTILE: 2}),
        notes=(HOSTILE,),
        failures={HOSTILE: HOSTILE},
    )
    page = html(report_of(result))
    assert HOSTILE not in page
    assert "<img" not in page
    assert page.lower().count("<script") == 3  # data, plotly, ours
    assert page.lower().count("</script") == 3
    assert HOSTILE in Page(page).text  # shown as text, not lost
    assert HOSTILE in dumps(Page(page).data)
    for figure in figures_of(report_of(result)):
        assert "<script" not in dumps(figure.spec)  # plotly reads a little HTML in its own texts


def test_the_page_fetches_nothing_and_may_not():
    page = Page(html(report_of(evaluation())))
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert {p.strip() for p in policy.split(";")} >= {
        "default-src 'none'",
        "script-src 'unsafe-inline'",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "form-action 'none'",
    }
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "action", "data", "poster", "background"} & set(attrs), tag
        assert attrs.get("href", "#").startswith("#")
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
    style = html(report_of(evaluation())).partition("<style>")[2].partition("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style


def test_plotly_is_told_to_send_nothing_and_drawn_from_the_one_copy_of_the_data():
    page = Page(html(report_of(evaluation())))
    config = page.data["config"]
    assert config["showSendToCloud"] is False
    assert config["displaylogo"] is False
    assert config["responsive"] is True
    assert len(page.scripts) == 3
    assert "Plotly.react(plot, figure.data, layout, { ...config" in page.scripts[2]


def test_a_page_without_figures_carries_no_plotly():
    report = Report("evaluate", "t", (), (Section("a", "A", "Nothing."),))
    assert len(html(report)) < 100_000


def test_a_large_evaluation_stays_below_five_megabytes():
    roles = ROLES | {f"p{i}": "policy" for i in range(7)}
    services = tuple(f"service-{i}" for i in range(6))
    result = evaluation(roles, services, ("us", "eu", "ap"), hours=4 * 168, window=300.0)
    page = html(report_of(result))
    assert len(page.encode()) < 5_000_000
    for figure in figures_of(report_of(result)):
        for trace in figure.spec["data"]:
            assert len(trace["y"]) <= figures.POINTS


def test_the_bundle_is_the_one_plotly_expects():
    from plotly.offline import get_plotlyjs_version

    from lmaas.reports.html import _asset

    head = _asset("assets/plotly-cartesian.min.js")[:200]
    assert f"v{get_plotlyjs_version()}" in head
    assert "cartesian" in head


def test_data_in_a_script_cannot_end_it():
    value = {"a": "</script><!--", "b": "\u2028&", "c": [1.5, None]}
    written = for_script(value)
    assert not set("<>&\u2028") & set(written)
    assert json.loads(written) == value


@given(
    st.floats(-1e300, 1e300)
    | st.sampled_from([math.inf, -math.inf, math.nan])
    | st.integers()
    | st.none()
    | st.booleans()
    | st.text()
)
def test_plain_values_survive_json(value: Any):
    written = json.loads(dumps(plain(value)))
    if isinstance(value, float) and math.isfinite(value):
        assert written == pytest.approx(value, rel=5e-4)
    elif isinstance(value, float):
        assert written is None
    elif not isinstance(value, str):
        assert written == value


def test_long_tables_are_thinned_with_both_ends_and_say_so():
    rows = pl.DataFrame({"i": range(1000)})
    shown = table("t", rows, (Column("i", "I", "count"),), "t.parquet").shown()
    assert shown.height == SHOWN_ROWS
    assert (shown["i"][0], shown["i"][-1]) == (0, 999)
    page = html(
        Report(
            "evaluate",
            "t",
            (),
            (Section("a", "A", "B.", tables=(table("t", rows, (Column("i", "I"),), "t.parquet"),)),),
        )
    )
    assert f"{SHOWN_ROWS} of 1,000 rows" in page


def test_accessibility_of_the_page():
    page = Page(html(report_of(evaluation(gates=GATES))))
    tags = [tag for tag, _ in page.tags]
    assert page.tags[0] == ("html", {"lang": "en"})
    assert {"header", "nav", "main", "footer", "h1"} <= set(tags)
    assert tags.count("caption") == tags.count("table")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert tags.count("details") == len(figures_of(report_of(evaluation(gates=GATES))))
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") == "img")
    assert any(attrs.get("class") == "skip" for _, attrs in page.tags)


def test_every_section_has_one_anchor_and_a_finding():
    for report in (report_of(evaluation(gates=GATES)),):
        assert len({s.anchor for s in report.sections}) == len(report.sections)
        for section in report.sections:
            assert section.finding.endswith(".")
            assert "\n" not in section.finding


@pytest.mark.parametrize("registry", [ANALYZE, EVALUATE])
def test_every_registered_section_can_be_loaded(registry: Any):
    assert all(callable(registry.load(name)) for name in registry)


# ---- the terminal


def test_terminal_output_fits_and_stands_alone(capsys: pytest.CaptureFixture[str]):
    terminal.show(report_of(evaluation(gates=GATES)), terminal.console())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= terminal.WIDTH
    said = "\n".join(lines)
    for word in ("preserve is the cheapest", "static-peak", "GPU-h", "TTFT p99", "✗ fail"):
        assert word in said
    assert "\x1b" not in said


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)
    found = terminal.console()
    assert found.no_color or found.is_dumb_terminal or not found.is_terminal
    assert terminal.console(color=False).no_color


def test_a_terminal_never_cuts_a_number(capsys: pytest.CaptureFixture[str]):
    wide = pl.DataFrame({"name": ["a" * 60], **{f"c{i}": [123_456_789_012] for i in range(12)}})
    columns = (Column("name", "Name"), *(Column(f"c{i}", f"C{i}", "count") for i in range(12)))
    terminal.show_table(table("wide", wide, columns), terminal.console())
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= terminal.WIDTH
    shown = out.count("123,456,789,012")
    assert 0 < shown < 12
    assert all(f"C{i}" in out.partition("not shown: ")[2] for i in range(shown, 12))


# ---- from a real analysis


def test_the_command_to_reproduce_does_not_name_a_folder_that_is_taken(tmp_path: Path):
    trace = trace_of(tmp_path, 500)
    for out in (["--out", "a folder"], ["--output-dir", "x"], ["--out=x"]):
        report = analysis_report(analyze(trace), ["analyze", "a trace.csv", *out, "--json"], "run-1")
        assert report.sections[-1].code == "lmaas analyze 'a trace.csv' --json"


def test_an_analysis_of_a_hostile_trace(tmp_path: Path):
    names = [HOSTILE if i % 2 else "chat" for i in range(4000)]
    trace = trace_of(tmp_path, 4000, service=names, tenant=names, region=names)
    report = analysis_report(analyze(trace), ["analyze", "trace.parquet"], "run-1")
    page = html(report)
    assert HOSTILE not in page
    assert HOSTILE in Page(page).text
    anchors = [s.anchor for s in report.sections]
    shown = ["overview", "rewards", "load", "arrivals", "rhythm", "lengths", "types", "heterogeneity", "breakdown"]
    assert anchors == [*shown, "pooling", "quality", "method", "reproduce"]
    for figure in figures_of(report):
        go.Figure(resolved(figure.spec, 0))
    terminal.show(report, terminal.console(), everything=True)


def test_an_analysis_with_latencies_shows_them(tmp_path: Path):
    trace = trace_of(tmp_path, 100, ttft_s=[0.1] * 100, e2e_s=[1.0] * 100)
    report = analysis_report(analyze(trace), ["analyze"], "run-1")
    observed = next(s for s in report.sections if s.anchor == "latency")
    assert f"100{NBSP}ms at the median" in observed.finding
    lengths = next(s for s in report.sections if s.anchor == "lengths")
    for shown in (observed.tables[0], *lengths.tables):  # one service, no region, no tier: the same rows again
        assert shown.rows["by"].unique().to_list() == ["All"]


def test_an_analysis_of_one_row(tmp_path: Path):
    report = analysis_report(analyze(trace_of(tmp_path, 1)), ["analyze"], "run-1")
    assert Page(html(report)).data["report"]["kind"] == "analyze"
    terminal.show(report, terminal.console(), everything=True)
