"""What the report says of equal policies, of long and slashed names, of short traces and of what a search ended at."""

from dataclasses import replace

import polars as pl
import pytest
from evaluation_data import described, evaluation, meta, scores, texts
from report_data import figures_of, report_of, section_of

from lmaas.policies.matched import MATCHED
from lmaas.reports import figures, format
from lmaas.reports.evaluate import commitment, equal_hours, frontier, latency, matched, spare, summary
from lmaas.reports.terminal import fitting

NBSP = format.NBSP
ALL = "static-peak, preserve, hpa and last-value"


def tie(**changes):
    same = {"gpu_hours_provisioned": [5.0] * 5, "cost_usd": [13.45] * 5, "slo_attainment": [1.0] * 5}
    return evaluation(scores=scores(**same | changes))


def test_a_tie_is_no_win():
    result = tie()
    said = section_of(result, "summary")
    assert said.finding == (
        f"By cost and attainment this trace cannot tell {ALL} apart: each attains 99{NBSP}%, with 100{NBSP}% of "
        "requests within their SLOs, for $13.45 (5 GPU-hours)."
    )
    assert "is the cheapest" not in texts(result)
    assert any("Every policy ran the same fleet" in note for note in said.notes)
    ranks = section_of(result, "alternatives")
    assert ranks.tables[0].rows["rank"].to_list() == [1, 1, 1, 1]
    assert ranks.finding == "static-peak, last-value, preserve and hpa rank first alike, at risk 3 of 4."
    assert section_of(result, "policies").finding.endswith("they take 5 GPU-hours each.")


def test_who_only_some_are_alike_with_is_named():
    result = tie(cost_usd=[13.45, 13.45, 20.0, 30.0, 1.0])
    assert section_of(result, "summary").finding.endswith("; hpa comes to the same.")
    ranks = section_of(result, "alternatives")
    assert ranks.tables[0].rows["rank"].to_list() == [1, 1, 3, 4]
    assert ranks.finding.startswith("preserve and hpa rank first alike, at risk 3 of 4; static-peak is next")


def test_none_attains_and_two_come_as_close():
    result = tie(slo_attainment=[0.9, 0.9, 0.8, 0.7, 1.0])
    assert (
        "attains 99\N{NO-BREAK SPACE}%: preserve and hpa come closest, alike, with"
        in section_of(result, "summary").finding
    )


def test_equal_policies_are_on_the_frontier_together_under_one_mark():
    found = section_of(tie(), "frontier")
    assert (
        found.finding
        == "preserve, hpa, static-peak and last-value cost and attain the same: there is nothing to weigh."
    )
    table = found.figures[0].table.rows
    assert table.filter("efficient")["policy"].to_list() == ["preserve", "hpa", "static-peak", "last-value"]
    marks = [one for one in found.figures[0].spec["data"] if one["mode"] == "markers"]
    assert [mark["name"] for mark in marks] == ["preserve, hpa, static-peak,<br>last-value, oracle"]
    assert not marks[0]["marker"]["symbol"].endswith("-open")
    apart = frontier.section(evaluation())
    assert len([one for one in apart.figures[0].spec["data"] if one["mode"] == "markers"]) == 5
    assert apart.figures[0].spec["layout"]["xaxis"]["title"]["text"] == "Cost of the replay with its tail, $"


def test_who_costs_the_same_at_every_price_of_a_reservation_is_named():
    prices = [(name, ratio, 100.0 * ratio) for name in ("preserve", "hpa") for ratio in (0.5, 1.0)]
    later = [("static-peak", 0.5, 60.0), ("static-peak", 1.0, 100.0)]  # the same on demand, and more of it reserved
    table = pl.DataFrame([*prices, *later], schema=["policy", "ratio", "usd_per_month"], orient="row")
    said = commitment.finding([(0.5, 1.0, "hpa")], replace(tie(), commitment=table))
    assert said == "Whatever a reserved GPU costs, hpa and preserve stay the cheapest, alike."
    assert "static-peak stays the cheapest" in commitment.finding(
        [(0.5, 1.0, "static-peak")], replace(tie(), commitment=table)
    )


def test_a_fleet_that_never_changes_ran_one_number_of_replicas():
    result = tie()
    still = result.timeline.with_columns(active=pl.lit(1.0))
    assert "ran 1 active replica;" in section_of(replace(result, timeline=still), "capacity").finding


def test_a_name_is_whole_wherever_it_has_slashes():
    names = ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"]
    pools = [described(f"{name}/default/shared") | {"service": name} for name in names]
    result = evaluation()
    for stored in (pools, [{k: v for k, v in pool.items() if k != "service"} for pool in pools]):  # of earlier runs
        result.settings["pools"] = stored
        said = section_of(result, "summary").notes[-1]
        assert all(f"{name} on llama-3.1-8b/h100/tp1" in said for name in names)


def test_long_names_lose_their_middle_and_stay_apart():
    names = ["a" + "x" * 400 + "b", "a" + "x" * 401 + "b"]
    result = evaluation()
    result.settings["pools"] = [described(f"{name}/default/shared") | {"service": name} for name in names]
    note = section_of(result, "summary").notes[-1]
    assert "x" * 60 not in note and note.count("…") == 2
    assert format.short("x" * 48) == "x" * 48 and len(format.short("x" * 400)) == 48
    assert fitting(f"pool {'y' * 400}/eu holds") == f"pool {'y' * 24}…{'y' * 20}/eu holds"


def test_the_search_that_the_least_fleet_ended_says_so():
    row = dict.fromkeys(MATCHED) | {
        "policy": "hpa", "knob": "headroom", "foresight": True, "attains": True, "headroom_matched": -0.9,
        "gpu_hours_matched": 96.4, "gpu_hours_matched_low": 96.4, "gpu_hours_matched_high": 96.4,
        "cost_usd_matched": 1.0, "slo_attainment": 1.0, "best": -0.9, "steady": True, "replays": 3,
    }  # fmt: skip
    more = row | {"policy": "oracle", "gpu_hours_matched": 110.0}
    ended = row | {"policy": "preserve", "headroom_matched": 0.25, "headroom_below": 0.2, "gpu_hours_matched": 120.0}
    table = pl.DataFrame([row, more, ended], schema=MATCHED, orient="row")
    found = matched.section(evaluation(matched=table))  # four pools of one replica and GPU, 24 h, 0.4 GPU-h of tail
    shown = found.tables[0].rows["value"].to_list()
    assert shown == [matched.BOUNDED, "-0.9, where the search ends", "0.25"]
    assert f"preserve needs 24.5{NBSP}% more" in found.finding
    same = pl.DataFrame([row, row | {"policy": "oracle"}], schema=MATCHED, orient="row")
    assert matched.finding(same, 0.99) == f"For 99{NBSP}% attained hpa and oracle need as many GPU-hours, 96.4."


def test_n_plus_one_is_told_in_a_sentence():
    lost = pl.DataFrame(
        {"lost": ["replica"], "service": ["chat-eu"], "region": ["default"], "attained": [1.0],
         "attained_lost": [0.9672], "holds": [False]}
    )  # fmt: skip
    assert spare.told(lost) == (
        "with one replica lost at its busiest hour 0 of 1 pools hold; the worst, chat-eu/default, then attains "
        f"96.72{NBSP}% instead of 100{NBSP}%"
    )
    assert any("without failures" in note for note in section_of(evaluation(), "alternatives").notes)


def test_percentiles_beside_the_curves_are_the_exact_ones():
    shown = latency.section(evaluation()).figures[0].table
    assert shown.rows.columns == ["policy", "p50", "p90", "p95", "p99", "n"]
    assert shown.rows.row(0) == ("preserve", 0.2, 0.4, pytest.approx(0.6), pytest.approx(1.2), 59_990)
    assert "≈" not in texts(evaluation())


def test_the_worst_hour_of_less_than_an_hour_is_not_told():
    assert any("worst hour" in note for note in summary.section(evaluation()).notes)
    assert not any("worst hour" in note for note in summary.section(evaluation(hours=0.5)).notes)


def test_static_fleets_that_do_the_same_share_a_sentence():
    result = evaluation()
    names = ["preserve", "hpa"]
    same = {"slo_attainment": 0.9921, "ttft_p99_s": 1.2, "gpu_hours_provisioned": 412.3}
    result = evaluation(
        scores=scores(slo_attainment=[0.9921] * 5, gpu_hours_provisioned=[412.3] * 5),
        equal=pl.DataFrame([{"policy": name, "bound": "at most", **same} for name in names]),
        differences=pl.DataFrame(
            [
                {"policy": name, "relation": "same GPU-hours", "against": "static, at most its GPU-hours",
                 "metric": "overall", "verdict": "no difference"}
                for name in names
            ]
        ),
    )  # fmt: skip
    assert equal_hours.beaten(result) == [
        f"A static fleet of no more GPU-hours does exactly as well as preserve and hpa: 99.21{NBSP}% attained, "
        f"TTFT p99 1,200{NBSP}ms, 412.3 GPU-hours."
    ]
    assert equal_hours.beaten(result, same=True) == []


def test_recorded_hits_stand_on_page_one():
    result = evaluation()
    result.settings["recorded_hit_share"] = 0.333
    said = f"The trace says that 33.3{NBSP}% of the evaluated prompt tokens were served from a prefix cache"
    assert any(note.startswith(said) for note in section_of(result, "summary").notes)


@pytest.mark.parametrize(
    ("last_s", "unit", "written"),
    [(86_400.0, "hours", "0.08333 h"), (600.0, "minutes", "5 min"), (90.0, "seconds", "300 s")],
)
def test_times_without_dates_are_in_a_unit_that_can_be_read(last_s, unit, written):
    clock = figures.Clock(None, last_s)
    assert clock.write(300.0) == written
    assert clock.axis()["title"]["text"] == f"{unit} on the trace's clock"
    assert clock.regular(300.0, 60.0)["x0"] == pytest.approx(float(written.split()[0]), rel=1e-3)


def test_a_short_relative_trace_is_drawn_in_minutes():
    result = evaluation(trace=meta(epoch=None, epoch_kind="relative"))
    result.settings["end_s"] = 300.0
    result.settings["cut_s"] = 120.0
    report = report_of(result)
    assert dict(report.facts)["Evaluated"] == "2 min to 5 min"
    titles = [figure.spec["layout"]["xaxis"].get("title", {}).get("text") for figure in figures_of(report)]
    assert "minutes on the trace's clock" in titles and "hours on the trace's clock" not in titles


def test_nothing_is_minus_nothing():
    assert format.number(-0.0) == "0"
