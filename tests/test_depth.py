"""`--depth full`: searches, worth and exit code 6 from the trace to the report, foresight marked everywhere."""

import json

import polars as pl
import pytest
from evaluation_data import texts
from three_hours import PROFILE, rows, stored

from lmaas.analysis.errors import Exit, UserError
from lmaas.policies import evaluate, worth
from lmaas.policies.evaluation import check_asked
from lmaas.policies.full import sensitivity
from lmaas.policies.inputs import Inputs
from lmaas.policies.matched import MATCHED
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.told import LENGTHS
from lmaas.reports.evaluate.worth import figure, finding, lost
from lmaas.reports.report import evaluation_report
from lmaas.reports.schema import EvaluationMetrics

ATTAIN = 0.955
BASE = "preserve(forecaster=last-value,tier2=false)"


@pytest.fixture(scope="module", autouse=True)
def one_point():
    """Sensitivity is looked at elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "FACTORS", dict.fromkeys(sensitivity.FACTORS, ()))
        patch.setattr(sensitivity, "ERRORS", (0.3,))
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    return home


def few(base, errors=()):
    """Cases enough to see each kind."""
    every = worth_cases(base)
    return [case for case in every if case.predictor in ("last-value", "truth", "median", "true", "none (static-mean)")
            and case.injected in (None, 0.0, 0.3)]  # fmt: skip


worth_cases = worth.cases


@pytest.fixture(scope="module")
def ran(home):
    """(result, what was announced)"""
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "cases", few)
        result = evaluate(
            stored(home, rows(n=6000, hours=1.0), "small"), [BASE], baselines=["static-mean", "oracle"],
            profile=str(home / "profile.json"), attain=ATTAIN, window_s=120.0, warmup_s=300.0, depth="full",
            announce=told.append, jobs=2,
        )  # fmt: skip
    return result, told


def test_every_policy_with_a_knob_is_searched(ran):
    result, told = ran
    assert result.matched["policy"].to_list() == [BASE, "static-mean", "oracle"]
    assert result.matched.schema == pl.Schema(MATCHED)
    assert result.matched["attains"].all()
    assert (result.matched["slo_attainment"] >= ATTAIN).all()
    assert (result.matched["gpu_hours_matched_low"] <= result.matched["gpu_hours_matched"]).all()
    scores = result.scores.select("policy", "headroom_matched", "gpu_hours_matched")
    assert scores.equals(result.matched.select("policy", "headroom_matched", "gpu_hours_matched"))
    assert result.exit_code == Exit.OK
    (estimate,) = told
    assert estimate.startswith("--depth full: matched attainment of 3 policies and 7 predictors")
    assert "min" in estimate


def test_the_worth_table_is_complete(ran):
    table = ran[0].worth
    assert table.schema == pl.Schema(worth.WORTH)
    of = {(row["part"], row["predictor"], row["injected"]): row for row in table.to_dicts()}
    assert set(of) == {
        ("demand", "last-value", None), ("demand", "none (static-mean)", None), ("demand", "truth", 0.0),
        ("demand", "truth", 0.3), ("lengths", "median", None), ("lengths", "true", 0.0), ("lengths", "true", 0.3),
    }  # fmt: skip
    assert of["demand", "last-value", None]["change"] == 0.0
    assert of["lengths", "median", None]["change"] == 0.0
    assert of["demand", "truth", 0.0]["error"] == 0.0
    assert 0.1 < of["demand", "truth", 0.3]["error"] < 0.5
    assert of["lengths", "true", 0.0]["error"] == 0.0
    assert of["lengths", "true", 0.3]["error"] > 5
    assert of["demand", "none (static-mean)", None]["error"] is None
    assert {key for key, row in of.items() if row["foresight"]} == {key for key in of if key[1] in ("truth", "true")}
    for row in of.values():
        hours = row["gpu_hours_matched"]
        floor = of[row["part"], {"demand": "last-value", "lengths": "median"}[row["part"]], None]["gpu_hours_matched"]
        assert row["change"] == pytest.approx(hours / floor - 1)
        assert row["gpu_hours_matched_low"] <= hours <= row["gpu_hours_matched_high"]


def test_foresight_is_marked_in_every_output(ran):
    result, _ = ran
    assert result.matched["foresight"].all()
    assert any(note.startswith("foresight: matched headrooms") for note in result.notes)
    metrics = EvaluationMetrics.model_validate(json.loads(json.dumps(result.metrics())))
    assert all(row.foresight for row in metrics.matched)
    report = evaluation_report(result, ["lmaas"], "run")
    of = {section.anchor: section for section in report.sections}
    assert any("Foresight" in note for note in of["matched"].notes)
    assert "foresight" in " ".join(of["forecast"].notes)
    assert all("foresight" in table.caption for table in of["forecast"].tables[:2])
    assert "no, foresight" in texts(result)


def test_the_report_shows_worth_first(ran):
    result, _ = ran
    section = next(s for s in evaluation_report(result, ["lmaas"], "run").sections if s.anchor == "forecast")
    assert section.finding.startswith("At equal attainment")
    assert len(section.figures) == 2
    drawn = section.figures[0].spec["data"]
    assert [trace["name"] for trace in drawn] == ["truth, off by what is injected", "last-value"]
    assert len(drawn[0]["x"]) == 2
    assert section.figures[0].table.rows.height == 4


def test_predictors_that_attain_nowhere_are_named_with_the_reason(ran):
    table = ran[0].worth
    none = pl.lit(None, pl.Float64)
    gone = table.with_columns(attains=pl.lit(False), why=pl.lit("pools are bounded"), gpu_hours_matched=none)
    assert lost(table.filter("attains")) == []
    told = lost(gone)
    assert len(told) == table.height
    assert any(line == "last-value (demand) attains nowhere: pools are bounded." for line in told)
    off_by = [line for line in told if ", off by " in line]
    assert len(off_by) == (table["injected"] > 0).sum()


def test_worth_that_fails_costs_only_itself(home, monkeypatch):
    def broken(*_, **__):
        raise ArithmeticError("no fit")

    monkeypatch.setattr(worth, "worth", broken)
    found = evaluate(
        stored(home, rows(n=600, hours=1.0), "tiny"), ["last-value"], baselines=["none"], attain=0.5,
        profile=str(home / "profile.json"), depth="full",
    )  # fmt: skip
    assert found.matched.height == 1 and found.worth.is_empty()
    assert any("the search for last-value failed: no fit" in note for note in found.notes)


def test_a_default_run_searches_nothing(home):
    found = evaluate(
        stored(home, rows(n=600, hours=1.0), "tiny"), [BASE], baselines=["none"], profile=str(home / "profile.json")
    )
    assert found.matched.is_empty()
    assert found.worth.is_empty()
    assert "gpu_hours_matched" not in found.scores.columns
    assert "depth" not in found.settings


def test_what_attains_nowhere_exits_6_and_says_why(home):
    found = evaluate(
        stored(home, rows(n=600, hours=1.0), "tiny"), ["static(replicas=2)"], baselines=["last-value"],
        profile=str(home / "profile.json"), slo=["ttft<20ms"], depth="full",
    )  # fmt: skip
    assert found.exit_code == Exit.INFEASIBLE
    assert not found.matched["attains"].any()
    assert any("static(replicas=2): no replicas attains 99.00%: only" in note for note in found.notes)
    assert found.worth.is_empty()  # nobody asked takes a forecaster's word
    assert "No headroom makes any policy attain" in texts(found)


def test_a_baseline_that_attains_nowhere_is_no_failure(home):
    """hpa alone misses: it is not asked for."""
    found = evaluate(
        stored(home, rows(n=600, hours=1.0), "tiny"), [], baselines=["static-mean"],
        profile=str(home / "profile.json"), slo=["ttft<20ms"], depth="full",
    )  # fmt: skip
    assert not found.matched["attains"].any()
    assert found.exit_code == Exit.OK


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"depth": "deep"}, "no depth 'deep'"),
        ({"depth": "full", "fidelity": "window"}, "--depth full searches by replays"),
        ({"seeds": 3}, "--seeds 3 takes as many replays of everything: add --depth full"),
        ({"depth": "full", "seeds": 0}, "--seeds 0: from 1 to 100"),
    ],
)
def test_depths_that_are_none_are_refused(asked, says):
    with pytest.raises(UserError, match=says) as error:
        check_asked(["hpa"], **asked)
    assert error.value.code == Exit.USAGE


def test_cases_hold_everything_but_one_thing_still():
    base = parse_policy("preserve(lead_s=60)").policy
    every = worth.cases(base)
    planned = [case for case in every if not case.predictor.startswith("none")]
    for case in planned:
        kept = ("lead_s", "router", "lengths" if case.part == "demand" else "forecaster")
        assert all(getattr(case.policy, name) == getattr(base, name) for name in kept), case
    assert {case.predictor for case in every if case.part == "lengths"} == {*LENGTHS, "true", "none (least-requests)"}
    curve = [case.injected for case in every if case.predictor == "truth"]
    assert curve == [0.0, 0.05, 0.1, 0.2, 0.3, 0.5]
    assert every[0].predictor == "last-value"  # the others start from what it needs


def test_a_better_forecast_is_never_worth_less_where_windows_are_alike(home):
    """Two alternating levels: the last value is always wrong, the truth needs less."""
    table = rows(1, n=60_000, hours=1.0)
    busy = (pl.col("arrival_s") // 300) % 2 == 0
    table = table.with_columns(tier=pl.lit("interactive-normal")).filter(busy | (pl.int_range(pl.len()) % 4 == 0))
    ready = prepare(
        stored(home, table, "levels"), slos=(), attain=0.9, profile=str(home / "profile.json"), fleet=None,
        train_fraction=0.5, warmup_s=300.0, window_s=300.0, load=1.0, seed=0,
    )  # fmt: skip
    found = worth.worth(ready, Inputs(ready), 0.9, parse_policy("last-value").policy, only=["seasonal-naive"])
    cost = {(p, i): h for p, i, h in found.select("predictor", "injected", "gpu_hours_matched").iter_rows()}
    assert cost["truth", 0.0] < 0.97 * cost["last-value", None]
    assert cost["seasonal-naive", None] == cost["last-value", None]  # the same without a day's history
    row = found.filter(pl.col("predictor") == "truth", pl.col("injected") == 0).row(0, named=True)
    assert row["gap_closed"] == pytest.approx(1.0)
    assert "last-value" not in finding(found) or "saves" in finding(found)
    assert figure(found, 0.9) is not None
