"""What reports say, as data: the recommendation, the tables of an evaluation, figures, numbers in words."""

import math
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import polars as pl
import pytest
from evaluation_data import GATES, ROLES, evaluation, meta, scores
from hypothesis import example, given
from hypothesis import strategies as st
from report_data import figures_of, report_of, resolved, section_of

from lmaas.policies import choice
from lmaas.reports import figures, format, palette
from lmaas.reports.document import dumps
from lmaas.reports.evaluate import (
    attainment,
    capacity,
    forecast,
    frontier,
    gates,
    latency,
    summary,
    workload,
)

NBSP = format.NBSP


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
    assert [t.label for t in tiles] == ["Cost per month", "GPU-hours provisioned", "SLO attainment", "TTFT p99"]
    assert [t.value for t in tiles] == ["$16,492", "412.3", f"99.21{NBSP}%", f"1,200{NBSP}ms"]
    assert tiles[1].baseline == "static-peak 760.4"
    assert tiles[1].delta == f"−45.8{NBSP}%, better"
    assert tiles[1].tone == "good"


def test_a_wait_of_hours_is_a_multiple_and_whose_it_may_be_is_said():
    roles = {"preserve": "policy", "static-peak": "baseline"}
    slos = [{"service": "chat", "tier": "batch", "thresholds": "e2e<86400s"}]
    both = [*slos, {"service": "chat", "tier": "interactive-fast", "thresholds": "ttft<1s"}]
    held = scores(roles, ttft_p99_s=[7200.0, 90.0])
    for limits, told in ((both, True), (slos, False)):  # where nobody has a limit it is not one tier's wait
        found = evaluation(roles, scores=held)
        page = section_of(replace(found, settings=found.settings | {"slos": limits}), "summary")
        assert page.tiles[3].delta == "×80, worse"
        assert any("batch has no limit on it" in note for note in page.notes) is told
    apart = {"low": 180.0, "high": 7110.0, "reference": 90.0, "metric": "ttft_p99_s"}
    assert summary._interval(apart) == f"90{NBSP}%: [+200.0{NBSP}%, ×80]"
    assert summary._interval(apart | {"high": 270.0}) == f"90{NBSP}%: [+200.0,{NBSP}+300.0]{NBSP}%"


# ---- the tables of an evaluation


def test_columns_of_the_policy_tables_keep_their_order():
    main, requests, fleet, latencies = section_of(evaluation(), "policies").tables
    assert [c.name for c in main.columns] == [
        "policy", "kind", "gpu_hours_provisioned", "vs_baseline", "cost_usd", "usd_per_month", "slo_attainment",
        "attains", "worst_hour_attainment", "ttft_p95_s", "ttft_p99_s", "tpot_p95_s", "e2e_p95_s", "regret",
        "replicas",
    ]  # fmt: skip
    assert [c.name for c in requests.columns] == [
        "policy", "goodput_rps", "goodput_tok_s", "arrived", "completed", "rejected", "abandoned", "incomplete",
        "not_sent", "not_replayed", "preemptions", "prefix_hit_share",
    ]  # fmt: skip
    assert [c.name for c in fleet.columns] == [
        "policy", "gpu_hours_active", "gpu_hours_tail", "gpu_hours_donated", "wasted_startup_hours", "utilisation",
        "scale_actions", "starts_denied", "forecast_wape", "length_mae_tokens",
    ]  # fmt: skip
    assert latencies.rows.columns == ["policy", "latency", "p50", "p90", "p95", "p99", "n"]
    assert latencies.rows.filter(pl.col("latency") == "TPOT").row(0)[2:] == (0.03, 0.06, 0.09, 0.18, 59_990)
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


def test_who_stands_alone_is_not_praised_for_it():
    scores = pl.DataFrame(
        {"policy": ["a", "b"], "cost": [2.0, 1.0], "slo_attainment": [0.9, 0.8], "foresight": [False, True]}
    )
    assert "nothing to weigh it against" in frontier.finding(frontier.efficient(scores, "cost"), scores)
    fair = scores.with_columns(foresight=pl.lit(False), slo_attainment=pl.Series([0.8, 0.9]))
    assert frontier.finding(frontier.efficient(fair, "cost"), fair) == "b costs least and attains most."


def test_the_margin_of_a_gate_is_negative_where_it_fails():
    assert gates.with_margin(GATES)["margin"].to_list() == pytest.approx([0.0021 / 0.99, -12.3 / 400])
    assert gates.finding(gates.with_margin(GATES)).startswith(
        "1 of 2 conditions are not met, first of all gpu_hours_provisioned<400"
    )
    zero = GATES.with_columns(threshold=pl.lit(0.0))
    assert gates.with_margin(zero)["margin"].to_list() == [None, None]


def test_values_of_gates_have_the_unit_of_their_score():
    asked = {
        "slo_attainment>=0.999": 0.99998,
        "ttft_p95<500ms @ service=chat": 0.053,
        "cost_usd<9": 8.5,
        "rejected<=0": 0.0,
    }
    rows = pl.DataFrame({"gate": list(asked), "value": list(asked.values()), "threshold": [0.999, 0.5, 9.0, 0.0]})
    told = gates._told(rows)
    assert told["value_told"].to_list() == ["> 99.99\N{NO-BREAK SPACE}%", "53\N{NO-BREAK SPACE}ms", "$8.50", "0"]
    assert told["threshold_told"].to_list() == ["99.90\N{NO-BREAK SPACE}%", "500\N{NO-BREAK SPACE}ms", "$9.00", "0"]


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


def test_where_no_worth_was_searched_the_section_says_how_it_is():
    assert any("--depth full" in note for note in forecast.section(evaluation()).notes)
    searched = evaluation(worth=pl.DataFrame({"part": ["demand"]}))
    assert not any("--depth full" in note for note in forecast._told(searched).notes)


def test_the_band_of_the_best_forecast_holds_nine_of_ten_windows():
    actual = [float(100 + k) for k in range(100)]
    rows = pl.DataFrame(
        {"policy": ["a"] * 100 + ["b"] * 100, "actual": actual * 2, "forecast": [100.0] * 100 + [400.0] * 100}
    )
    whose, (low, high) = forecast.band(rows)
    assert whose == "a"
    assert sum(100 * low <= value <= 100 * high for value in actual) == 90
    assert forecast.band(rows.head(10)) == (None, (1.0, 1.0))


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
        (-2.3948, "share", f"−239.48{NBSP}%"),
        (-0.0225, "number", "−0.0225"),
    ],
)
def test_cells(value: Any, kind: Any, written: str):
    assert format.cell(value, kind) == written


@pytest.mark.parametrize("sign", ["\x1b[31m", "\x00", "\r", "\u202e", "\x9b", "\u200b"])
def test_names_cannot_steer_a_terminal(sign: str):
    assert sign not in format.text(f"chat{sign}8b")
