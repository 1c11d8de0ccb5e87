"""What the report says of differences, of chance, and of how far it can be trusted."""

import polars as pl
import pytest
from evaluation_data import HOSTILE, HOUR, ROLES, START, evaluation, scores, texts
from report_data import report_of, section_of

from lmaas.policies.choice import choose
from lmaas.policies.differences import BETTER, DIFFERENCES, OVERALL
from lmaas.policies.equal import EQUAL, SCORES
from lmaas.reports.evaluate.confidence import confidence
from lmaas.reports.html import html

METRICS = (*BETTER, "slo_attainment @ tier=batch", f"slo_attainment @ service={HOSTILE}")
MADE = {"level": 0.9, "draws": 1000, "blocks": 48, "block_s": 1800.0}


def pair(policy, against="static-peak", relation="baseline", overall="better", **changes):
    """All scores of a pair: 10 % less, from 15 to 5 % less; attainment half a point lower, of its tiers, too."""
    rows = []
    for metric in METRICS:
        row = {"value": 90.0, "reference": 100.0, "difference": -10.0, "low": -15.0, "high": -5.0, "verdict": "better"}
        if metric.startswith("slo_attainment"):
            row = dict.fromkeys(row, None) | {"value": 0.99, "reference": 0.995, "difference": -0.005, "low": -0.01,
                                              "high": 0.001, "verdict": "no difference"}  # fmt: skip
        rows.append({"policy": policy, "relation": relation, "against": against, "metric": metric, **row, **changes})
    return [*rows, dict.fromkeys(DIFFERENCES) | rows[0] | {"metric": OVERALL, "verdict": overall}]


def shown(*pairs, made=MADE, **more):
    rows = [row for one in pairs for row in one]
    settings = evaluation().settings | {"intervals": made}
    return evaluation(differences=pl.DataFrame(rows, schema=DIFFERENCES, orient="row"), settings=settings, **more)


def test_the_finding_sorts_policies_by_verdict():
    pairs = [pair("preserve"), pair("hpa", overall="worse"), pair("last-value", overall="no difference")]
    found = section_of(shown(*pairs), "differences").finding
    assert found.endswith("against static-peak: preserve better; last-value no different; hpa worse.")


def test_a_short_trace_judges_nothing():
    why = {"why": "too short for intervals: under 20 windows"}
    bare = pair("preserve", overall=None, low=None, high=None, verdict=None, why="under 20 windows")
    section = section_of(shown(bare, made=MADE | why), "differences")
    assert "too short for intervals" in section.finding
    assert set(section.tables[1].rows["interval"]) == {"none: under 20 windows"}
    assert not section.figures and section.tables[1].rows.height == len(METRICS)


def test_a_row_a_pair_and_every_score_below_the_figure():
    section = section_of(shown(pair("preserve"), pair("preserve", "hpa", "recommended")), "differences")
    brief = section.tables[0].rows
    assert brief["against"].to_list() == ["static-peak", "hpa (recommended)"]
    assert brief["slo_attainment"][0].replace("\xa0", " ") == "−0.50 [−1.00, +0.10]"
    assert brief["cost"][0].replace("\xa0", " ") == "−10.0 [−15.0, −5.0]"
    (figure,) = section.figures
    assert figure.table.rows.height == 2 * len(METRICS)
    said = figure.table.rows.row(2 * len(METRICS) - 2, named=True)
    assert (said["against"], said["metric"]) == ("hpa (recommended)", "SLO attainment, tier batch")
    assert said["difference"].replace("\xa0", " ") == "−0.50 points" and said["verdict"] == "no difference"
    assert {"TPOT p50", "TPOT p95", "TPOT p99"} <= set(figure.table.rows["metric"])
    marks = [one for one in figure.spec["data"] if one["xaxis"] == "x3"]  # GPU-hours, as ratios
    assert marks[0]["x"] == [0.9]
    assert marks[0]["error_x"]["array"] == [pytest.approx(0.05)]


def test_a_hundredfold_is_no_percentage():
    late = pair("preserve", value=300.0, reference=2.0, difference=298.0, low=200.0, high=500.0)
    said = section_of(shown(late), "differences").tables[0].rows["ttft"][0]
    assert said.replace("\xa0", " ") == "×150 [×101, ×251]"


def test_tiles_carry_intervals_and_verdicts():
    tiles = section_of(shown(pair("preserve")), "summary").tiles
    assert tiles[1].interval.replace("\xa0", " ") == "90 %: [−15.0, −5.0] %"
    assert tiles[1].delta.endswith(", better")
    assert tiles[2].interval.replace("\xa0", " ") == "−0.50 points [−1.00, +0.10]"
    unsure = section_of(shown(pair("preserve", verdict="no difference")), "summary").tiles
    assert (unsure[1].delta.split(", ")[1], unsure[1].tone) == ("no difference", "plain")


def beside(bound="at most", hours=412.0, attained=0.99):
    row = {"policy": "preserve", "bound": bound, "foresight": True, "replicas": "chat 3", "gpu_hours_off": 0.0}
    given = {"gpu_hours_provisioned": hours, "slo_attainment": attained, "ttft_p99_s": 2.0}
    return pl.DataFrame([row | dict.fromkeys(SCORES, 1.0) | given], schema=EQUAL, orient="row")


@pytest.mark.parametrize("word, does", [("worse", "better than"), ("no difference", "as well as"), ("better", None)])
def test_a_static_fleet_is_judged_beyond_chance(word, does):
    against = pair("preserve", "static, at most its GPU-hours", "same GPU-hours", overall=word)
    said = texts(shown(pair("preserve"), against, equal=beside()))
    assert (f"A static fleet of no more GPU-hours does {does} preserve" in said) == (does is not None)
    assert ("A static fleet of no more" in said) == (does is not None)


def test_names_are_shown_as_text():
    roles = {f"hpa{HOSTILE}": "policy", "static-peak": "baseline"}
    page = html(report_of(shown(pair(f"hpa{HOSTILE}"), roles=roles, scores=scores(roles))))
    assert HOSTILE not in page and "hpa&lt;script&gt;" in page and "service &lt;script&gt;" in page


def graded(hours=8 * 24.0, made=MADE, profile=None, **columns):
    """preserve (99.21 % of 60,000 requests), with a week of it evaluated."""
    table = scores(**{"slo_attainment_low": [0.991] * 5, "slo_attainment_high": [0.994] * 5} | columns)
    found = evaluation(scores=table)
    settings = found.settings | {"end_s": START + hours * HOUR, "intervals": made}
    if profile:
        settings["pools"] = [pool | {"provenance": profile} for pool in settings["pools"]]
    return confidence(evaluation(scores=table, settings=settings), choose(table, 0.99), 0.99)


def test_confidence_is_the_worst_of_its_reasons():
    assert graded() == ("A", [])
    assert graded(hours=24.0)[0] == "B"
    assert graded(slo_attainment_low=[0.985] * 5)[0] == "B"
    assert graded(hours=10.0)[0] == "C"
    assert graded(profile="estimated")[0] == "C"
    assert graded(made=MADE | {"why": "too short for intervals: under 20 windows"})[0] == "C"
    grade, reasons = graded(arrived=[20] * 5, hours=10.0)
    assert (grade, len(reasons)) == ("D", 1)


def test_the_grade_stands_on_page_one():
    notes = section_of(evaluation(), "summary").notes
    assert notes[0].startswith("Confidence B: 24\xa0h were evaluated")
    assert len(ROLES) == 5
