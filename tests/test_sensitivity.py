"""Assumptions moved: the same as an evaluation that is asked so, and where the recommendation breaks, by hand."""

import json

import polars as pl
import pytest
from evaluation_data import HOSTILE, evaluation, scores, texts
from planted import benched, trace
from report_data import report_of, section_of
from three_hours import PROFILE

from lmaas.policies import evaluate
from lmaas.policies.altered import Altered
from lmaas.policies.full import sensitivity as moving
from lmaas.policies.full.breakeven import ATTAINS, BREAK_EVEN, CHEAPER, HOLDS, MISSES, break_even
from lmaas.policies.full.crew import Crew
from lmaas.policies.full.seeds import SCORES
from lmaas.policies.full.sensitivity import SENSITIVITY, points, sensitivity, tasks_of
from lmaas.policies.registry import parse_policy
from lmaas.reports.html import html
from lmaas.reports.schema import EvaluationMetrics

POLICIES = ("last-value", "static(replicas=3)")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def bench(home):
    return benched(home, trace([4, 6] * 10), "moved", startup_s=60.0)


def asked(bench, **more):
    question = {**bench.asked, "slo": [], **more}
    del question["slos"]
    return evaluate(bench.trace, list(POLICIES), baselines=["none"], **question)


@pytest.fixture(scope="module")
def own(bench):
    return asked(bench)


@pytest.fixture(scope="module")
def found(bench, own):
    few = {moving.GROWTH: (2.0,), moving.OUTPUT: (1.5,), moving.START: (2.0,), moving.LIMITS: (0.5,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving, "FACTORS", few)
        patch.setattr(moving, "ERRORS", (0.3,))
        tasks = tasks_of([parse_policy(text) for text in POLICIES], bench.base[0])
    with Crew(bench, 1) as crew:
        return sensitivity(tasks, own.scores, 0.95, bench.base[0], crew, lambda share: None)


def of(table, factor, evaluated=False):
    rows = table.filter((pl.col("factor") == factor) & (pl.col("as_evaluated") == evaluated))
    return {row["policy"]: row for row in rows.iter_rows(named=True)}


def test_a_point_is_what_the_command_says_when_asked_so(bench, home, found):
    """Growth is --load; limits are --slo; start-up and lengths are those of another profile and trace."""
    half = ["ttft<0.5s, tpot<0.05s @ tier=interactive-fast"]
    longer = trace([4, 6] * 10).with_columns((pl.col("output_tokens") * 1.5).round().cast(pl.Int64))
    slow = home / "slow.json"
    slow.write_text(json.dumps({**PROFILE, "startup_s": 120.0}))
    same = {
        moving.GROWTH: asked(bench, load=2.0),
        moving.LIMITS: asked(bench, slo=half),
        moving.START: asked(bench, profile=str(slow)),
        moving.OUTPUT: asked(benched(home, longer, "longer", startup_s=60.0)),
    }
    assert found.schema == pl.Schema(SENSITIVITY)
    for factor, result in same.items():
        for policy, row in of(found, factor).items():
            expected = result.scores.filter(pl.col("policy") == policy).row(0, named=True)
            assert {name: row[name] for name in moving.METRICS} == {name: expected[name] for name in moving.METRICS}
    assert of(found, moving.START)["last-value"]["value"] == 120.0


def test_the_evaluation_itself_is_a_point(found, own):
    for factor in (moving.GROWTH, moving.OUTPUT, moving.START, moving.LIMITS):
        for policy, row in of(found, factor, evaluated=True).items():
            expected = own.scores.filter(pl.col("policy") == policy).row(0, named=True)
            assert row["slo_attainment"] == expected["slo_attainment"]


def test_a_forecast_error_moves_those_that_forecast(found, own):
    rows = of(found, moving.ERROR)
    before = dict(own.scores.select("policy", "slo_attainment").iter_rows())
    assert rows["static(replicas=3)"]["slo_attainment"] == before["static(replicas=3)"]
    assert rows["last-value"]["slo_attainment"] != before["last-value"]
    assert rows["last-value"]["unit"] == "share" and not found.filter(factor=moving.ERROR)["as_evaluated"].any()


def test_prices_are_moved_where_there_are_several_kinds_of_gpu(bench):
    ready, _ = bench.base
    assert {point.factor for point in points(ready, forecasts=False)} == {
        moving.GROWTH, moving.OUTPUT, moving.START, moving.LIMITS,
    }  # fmt: skip
    (pool,) = ready.fleet.pools
    other = pool.profile.model_copy(update={"gpu": "A100", "usd_per_gpu_hour": 1.0})
    mine = pool.profile.model_copy(update={"gpu": "H100", "usd_per_gpu_hour": 3.0})
    mixed = type(ready.fleet)((type(pool)(pool.service, pool.region, mine, mixed=((other, 1),)),))
    two = type(ready)(**{f: getattr(ready, f) for f in ready.__dataclass_fields__} | {"fleet": mixed})
    prices = [(point.gpu, point.value) for point in points(two, forecasts=False) if point.factor == moving.PRICE]
    assert prices == [(gpu, x) for gpu in ("A100", "H100") for x in moving.FACTORS[moving.PRICE]]
    dearer = Altered(price=2.0, gpu="A100").fleet(mixed).pools[0]
    assert (dearer.profile.usd_per_gpu_hour, dearer.mixed[0][0].usd_per_gpu_hour) == (3.0, 2.0)


def table(factor, cells, evaluated=1.0, attain=0.95):
    """cells: value -> policy -> (attainment, cost)."""
    rows = []
    for value, by in sorted(cells.items()):
        fair = {name: cost for name, (share, cost) in by.items() if share >= attain}
        best = min(fair, key=lambda name: fair[name], default=None)
        rows += [
            {"factor": factor, "gpu": None, "value": value, "unit": "x", "as_evaluated": value == evaluated,
             "policy": name, "slo_attainment": share, "gpu_hours_provisioned": cost, "cost_usd": cost,
             "ttft_p99_s": 0.1, "recommended": name == best, "why": None}
            for name, (share, cost) in by.items()
        ]  # fmt: skip
    return pl.DataFrame(rows, schema=SENSITIVITY, orient="row")


@pytest.mark.parametrize(
    "cells, expected",
    [
        # a falls from 0.97 at 1x to 0.93 at 2x: through 0.95 half way
        ({0.5: {"a": (0.98, 1)}, 1.0: {"a": (0.97, 2)}, 2.0: {"a": (0.93, 4)}}, [(MISSES, 1.0, 2.0, 1.5, None)]),
        # costs 2 and 4 against 3 and 3: equal half way; b attains throughout
        (
            {1.0: {"a": (0.99, 2), "b": (0.99, 3)}, 2.0: {"a": (0.99, 4), "b": (0.99, 3)}},
            [(CHEAPER, 1.0, 2.0, 1.5, "b")],
        ),
        # below, b begins to attain at 0.96 of 1x: from 0.94 to 0.965 over half an x
        (
            {
                0.5: {"a": (0.99, 2), "b": (0.965, 1)},
                1.0: {"a": (0.97, 2), "b": (0.94, 1)},
                1.5: {"a": (0.96, 2), "b": (0.9, 1)},
            },
            [(CHEAPER, 0.5, 1.0, 0.8, "b")],
        ),
        ({0.5: {"a": (0.98, 1)}, 1.0: {"a": (0.97, 2)}, 2.0: {"a": (0.96, 4)}}, [(HOLDS, 0.5, 2.0, None, None)]),
    ],
)  # fmt: skip
def test_where_it_breaks_by_hand(cells, expected):
    found = break_even(table(moving.GROWTH, cells), "a", True, 0.95, "cost_usd")
    assert found.schema == pl.Schema(BREAK_EVEN)
    rows = [(r["event"], r["low"], r["high"], r["at"] and round(r["at"], 9), r["other"]) for r in found.to_dicts()]
    assert rows == expected


def test_where_none_attains_it_says_when_one_would():
    cells = {0.5: {"a": (0.97, 1)}, 1.0: {"a": (0.93, 2)}, 2.0: {"a": (0.9, 4)}}
    (row,) = break_even(table(moving.GROWTH, cells), "a", False, 0.95, "cost_usd").to_dicts()
    assert (row["event"], row["low"], row["high"], round(row["at"], 9)) == (ATTAINS, 0.5, 1.0, 0.75)


def test_an_error_that_breaks_it_at_once():
    """No value is the evaluation's own: from the least tested up."""
    cells = {0.0: {"a": (0.9, 1)}, 0.3: {"a": (0.8, 1)}}
    (row,) = break_even(table(moving.ERROR, cells, evaluated=None), "a", True, 0.95, "cost_usd").to_dicts()
    assert (row["event"], row["low"], row["high"], row["at"]) == (MISSES, None, 0.0, None)


def shown(name="preserve"):
    cells = {0.8: {name: (0.999, 1), "hpa": (0.97, 1)}, 1.0: {name: (0.992, 2), "hpa": (0.96, 3)},
             1.5: {name: (0.972, 4), "hpa": (0.991, 5)}}  # fmt: skip
    rows = table(moving.GROWTH, cells, attain=0.99)
    found = break_even(rows, name, True, 0.99, "cost_usd")
    of_seeds = [{"policy": name, "seed": seed, **dict.fromkeys(list(SCORES)[2:-1], 0.5)} for seed in range(2)]
    roles = {name: "policy", "hpa": "policy", "oracle": "bound"}
    return evaluation(
        roles=roles, scores=scores(roles), sensitivity=rows, break_even=found,
        seeds=pl.DataFrame([{n: row.get(n) for n in SCORES} for row in of_seeds], schema=SCORES, orient="row"),
    )  # fmt: skip


def test_the_report_says_where_it_breaks():
    result = shown()
    section = section_of(result, "sensitivity")
    said = section.finding.replace("\xa0", " ")
    assert said == "With traffic above about 1.05 x preserve no longer attains 99 %."
    assert section.tables[0].rows.to_dicts()[0]["between"] == "1 x and 1.5 x"
    assert section.tables[0].rows["other"].to_list() == ["hpa"]
    assert section.tables[1].rows.height == 2 and len(section.figures) == 1
    assert section.figures[0].table.rows.height == 6
    assert "Where it no longer holds that preserve is recommended" in texts(result)
    EvaluationMetrics.model_validate(result.metrics())


def test_names_are_shown_as_text():
    assert HOSTILE not in html(report_of(shown(f"hpa{HOSTILE}")))


def test_a_default_run_says_nothing_of_it():
    assert "sensitivity" not in [section.anchor for section in report_of(evaluation()).sections]
