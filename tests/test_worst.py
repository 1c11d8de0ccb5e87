"""The worst windows: what is seen of them against a slow count, the rules one by one, and the report."""

import json
from collections import Counter

import numpy as np
import polars as pl
import pytest
from evaluation_data import HOSTILE, START, evaluation, scores, texts
from planted import HALF_S, benched, trace
from report_data import report_of, section_of
from three_hours import PROFILE, rows, stored

from lmaas.policies import evaluate
from lmaas.policies.misses import MISSES
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import play, run_policy
from lmaas.policies.worst import CAUSES, MOST, WORST, _lopsided, _Requests, cause, worst_windows
from lmaas.replay.fleet import Pool
from lmaas.replay.profile import Profile
from lmaas.replay.scores import request_rows
from lmaas.reports.evaluate.worst import LOOKS
from lmaas.reports.html import html
from lmaas.reports.schema import EvaluationMetrics

CALM = {
    "out_of_reach": 0.0, "active": 4.0, "needed": 4.0, "starting": 0.0, "forecast_off": 0.05, "rise": 1.0, "carried": 0,
    "carried_at": 1.0, "preempted": 0.0, "kv_use": 0.4, "lopsided": 0.6, "burst": 1.2,
}  # fmt: skip


@pytest.mark.parametrize(
    "seen, expected",
    [
        ({}, "not attributed"),
        ({"out_of_reach": 0.6, "active": 1.0}, "out of reach"),
        ({"forecast_off": -0.3, "active": 2.0, "starting": 2.0}, "forecast miss"),
        ({"forecast_off": None, "active": 2.0, "starting": 2.0}, "cold start"),
        ({"active": 2.0, "starting": 0.5, "rise": 1.4}, "demand spike"),
        ({"active": 2.0, "starting": 0.5}, "too few replicas"),
        ({"active": 2.0, "kv_use": 0.9, "needed_roomy": 3.0}, "too few replicas"),
        ({"active": 2.0, "kv_use": 0.9, "needed_roomy": 2.0, "carried": 90}, "KV saturation"),
        ({"active": 3.7, "carried": 5}, "backlog"),
        ({"active": 3.7, "carried": 3}, "not attributed"),
        ({"carried": 5, "carried_at": 0.5}, "imbalance"),
        ({"carried": 5, "carried_at": 0.75, "lopsided": 0.95}, "backlog"),
        ({"carried": 5, "carried_at": 0.5, "kv_use": 0.9}, "KV saturation"),
        (
            {"carried": 5, "carried_at": 0.5, "active": 2.0, "kv_use": 0.7, "preempted": 0.1, "needed_roomy": 2.0},
            "KV saturation",
        ),
        ({"preempted": 0.06, "lopsided": 0.95}, "imbalance"),
        ({"preempted": 0.06}, "KV saturation"),
        ({"kv_use": 0.9, "lopsided": 1.0}, "KV saturation"),
        ({"lopsided": 0.95}, "imbalance"),
        ({"lopsided": None, "rise": None}, "not attributed"),
        ({"burst": 2.5}, "demand spike"),
    ],
)
def test_rules_in_their_order(seen, expected):
    assert cause(CALM | seen) == expected
    assert expected in CAUSES


def test_lopsided_by_hand():
    """Two replicas with 10 requests each; 4 of 4, 3 of 4 and 2 of 4 misses on one of them."""
    for worse, share in ((4, 1.0), (3, 0.75), (2, 0.5)):
        missed = [k < worse for k in range(10)] + [k < 4 - worse for k in range(10)]
        table = pl.DataFrame({"replica": [0] * 10 + [1] * 10, "attained": [not m for m in missed]})
        assert _lopsided(table) == pytest.approx(share)
    assert _lopsided(table.filter(pl.col("replica") == 0)) is None


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    opened = stored(home, rows(seed=2, n=24_000, hours=1.5), "plain")
    return evaluate(opened, ["static(replicas=2)", "hpa", "last-value"], baselines=["static-mean"],
                    profile=str(home / "profile.json"), window_s=120.0, warmup_s=300.0, jobs=2)  # fmt: skip


def test_they_are_the_windows_with_most_misses(found):
    assert found.worst.schema == pl.Schema(WORST)
    assert set(found.worst["how"]) == {"by rule"} and set(found.worst["cause"]) <= set(CAUSES)
    for policy in found.scores["policy"]:
        times = found.timeline.filter(pl.col("policy") == policy)
        missed = np.sort((times["arrived"] - times["attained"]).to_numpy())[::-1]
        mine = found.worst.filter(pl.col("policy") == policy)["missed"].to_list()
        assert mine == [n for n in missed[:MOST] if n > 0]
    assert found.worst["missed"].max() > 50  # else the case would tell nothing
    EvaluationMetrics.model_validate(found.metrics())


def test_what_is_seen_of_a_window_counted_slowly(found):
    row = found.worst.filter(pl.col("policy") == "static(replicas=2)").row(0, named=True)
    start, end = row["start_s"], row["start_s"] + row["length_s"]
    pool = f"{row['service']}/{row['region']}/{row['lane']}"
    waiting = held = preempted = arrived = 0.0
    for one in found.requests["static(replicas=2)"].filter(pl.col("pool") == pool).iter_rows(named=True):
        admitted = one["arrival_s"] + (np.inf if one["queue_s"] is None else one["queue_s"])
        done = one["arrival_s"] + (np.inf if one["e2e_s"] is None else one["e2e_s"])
        waiting += max(0.0, min(admitted, end) - max(one["arrival_s"], start))
        tokens = one["input_tokens"] + one["output_tokens"] / 2
        held += tokens * max(0.0, min(done, end) - max(admitted, start))
        if start <= one["arrival_s"] < end:
            arrived += 1
            preempted += one["preemptions"] > 0
    assert row["queue"] == pytest.approx(waiting / row["length_s"])
    assert row["kv_use"] == pytest.approx(min(1, held / (2 * PROFILE["kv_tokens"] * row["length_s"])))
    assert row["preempted"] == pytest.approx(preempted / arrived)
    assert row["arrived"] == arrived


def test_requests_of_the_warm_up_fill_the_first_windows(tmp_path):
    """Counted slowly over everything that was replayed; scores know of the evaluated requests alone."""
    busy, calm = (trace([rate] * 20) for rate in (16, 4))
    table = pl.concat([busy.filter(pl.col("arrival_s") < HALF_S), calm.filter(pl.col("arrival_s") >= HALF_S)])
    table = table.with_columns(request_id=pl.format("r{}", pl.int_range(pl.len())))
    ready, inputs = benched(tmp_path, table, "busy before").base
    named = parse_policy("static(replicas=3)")
    run = run_policy(named, ready, inputs, lambda share: None)
    everyone = request_rows(ready.replayed, play(named, ready, inputs, lambda share: None).outcome, ready.fleet)
    worst = worst_windows(run, ready).filter(pl.col("start_s") < ready.cut_s + 3 * ready.window_s)
    assert ready.cut_s in worst["start_s"]
    for row in worst.iter_rows(named=True):
        start, end = row["start_s"], row["start_s"] + row["length_s"]
        waiting = held = early = 0.0
        for one in everyone.iter_rows(named=True):
            admitted = one["arrival_s"] + (np.inf if one["queue_s"] is None else one["queue_s"])
            done = one["arrival_s"] + (np.inf if one["e2e_s"] is None else one["e2e_s"])
            waited = max(0.0, min(admitted, end) - max(one["arrival_s"], start))
            served = max(0.0, min(done, end) - max(admitted, start))
            waiting, held = waiting + waited, held + (one["input_tokens"] + one["output_tokens"] / 2) * served
            early += waited if one["arrival_s"] < ready.cut_s else 0.0
        assert row["queue"] == pytest.approx(waiting / row["length_s"])
        assert row["kv_use"] == pytest.approx(min(1, held / (3 * PROFILE["kv_tokens"] * row["length_s"])))
        if start == ready.cut_s:
            assert row["cause"] == "backlog"
            assert early > 0.3 * waiting  # else the case would tell nothing
    assert run.rows["arrival_s"].min() >= ready.cut_s > run.staying["arrival_s"].max()
    assert run.scores["arrived"] == run.rows.height == (ready.replayed["arrival_s"] >= ready.cut_s).sum()


def test_the_limits_missed_counted_one_by_one(found):
    for policy, requests in found.requests.items():
        counts: Counter[tuple[str, str, str]] = Counter()
        for one in requests.filter(~pl.col("attained")).iter_rows(named=True):
            done = one["status"] == "ok"
            late = [n for n in ("ttft", "tpot", "e2e") if done and (one[f"{n}_s"] or 0) > one[f"limit_{n}_s"]]
            assert late or not done
            counts.update((one["pool"], one["scored_tier"], limit) for limit in late or ["not completed"])
        mine = found.misses.filter(policy=policy).with_columns(
            pool=pl.concat_str("service", "region", "lane", separator="/")
        )
        assert dict(counts) == {row[:3]: row[3] for row in mine.select("pool", "tier", "limit", "missed").iter_rows()}
        any_missed = mine.select("pool", "tier", "requests").unique()["requests"].sum()
        assert any_missed == requests.height - requests["attained"].sum()
    assert found.misses.schema == pl.Schema(MISSES) and found.misses["missed"].sum() > 1000


def test_who_never_waited_is_not_in_the_queue():
    """One served after 4 s, one that waits to the end, and one each that was rejected, gave up, was never sent."""
    names = ["ok", "incomplete", "rejected", "abandoned", "not_sent"]
    table = pl.DataFrame({
        "arrival_s": [0.0, 6.0, 1.0, 2.0, 3.0], "status": names, "queue_s": [4.0, None, None, None, None],
        "e2e_s": [9.0, None, None, None, None], "hold_s": [0.0, None, None, None, None],
        "network_s": [0.0, None, None, None, None], "input_tokens": [60] * 5, "output_tokens": [80] * 5,
        "replica": [0, None, None, None, None], "attained": [True] + [False] * 4, "preemptions": [0] * 5,
        **{f"limit_{name}_s": [np.inf] * 5 for name in ("ttft", "tpot", "e2e")},
    })  # fmt: skip
    pool = Pool("chat", "us", Profile.model_validate(PROFILE))
    seen = {"start_s": 0.0, "length_s": 10.0, "active": 1.0, "missed": 3, "arrived": 4}
    found = _Requests(table).features(seen, pool)
    assert found["queue"] == pytest.approx((4 + 4) / 10)
    assert found["kv_use"] == pytest.approx(100 * 5 / (PROFILE["kv_tokens"] * 10))


@pytest.mark.parametrize("active, share", [([0, 1, 2, 3], 0.5), ([0, 2], 0.5), ([0, 1], 1.0), ([], 1.0)])
def test_where_requests_waited_from_the_window_before(active, share):
    """At replicas 0 and 1; replica 2 served at once, replica 3 nobody."""
    table = pl.DataFrame({
        "arrival_s": [0.0, 1.0, 2.0, 3.0, 12.0], "status": ["ok"] * 5, "queue_s": [11.0, 10.0, 9.0, 0.0, 0.0],
        "e2e_s": [14.0, 13.0, 12.0, 5.0, 1.0], "hold_s": [0.0] * 5, "network_s": [0.0] * 5, "input_tokens": [9] * 5,
        "output_tokens": [9] * 5, "replica": [0, 0, 1, 2, 2], "attained": [False] * 4 + [True], "preemptions": [0] * 5,
        **{f"limit_{name}_s": [np.inf] * 5 for name in ("ttft", "tpot", "e2e")},
    })  # fmt: skip
    seen = {"start_s": 10.0, "length_s": 10.0, "active": 3.0, "missed": 0, "arrived": 1}
    found = _Requests(table).features(seen, Pool("chat", "us", Profile.model_validate(PROFILE)), active)
    assert (found["carried"], found["carried_at"]) == (3, share)


def test_forecasts_are_seen_where_there_are_some(found):
    told = found.worst.group_by("policy").agg(pl.col("forecast_off").null_count(), n=pl.len())
    by = {policy: nulls for policy, nulls, n in told.iter_rows() if n}
    assert by["last-value"] == 0
    rows_ = found.worst.filter(pl.col("policy") == "hpa")
    assert rows_["forecast_off"].null_count() == rows_.height


def window(policy, missed, why, **more):
    row = {"policy": policy, "start_s": START, "length_s": 600.0, "service": "chat", "region": "us", "lane": "shared",
           "arrived": 400, "missed": missed, "slo_attainment": 0.7, "cause": why, "how": "by rule"}  # fmt: skip
    return dict.fromkeys(WORST, 1.0) | row | more


def shown(*windows, **more):
    return evaluation(worst=pl.DataFrame(windows, schema=WORST, orient="row"), **more)


def test_every_cause_has_a_look_of_its_own():
    assert list(LOOKS) == list(CAUSES)
    assert len(set(LOOKS.values())) == len(LOOKS)


def test_the_report_names_the_commonest_cause():
    found = shown(window("preserve", 90, "cold start"), window("preserve", 30, "backlog"), window("hpa", 7, "backlog"))
    section = section_of(found, "worst")
    said = section.finding.replace("\xa0", " ")
    assert said.startswith("In its 2 worst windows preserve missed 120 requests (25.3 % of all it missed)")
    assert said.endswith("commonest cause by rule: cold start (75 % of these).")
    assert section.tables[0].rows["pool"].to_list() == ["chat/us"] * 2
    (figure,) = section.figures
    assert {bar["name"]: bar["x"] for bar in figure.spec["data"]} == {"cold start": [90, 0], "backlog": [30, 7]}
    assert "by rule" in texts(found)


def test_names_are_shown_as_text():
    roles = {f"hpa{HOSTILE}": "policy"}
    found = shown(window(f"hpa{HOSTILE}", 9, "backlog", service=HOSTILE), roles=roles, scores=scores(roles))
    page = html(report_of(found))
    assert HOSTILE not in page


def test_nothing_missed_nothing_said():
    assert "worst" not in [section.anchor for section in report_of(shown()).sections]
