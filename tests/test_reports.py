"""Reports are tested on their data; the HTML only for what can go wrong in HTML: escaping, fetching, size."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import polars as pl
import pytest
from evaluation_data import FORECASTS, GATES, HOSTILE, REQUESTS, ROLES, evaluation, meta, scores
from hypothesis import example, given
from hypothesis import strategies as st

from lmaas.analysis import analyze, rundir
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace
from lmaas.reports import figures, format, palette, schema, terminal
from lmaas.reports.document import document, dumps, for_script, plain
from lmaas.reports.evaluate import (
    attainment,
    capacity,
    choice,
    forecast,
    frontier,
    gates,
    latency,
    policies,
    summary,
    workload,
)
from lmaas.reports.html import html
from lmaas.reports.report import analysis_report, evaluation_report
from lmaas.reports.section import SHOWN_ROWS, Column, Report, Section, table
from lmaas.reports.sections import ANALYZE, EVALUATE
from lmaas.reports.write import check_requests_out, ending, recording, write_analysis, write_evaluation, write_requests

NBSP = format.NBSP


def report_of(result: Any) -> Report:
    return evaluation_report(result, ["evaluate", "week.parquet", "--policy", "preserve"], "run-1")


def section_of(result: Any, anchor: str) -> Section:
    return next(s for s in report_of(result).sections if s.anchor == anchor)


# ---- what is recommended


def test_the_cheapest_policy_that_attains_is_recommended_and_never_one_that_knows_the_future():
    found = choice.choose(scores(), 0.99)
    assert found.best is not None
    assert found.best["policy"] == "preserve"  # oracle costs less and attains more, but knows the future
    assert found.baseline is not None
    assert found.baseline["policy"] == "static-peak"
    said = summary.finding(found, 0.99)
    assert f"99.21{NBSP}%" in said
    assert "$1,109" in said
    assert "412.3 GPU-hours" in said
    assert f"45.8{NBSP}% less than static-peak" in said


def test_where_none_attains_the_headline_says_so_and_names_the_closest():
    found = choice.choose(scores(slo_attainment=[0.9, 0.95, 0.95, 0.8, 0.97]), 0.99)
    assert found.best is None
    assert found.closest is not None
    assert found.closest["policy"] == "hpa"  # as close as static-peak, and cheaper
    assert summary.finding(found, 0.99).startswith("No policy without foresight attains")
    result = evaluation(scores=scores(slo_attainment=[0.9, 0.95, 0.95, 0.8, 0.97]))
    assert any("no policy here ran enough replicas" in note for note in section_of(result, "summary").notes)
    result.settings["rates"][0]["alone_attainment"] = 0.9  # now no number of replicas would do
    assert any("no number of replicas attains the target" in note for note in section_of(result, "summary").notes)


def test_one_missing_price_makes_gpu_hours_decide():
    prices = [None, 1.0, 2.0, 3.0, 4.0]
    assert choice.choose(scores(cost_usd=prices), 0.99).cost == "gpu_hours_provisioned"
    assert choice.choose(scores(), 0.99).cost == "cost_usd"


def test_a_baseline_that_wins_is_said_to_be_one():
    result = evaluation(scores=scores(slo_attainment=[0.9, 0.9, 0.999, 0.9, 0.999]))
    assert section_of(result, "summary").finding.startswith("static-peak is the cheapest")
    assert any("is a baseline" in note for note in section_of(result, "summary").notes)


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(0, 1), st.booleans()), min_size=1, max_size=12), st.floats(0, 1))
def test_no_fair_policy_beats_the_recommended_one(rows: list[tuple[float, float, bool]], attain: float):
    frame = pl.DataFrame(
        {
            "policy": [f"p{i}" for i in range(len(rows))],
            "role": ["policy"] * len(rows),
            "foresight": [r[2] for r in rows],
            "cost_usd": [r[0] for r in rows],
            "gpu_hours_provisioned": [r[0] for r in rows],
            "slo_attainment": [r[1] for r in rows],
        }
    )
    best = choice.choose(frame, attain).best
    fair = [r for r in rows if r[1] >= attain and not r[2]]
    assert (best is None) == (not fair)
    if best is not None:
        assert not best["foresight"]
        assert best["cost_usd"] == min(r[0] for r in fair)


def test_tiles_state_value_baseline_and_delta():
    tiles = section_of(evaluation(), "summary").tiles
    assert [t.label for t in tiles] == ["Cost per month", "GPU-hours provisioned", "SLO attainment", "TTFT p95"]
    assert [t.value for t in tiles] == ["$16,492", "412.3", f"99.21{NBSP}%", f"600{NBSP}ms"]
    assert tiles[1].baseline == "static-peak 760.4"
    assert tiles[1].delta == f"−45.8{NBSP}%, better"
    assert tiles[1].tone == "good"


# ---- the tables of an evaluation


def test_columns_of_the_policy_tables_keep_their_order():
    main, work, latencies = section_of(evaluation(), "policies").tables
    assert [c.name for c in main.columns] == [
        "policy", "kind", "gpu_hours_provisioned", "vs_baseline", "cost_usd", "usd_per_month", "slo_attainment",
        "attains", "worst_hour_attainment", "ttft_p95_s", "tpot_p95_s", "e2e_p95_s", "replicas", "regret",
    ]  # fmt: skip
    assert [c.name for c in work.columns] == [
        "policy", "goodput_rps", "goodput_tok_s", "gpu_hours_active", "gpu_hours_tail", "utilisation", "scale_actions",
        "starts_denied", "wasted_startup_hours", "arrived", "completed", "rejected", "abandoned", "incomplete",
        "not_sent", "not_replayed", "preemptions", "prefix_hit_share", "forecast_wape", "length_mae_tokens",
    ]  # fmt: skip
    assert [c.label for c in latencies.columns][:6] == [
        "Policy",
        "TTFT p50",
        "TTFT p90",
        "TTFT p95",
        "TTFT p99",
        "TTFT n",
    ]
    row = dict(zip((c.name for c in main.columns), main.shown().row(0), strict=True))
    assert row["gpu_hours_provisioned"] == 412.3
    assert row["vs_baseline"] == pytest.approx(412.3 / 760.4 - 1)
    assert row["replicas"] == "4–13.2"


def test_what_knows_the_future_is_marked():
    main = section_of(evaluation(), "policies").tables[0].rows
    assert main.filter(pl.col("kind").str.contains("foresight"))["policy"].to_list() == ["oracle"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=10))
def test_the_frontier_is_what_nothing_dominates(rows: list[tuple[int, int, bool]]):
    frame = pl.DataFrame(rows, schema=["cost", "slo_attainment", "foresight"], orient="row").with_row_index("policy")
    kept = frontier.efficient(frame, "cost")
    fair = [(cost, attained) for cost, attained, foresight in rows if not foresight]
    points = set(kept.select("cost", "slo_attainment").rows())
    for cost, attained in fair:
        dominated = any(c <= cost and a >= attained and (c, a) != (cost, attained) for c, a in fair)
        assert ((cost, attained) in points) == (not dominated)


def test_the_margin_of_a_gate_is_negative_where_it_fails():
    assert gates.with_margin(GATES)["margin"].to_list() == pytest.approx([0.0021 / 0.99, -12.3 / 400])
    assert gates.finding(gates.with_margin(GATES)).startswith(
        "1 of 2 conditions are not met, first of all gpu_hours_provisioned<400"
    )
    zero = GATES.with_columns(threshold=pl.lit(0.0))
    assert gates.with_margin(zero)["margin"].to_list() == [None, None]


def test_the_busiest_pools_come_first_and_null_regions_are_called_default():
    rows = capacity.named(evaluation(regions=(None,)).timeline)
    assert capacity.busiest(rows) == ["chat/default/shared", "code/default/shared"]


def test_a_pool_is_short_where_fewer_replicas_are_active_than_needed():
    rows = pl.DataFrame({"active": [1.0, 2.0, 3.0, 3.0], "needed": [2.0, 2.05, 3.2, 1.0]})
    assert rows.select(capacity.short()).item() == 0.5


def test_tails_fall_from_one_to_nothing():
    tails = latency.slower(evaluation().histogram).filter(policy="preserve", metric="ttft_s")
    assert tails["slower"].to_list() == pytest.approx([0.5, 0.05, 0.0])


def test_forecast_errors_follow_their_formulas():
    rows = pl.DataFrame({"policy": ["a"] * 3, "actual": [1.0, 2.0, 1.0], "forecast": [2.0, 1.0, 1.0]})
    found = forecast.errors(rows, "policy").row(0, named=True)
    assert found["wape"] == 0.5
    assert found["bias"] == 0.0
    nothing = rows.with_columns(actual=pl.lit(0.0))
    assert forecast.errors(nothing, "policy")["wape"].to_list() == [None]


def test_forecasts_of_bounds_are_left_out():
    told = evaluation().forecasts
    cheat = told.filter(policy="hpa").with_columns(policy=pl.lit("oracle"))
    result = evaluation(forecasts=pl.concat([told, cheat]))
    assert "oracle" not in section_of(result, "forecast").tables[0].rows["policy"]


def test_the_workload_counts_each_arrival_once():
    result = evaluation()
    one = result.timeline.filter(policy="hpa")
    assert workload.totals(workload.load(result.timeline))["arrived"].sum() == one["arrived"].sum()
    split = pl.concat([one.with_columns(lane=pl.lit("prefill")), one.with_columns(lane=pl.lit("decode"))])
    assert workload.totals(workload.load(split))["arrived"].sum() == one["arrived"].sum()


def test_groups_are_told_apart_by_tier_and_service():
    rows = attainment.largest(evaluation().groups)
    assert set(rows["group"]) == {"tier", "service"}
    assert "interactive-fast is lowest" in attainment.finding(rows, "preserve", 0.99)
    assert attainment.finding(rows, "preserve", 0.5).startswith("Under preserve every tier and service attains")


# ---- figures


def figures_of(report: Report) -> list[Any]:
    return [figure for section in report.sections for figure in section.figures]


def resolved(value: Any, theme: int) -> Any:
    if isinstance(value, str):
        return palette.TOKENS[value][theme] if value in palette.TOKENS else value
    if isinstance(value, list | tuple):
        return [resolved(v, theme) for v in value]
    return {k: resolved(v, theme) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("epoch", [True, False])
def test_plotly_accepts_every_figure_in_both_themes(theme: int, epoch: bool):
    trace = meta() if epoch else meta(epoch=None, epoch_kind="relative")
    found = figures_of(report_of(evaluation(trace=trace)))
    assert len(found) == 1 + 3 + 3 + 1 + 1 + 1  # frontier, capacity, latency, attainment, forecast, workload
    for figure in found:
        go.Figure(resolved(figure.spec, theme))  # raises on an unknown property or a value it cannot take
        assert "@" not in dumps(resolved(figure.spec, theme))


@given(
    st.lists(st.tuples(st.integers(0, 199), st.floats(0, 100)), min_size=1, max_size=60, unique_by=lambda r: r[0]),
    st.integers(1, 50),
)
def test_thinning_keeps_every_peak(rows: list[tuple[int, float]], step: int):
    frame = pl.DataFrame({"start_s": [600.0 * i for i, _ in rows], "value": [v for _, v in rows]})
    thin = figures.peaks(frame, 600.0 * step, 0.0, 600.0 * 200, ("value",))
    assert thin.height == math.ceil(200 / step)
    assert thin["value"].max() == frame["value"].max()
    assert thin["value"].drop_nulls().is_in(frame["value"].to_list()).all()


@given(st.floats(1, 1e8), st.sampled_from([1.0, 60.0, 600.0]), st.integers(1, 100))
def test_series_stay_within_their_points(span_s: float, window_s: float, series: int):
    bucket = figures.buckets(span_s, window_s, series)
    assert bucket >= window_s
    assert bucket % window_s == pytest.approx(0) or bucket % window_s == pytest.approx(window_s)
    assert math.ceil(span_s / bucket) <= figures.POINTS
    assert math.ceil(span_s / bucket) * series <= max(figures.FIGURE_POINTS, 50 * series) + series


def test_a_policy_looks_the_same_whoever_stands_beside_it_and_no_two_look_alike():
    names = [
        ("preserve", "policy"),
        ("preserve(lookahead=200)", "policy"),
        ("mine", "policy"),
        *list(ROLES.items())[1:],
    ]
    styles = palette.policies(names)
    assert styles["preserve"].color == palette.policies([("preserve", "policy")])["preserve"].color == "@blue"
    assert styles["static-peak"].color == styles["last-value"].color == "@grey"
    assert (styles["oracle"].color, styles["oracle"].dash) == ("@ink", "dash")
    assert len({(s.color, s.dash) for s in styles.values()}) == len(names)
    assert len({s.symbol for s in styles.values()}) == len(names)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_contrast(theme: int):
    for token in ("@ink", "@muted"):
        assert contrast(palette.TOKENS[token][theme], palette.TOKENS["@page"][theme]) >= 4.5


def contrast(a: str, b: str) -> float:
    lighter, darker = sorted((luminance(a), luminance(b)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---- numbers and names in words


@given(st.floats(-1e12, 1e12, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-6))
@example(1.3362315533481149e-06)
def test_numbers_keep_four_digits(value: float):
    written = float(format.number(value).replace(",", ""))
    assert written == pytest.approx(value, rel=5e-4)
    assert format.significant(format.significant(value)) == format.significant(value)


@given(st.floats(0, 1))
def test_a_share_is_never_all_nor_none_by_rounding(value: float):
    written = format.cell(value, "share")
    assert (written == f"100.00{NBSP}%") == (value == 1)
    assert (written == f"0.00{NBSP}%") == (value == 0)


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        (None, "usd", "–"),
        (math.nan, "number", "–"),
        (1234567, "count", "1,234,567"),
        (0.0314, "duration_s", f"31.4{NBSP}ms"),
        (9.99, "duration_s", f"9,990{NBSP}ms"),
        (12.34, "duration_s", f"12.34{NBSP}s"),
        (9000.0, "duration_s", f"2.5{NBSP}h"),
        (600.0, "span_s", f"10{NBSP}min"),
        (302_400.0, "span_s", f"3.5{NBSP}days"),
        (43.87, "usd", "$43.87"),
        (43_871.2, "usd", "$43,871"),
        (-0.184, "change", f"−18.4{NBSP}%"),
        (1e-9, "change", f"0.0{NBSP}%"),
        (False, "verdict", "✗ fail"),
        (True, "mark", "✓"),
        (True, "text", "yes"),
        (math.inf, "number", "∞"),
    ],
)
def test_cells(value: Any, kind: Any, written: str):
    assert format.cell(value, kind) == written


@pytest.mark.parametrize("sign", ["\x1b[31m", "\x00", "\r", "\u202e", "\x9b", "\u200b"])
def test_names_cannot_steer_a_terminal(sign: str):
    assert sign not in format.text(f"chat{sign}8b")


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
    for word in ("preserve is the cheapest", "static-peak", "GPU-h", "TTFT p95", "✗ fail"):
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


def trace_of(tmp_path: Path, rows: int, **columns: list[Any]) -> Any:
    source = tmp_path / "trace.parquet"
    pl.DataFrame(
        {
            "arrival_s": [float(60 * i) for i in range(rows)],
            "input_tokens": [100 + i % 50 for i in range(rows)],
            "output_tokens": [10 + i % 7 for i in range(rows)],
            **columns,
        }
    ).write_parquet(source)
    return ingest(source, Workspace(tmp_path / "workspace"), say=lambda line: None)


def test_an_analysis_of_a_hostile_trace(tmp_path: Path):
    names = [HOSTILE if i % 2 else "chat" for i in range(4000)]
    trace = trace_of(tmp_path, 4000, service=names, tenant=names, region=names)
    report = analysis_report(analyze(trace), ["analyze", "trace.parquet"], "run-1")
    page = html(report)
    assert HOSTILE not in page
    assert HOSTILE in Page(page).text
    anchors = [s.anchor for s in report.sections]
    assert anchors == ["overview", "load", "lengths", "breakdown", "quality", "method", "reproduce"]
    for figure in figures_of(report):
        go.Figure(resolved(figure.spec, 0))
    terminal.show(report, terminal.console(), everything=True)


def test_an_analysis_with_latencies_shows_them(tmp_path: Path):
    trace = trace_of(tmp_path, 100, ttft_s=[0.1] * 100, e2e_s=[1.0] * 100)
    report = analysis_report(analyze(trace), ["analyze"], "run-1")
    observed = next(s for s in report.sections if s.anchor == "latency")
    assert f"100{NBSP}ms at the median" in observed.finding


def test_an_analysis_of_one_row(tmp_path: Path):
    report = analysis_report(analyze(trace_of(tmp_path, 1)), ["analyze"], "run-1")
    assert Page(html(report)).data["report"]["kind"] == "analyze"
    terminal.show(report, terminal.console(), everything=True)


# ---- what a run leaves behind


def recorded(tmp_path: Path, result: Any, out: Path | None = None, **options: Any) -> Any:
    workspace = Workspace(tmp_path / "workspace")
    with recording(workspace, "evaluate", "preserve", ["evaluate"], {"attain": 0.99}, out) as run:
        return write_evaluation(result, run, **options)


def test_a_run_holds_everything_and_its_metrics_are_the_same_bytes_again(tmp_path: Path):
    first, second = (recorded(tmp_path, evaluation()) for _ in range(2))
    names = {p.name for p in first.run.iterdir()}
    assert {
        "manifest.json",
        "metrics.json",
        "report.html",
        "report.json",
        "scores.parquet",
        "timeline.parquet",
    } <= names
    assert (first.run / "metrics.json").read_bytes() == (second.run / "metrics.json").read_bytes()
    manifest = json.loads((first.run / "manifest.json").read_bytes())
    assert manifest["exit_code"] == 0
    assert manifest["config"] == {"attain": 0.99}
    assert pl.read_parquet(first.run / "scores.parquet").equals(evaluation().scores)
    assert json.loads((first.run / "report.json").read_bytes())["kind"] == "evaluate"


def test_a_run_goes_where_it_is_told_and_overwrites_nothing(tmp_path: Path):
    out = tmp_path / "elsewhere" / "run"
    assert recorded(tmp_path, evaluation(), out).run == out
    assert (out / "report.html").is_file()
    with pytest.raises(UserError, match="never overwrites") as error:
        recorded(tmp_path, evaluation(), out)
    assert error.value.code == Exit.USAGE
    (tmp_path / "empty").mkdir()
    assert (recorded(tmp_path, evaluation(), tmp_path / "empty").run / "report.html").is_file()


def test_a_run_that_the_input_ends_leaves_nothing(tmp_path: Path):
    workspace = Workspace(tmp_path)
    with pytest.raises(UserError), recording(workspace, "evaluate", "x", [], {}, None):
        raise UserError("no such policy", Exit.USAGE)
    assert not any((tmp_path / "runs").iterdir())


def test_a_failed_gate_ends_a_run_unless_gates_only_warn():
    assert ending(Exit.GATE, "fail") == Exit.GATE
    assert ending(Exit.GATE, "warn") == Exit.OK
    assert ending(Exit.PARTIAL, "warn") == Exit.PARTIAL


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_request_rows_say_whose_they_are_only_where_there_are_several(tmp_path: Path, suffix: str):
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    path = tmp_path / f"requests{suffix}"
    write_requests({"preserve": REQUESTS}, path)
    contract = "request_id status pool replica arrival_s network_s hold_s queue_s ttft_s tpot_s e2e_s preemptions"
    assert read(path).columns == contract.split()
    assert read(path)["ttft_s"].to_list() == [0.5, None]
    write_requests({"preserve": REQUESTS, "hpa": REQUESTS}, path)
    assert read(path).columns == ["policy", *contract.split()]
    assert read(path)["policy"].to_list() == ["preserve"] * 2 + ["hpa"] * 2


def test_request_rows_that_cannot_be_written_are_refused_at_once(tmp_path: Path):
    check_requests_out(None)
    check_requests_out(tmp_path / "r.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "trace.csv").write_text("arrival_s\n")
    for name in ("r.xlsx", "none/r.csv", "folder.csv", "trace.csv"):
        with pytest.raises(UserError) as error:
            check_requests_out(tmp_path / name, str(tmp_path / "trace.csv"))
        assert error.value.code == Exit.USAGE


def test_an_analysis_run(tmp_path: Path):
    trace = trace_of(tmp_path, 100)
    with recording(Workspace(tmp_path / "workspace"), "analyze", "t", ["analyze"], {}, None) as run:
        written = write_analysis(analyze(trace), run)
    assert (written.run / "load.parquet").is_file()
    assert written.facts() == {"run": str(written.run), "report": str(written.html)}


def test_every_policy_table_column_is_one_of_the_scores():
    known = {*scores().columns, "kind", "vs_baseline", "attains", "replicas"}
    assert {c.name for c in (*policies.COLUMNS, *policies.WORK)} <= known


# ---- the published form of metrics.json


def test_the_schema_knows_every_score_and_every_score_is_in_the_metrics():
    assert list(schema.Scores.model_fields) == scores().columns
    published = schema.schema("evaluate")
    assert published["$defs"]["Scores"]["properties"].keys() == set(scores().columns)


def test_metrics_of_an_evaluation_follow_the_schema():
    result = evaluation(gates=GATES)
    found = schema.EvaluationMetrics.model_validate_json(dumps(rundir.plain(result.metrics())))
    assert not found.model_extra
    assert [r.policy for r in found.results] == list(ROLES)
    with pytest.raises(ValueError, match="slo_attainment"):
        schema.EvaluationMetrics.model_validate(result.metrics() | {"results": [{"policy": "preserve"}]})


def test_metrics_of_an_analysis_follow_the_schema(tmp_path: Path):
    found = schema.AnalysisMetrics.model_validate_json(dumps(analyze(trace_of(tmp_path, 100)).metrics()))
    assert not found.model_extra
    assert found.trace.rows_read == 100
