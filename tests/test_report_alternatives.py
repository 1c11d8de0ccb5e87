"""Ranked alternatives: the order, the risk grade, what binds; and the configuration as resolved."""

import polars as pl
import pytest
import yaml
from evaluation_data import HOSTILE, ROLES, evaluation, scores
from report_data import section_of

from lmaas.policies.choice import choose
from lmaas.policies.misses import MISSES
from lmaas.policies.worst import WORST
from lmaas.reports.evaluate.alternatives import binding, ranked, risks

TARGET = 0.99


def row(attained, worst=None, low=None):
    return {"slo_attainment": attained, "worst_hour_attainment": worst, "slo_attainment_low": low}


@pytest.mark.parametrize(
    ("attained", "grade"),
    [(1.0, 0), (0.995, 0), (0.9949, 1), (0.992, 1), (0.9919, 2), (0.99, 2), (0.9899, 3), (0.98, 3), (0.9799, 4)],
)
def test_missed_requests_are_graded_by_what_the_target_allows(attained, grade):
    assert risks(row(attained), TARGET) == [(grade, "missed requests")]


@pytest.mark.parametrize(("worst", "grade"), [(0.99, 0), (0.985, 1), (0.96, 2), (0.92, 3), (0.5, 4)])
def test_the_worst_hour_is_graded_too(worst, grade):
    assert risks(row(1.0, worst), TARGET)[1] == (grade, "the worst hour")


def test_chance_makes_a_risk_of_a_narrow_pass():
    assert risks(row(0.999, low=0.985), TARGET)[0][0] == 2
    assert risks(row(0.999, low=0.991), TARGET)[0][0] == 0
    assert risks(row(0.97, low=0.96), TARGET)[0][0] == 4


def test_a_target_of_all_allows_no_miss():
    assert risks(row(1.0), 1.0)[0][0] == 0
    assert risks(row(0.9999), 1.0)[0][0] == 4


def test_who_attains_comes_first_by_cost_then_who_comes_closest():
    attained = [0.9921, 0.9755, 0.9998, 0.983, 0.9988]  # the last is a bound
    table = scores(slo_attainment=attained, gpu_hours_provisioned=[900.0, 1.0, 700.0, 2.0, 1.0], cost_usd=[None] * 5)
    found = ranked(table, choose(table, TARGET), TARGET)
    assert found["policy"].to_list() == ["static-peak", "preserve", "last-value", "hpa"]
    assert found["rank"].to_list() == [1, 2, 3, 4]
    assert found["risk"].to_list() == [3, 3, 3, 4]  # all had a worst hour of 90 %
    assert found["risk_of"].to_list()[0] == "the worst hour"


def test_the_binding_constraint_is_where_most_was_missed_and_why():
    made = evaluation()
    lines = made.timeline.filter(policy="hpa").with_columns(
        attained=pl.when(pl.col("service") == "code", pl.col("region") == "eu").then(0).otherwise("arrived")
    )
    fixed = {"policy": "hpa", "lane": "shared"}
    worst = pl.DataFrame(
        [
            {**fixed, "service": "code", "region": "eu", "missed": 5, "cause": "cold start"},
            {**fixed, "service": "code", "region": "eu", "missed": 6, "cause": "backlog"},
            {**fixed, "service": "chat", "region": "us", "missed": 99, "cause": "imbalance"},
        ],
        schema=WORST,
    )
    found = [
        {**fixed, "service": "code", "region": "eu", "tier": "interactive-fast", "limit": "tpot", "missed": 3},
        {**fixed, "service": "code", "region": "eu", "tier": "batch", "limit": "e2e", "missed": 8},
        {**fixed, "service": "chat", "region": "us", "tier": "batch", "limit": "ttft", "missed": 99},
    ]
    missed = pl.DataFrame(found, schema=MISSES)
    assert binding("hpa", worst, lines, missed) == "code/eu: batch E2E; backlog"
    assert binding("hpa", worst.clear(), lines, missed) == "code/eu: batch E2E"
    assert binding("hpa", worst, lines, missed.clear()) == "code/eu: backlog"
    assert binding("hpa", pl.DataFrame(), lines, pl.DataFrame()) == "code/eu"
    assert binding("hpa", worst, lines.with_columns(attained="arrived"), missed) is None


def test_bounds_are_no_alternatives_and_one_policy_stands_alone():
    assert "oracle" not in section_of(evaluation(), "alternatives").tables[0].rows["policy"]
    one = {"preserve": "policy"}
    assert section_of(evaluation(one), "alternatives").finding == "preserve is the only alternative, at risk 3 of 4."


def test_the_finding_names_the_first_two_and_how_far_apart():
    table = scores(ROLES, cost_usd=[100.0, 90.0, 150.0, 80.0, 70.0])
    said = section_of(evaluation(scores=table), "alternatives").finding
    assert (
        said == "preserve ranks first, at risk 3 of 4; static-peak is next, at risk 3, for 50\N{NO-BREAK SPACE}% more."
    )


def test_the_configuration_can_be_read_back():
    result = evaluation(services=(HOSTILE, "a\x1b[31m: - b"))
    found = section_of(result, "configuration")
    assert yaml.safe_load(found.code) == result.settings
    assert "\x1b" not in found.code
