"""The evaluator: what it promises users, checked on a small trace and against the reference."""

import json
import math

import numpy as np
import polars as pl
import pytest
from reference import Fleet, Latency, Replica, Request, Shape
from three_hours import HOURS, PROFILE, decisions, rows, scrambled, stored

from lmaas.analysis.errors import Exit, UserError
from lmaas.policies import evaluate


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def profile(home):
    path = home / "profile.json"
    path.write_text(json.dumps(PROFILE))
    return str(path)


@pytest.fixture(scope="module")
def trace(home):
    return stored(home, rows(), "plain")


PRESERVES = ["preserve", "preserve(tier2=false)", "preserve(tier1=false)", "preserve-artifact", "preserve-hybrid"]
REACTS = {"preserve", "preserve(tier1=false)", "preserve-artifact", "preserve-hybrid", "hpa"}  # within the first window


@pytest.fixture(scope="module")
def result(trace, profile):
    return evaluate(trace, PRESERVES, profile=profile, window_s=300.0)


def test_every_policy_reports(result):
    assert result.scores["policy"].to_list() == [
        *PRESERVES,
        "static-peak",
        "static-mean",
        "last-value",
        "hpa",
        "oracle",
    ]
    assert result.scores["foresight"].to_list() == [False] * 9 + [True]
    assert result.failures == {}
    assert result.exit_code == Exit.OK


def test_every_request_ends_once(result, trace):
    evaluated = trace.table("arrival_s").filter(pl.col("arrival_s") >= result.settings["cut_s"]).height
    for policy, table in result.requests.items():
        assert table.height == evaluated, policy
        counts = dict(table.group_by("status").len().iter_rows())
        scores = result.scores.filter(pl.col("policy") == policy).row(0, named=True)
        assert scores["arrived"] == evaluated
        assert scores["completed"] == counts["ok"]
        assert scores["rejected"] == counts.get("rejected", 0)
        assert sum(counts.values()) == evaluated


def test_latencies_are_coherent(result):
    for table in result.requests.values():
        done = table.filter(pl.col("status") == "ok")
        assert (done["queue_s"] >= 0).all()
        assert (done["ttft_s"] > done["queue_s"]).all()
        assert (done["e2e_s"] >= done["ttft_s"]).all()
        many = done.filter(pl.col("output_tokens") > 1)
        tpot = (many["e2e_s"] - many["ttft_s"]) / (many["output_tokens"] - 1)
        assert (many["tpot_s"] - tpot).abs().max() < 1e-12
        assert done.filter(pl.col("output_tokens") == 1)["tpot_s"].null_count() == (done["output_tokens"] == 1).sum()


def test_attainment_by_the_definition(result):
    """Recomputed row by row, with the tiers' defaults."""
    limits = {
        "interactive-fast": (1.0, 0.1, math.inf),
        "interactive-normal": (10.0, 0.2, math.inf),
        "batch": (math.inf, math.inf, 86400.0),
    }
    table = result.requests["static-mean"]
    met = 0
    for row in table.iter_rows(named=True):
        ttft, tpot, e2e = limits[row["tier"] or "interactive-fast"]
        ok = row["status"] == "ok"
        met += ok and row["ttft_s"] <= ttft and (row["tpot_s"] or 0.0) <= tpot and row["e2e_s"] <= e2e
    score = result.scores.filter(pl.col("policy") == "static-mean")["slo_attainment"].item()
    assert score == pytest.approx(met / table.height)
    assert 0.3 < score < 1  # else the case would tell nothing


def test_percentiles_are_exact(result):
    ttft = result.requests["hpa"]["ttft_s"].drop_nulls().to_numpy()
    row = result.scores.filter(pl.col("policy") == "hpa").row(0, named=True)
    assert row["ttft_p99_s"] == pytest.approx(np.quantile(ttft, 0.99))
    assert row["n_ttft"] == len(ttft)


def test_gpu_hours_are_the_area_under_the_timeline(result):
    for policy in result.scores["policy"]:
        row = result.scores.filter(pl.col("policy") == policy).row(0, named=True)
        times = result.timeline.filter(pl.col("policy") == policy)
        area = (times["provisioned"] * times["length_s"]).sum() / 3600 * 2
        assert row["gpu_hours_provisioned"] - row["gpu_hours_tail"] == pytest.approx(area, rel=1e-9), policy
        assert row["cost_usd"] == pytest.approx(row["gpu_hours_provisioned"] * 2.0)
        assert row["gpu_hours_active"] + row["wasted_startup_hours"] <= row["gpu_hours_provisioned"] + 1e-9
        assert times["arrived"].sum() == row["arrived"]


def test_static_size_runs_from_first_arrival_to_last_completion(trace, profile):
    found = evaluate(trace, ["static(replicas=3)"], baselines=["none"], profile=profile, train_fraction=0.0)
    row = found.scores.row(0, named=True)
    table = found.requests["static(replicas=3)"]
    last = (table["arrival_s"] + table["e2e_s"]).max() - PROFILE["overhead_s"]
    first = table["arrival_s"].min()
    pools = len(found.settings["pools"])
    assert row["gpu_hours_provisioned"] == pytest.approx(pools * 3 * 2 * (last - first) / 3600)
    assert row["arrived"] == trace.meta.rows_kept
    assert row["scale_actions"] == 0


def test_evaluate_equals_the_reference(trace, profile):
    """From the file to the request rows: four pools, three replicas, dealt in turn."""
    found = evaluate(
        trace, ["static(replicas=3)"], baselines=["none"], profile=profile, router="round-robin", train_fraction=0.0
    )
    (table,) = found.requests.values()
    lat = PROFILE["latency"]
    fields = ("base", "token_knots", "token_slopes", "attn_pair", "prefix_kv", "decode_seq", "decode_kv")
    shape = Shape(
        Latency(*(lat[f] for f in fields)), PROFILE["kv_tokens"], 16, PROFILE["max_batch_tokens"], PROFILE["max_seqs"]
    )
    names = [pool["pool"] for pool in found.settings["pools"]]
    first = table.head(1500)
    requests = [
        Request(k, row["arrival_s"], names.index(row["pool"]), row["input_tokens"], row["output_tokens"])
        for k, row in enumerate(first.iter_rows(named=True))
    ]
    Fleet([Replica(p, i, shape) for p in range(len(names)) for i in range(3)], "round-robin").run(requests)
    horizon = requests[-1].arrival  # later arrivals, which the reference was not given, change what ends after this
    compared = 0
    for row, request in zip(first.iter_rows(named=True), requests, strict=True):
        assert row["replica"] == request.replica
        if request.done < horizon:
            compared += 1
            assert row["ttft_s"] == pytest.approx(request.first - request.arrival + 0.02, rel=1e-6, abs=1e-9)
            assert row["e2e_s"] == pytest.approx(request.done - request.arrival + 0.02, rel=1e-6, abs=1e-9)
            assert row["preemptions"] == request.preemptions
    assert compared > 1400


def test_same_seed_same_numbers_whatever_the_workers(trace, profile, result):
    again = evaluate(trace, PRESERVES, profile=profile, window_s=300.0, jobs=2, check=True)
    assert json.dumps(again.metrics(), sort_keys=True) == json.dumps(result.metrics(), sort_keys=True)


@pytest.fixture(scope="module", params=[0.5, 0.75])
def other_future(request, home, profile):
    """From the cut on, and from the middle of the evaluated part on, everything is otherwise."""
    after = request.param * HOURS * 3600
    trace = stored(home, scrambled(rows(), after), f"scrambled-{request.param}")
    return after, evaluate(trace, PRESERVES, profile=profile, window_s=300.0)


@pytest.mark.parametrize("policy", [*PRESERVES, "static-peak", "static-mean", "last-value", "hpa"])
def test_never_looks_ahead(result, other_future, policy):
    until, other = other_future
    assert other.settings["rates"] == result.settings["rates"]
    if until == result.settings["cut_s"]:  # what was learned before the cut sizes the first window
        until += 1e-6
        mine, theirs = (
            found.timeline.filter(pl.col("policy") == policy)
            .group_by("service", "region")
            .agg(pl.col("active").first())
            for found in (result, other)
        )
        if policy not in REACTS:
            assert mine.sort("service", "region").equals(theirs.sort("service", "region"))
        return
    for mine, theirs in zip(decisions(result, policy, until), decisions(other, policy, until), strict=True):
        assert mine.height > 20
        assert mine.equals(theirs)


def test_the_look_ahead_test_can_fail(result, other_future):
    """The oracle plans on true demand: it must be caught."""
    until, other = other_future
    mine, theirs = decisions(result, "oracle", until + 300), decisions(other, "oracle", until + 300)
    assert not mine[0].equals(theirs[0])


def test_a_short_training_part_sizes_fleets_alone(home, profile):
    """No whole training window: what comes after the cut still sizes nothing."""
    table = rows(6, hours=1.0)
    cut = table["arrival_s"][-1] * 0.5
    later = table.filter(pl.col("arrival_s") >= cut)
    crowded = (
        pl.concat([table, *[later] * 8])
        .sort("arrival_s")
        .with_columns(request_id=pl.int_range(pl.len()).cast(pl.String))
    )
    found = [
        evaluate(stored(home, t, f"short-{k}"), ["static-peak"], baselines=["none"], profile=profile, window_s=2500.0)
        for k, t in enumerate([table, crowded])
    ]
    sizes = [f.timeline.sort("service", "region", "start_s")["provisioned"].to_list() for f in found]
    assert sizes[0] == sizes[1]


def test_load_keeps_training_and_evaluation_apart(home, profile):
    table = rows(7)
    cut = 0.5 * HOURS * 3600
    trace = [stored(home, t, f"load-{k}") for k, t in enumerate([table, scrambled(table, cut)])]
    found = [evaluate(t, ["static-mean"], baselines=["none"], profile=profile, load=2.0) for t in trace]
    assert found[0].settings["rates"] == found[1].settings["rates"]
    arrived = found[0].scores["arrived"].item()
    assert arrived == 2 * table.filter(pl.col("arrival_s") >= cut).height


def test_gates_decide_the_exit_code(trace, profile):
    service = trace.table("service")["service"][0]
    gates = ["attain>=0.99", f"ttft_p97<1h @ service={service}"]
    found = evaluate(trace, ["static-mean"], baselines=["none"], profile=profile, gates=gates, slo=["ttft_p50<1ms"])
    assert found.exit_code == Exit.GATE
    passed = {"ttft_p50<1ms": False, gates[0]: False, gates[1]: True}
    assert dict(found.gates.select("gate", "passed").iter_rows()) == passed
    with pytest.raises(UserError, match="no service 'elsewhere' is evaluated"):
        evaluate(trace, ["static-mean"], profile=profile, gates=["attain>=0.9 @ service=elsewhere"])
    # a missed SLO alone is a finding, not a failure
    missed = evaluate(trace, ["static-mean"], baselines=["none"], profile=profile, slo=["ttft_p50<1ms"])
    assert missed.exit_code == Exit.OK


@pytest.mark.parametrize("factor", [0.5, 2.0, 2.5])
def test_load_scales_arrivals(trace, profile, factor):
    found = evaluate(
        trace, ["static(replicas=2)"], baselines=["none"], profile=profile, train_fraction=0.0, load=factor
    )
    assert found.scores["arrived"].item() == pytest.approx(trace.meta.rows_kept * factor, rel=0.05)
    table = next(iter(found.requests.values()))
    assert table["arrival_s"].is_sorted()
    assert table["request_id"].is_unique().all()


def test_rows_without_tokens_are_counted_not_replayed(home, profile):
    table = rows(3).with_columns(
        output_tokens=pl.when(pl.int_range(pl.len()) % 50 == 7).then(0).otherwise("output_tokens")
    )
    trace = stored(home, table, "zeros")
    found = evaluate(trace, ["static(replicas=2)"], baselines=["none"], profile=profile)
    assert found.scores["not_replayed"].item() == (table["output_tokens"] == 0).sum()
    assert any("not replayed" in note for note in found.notes)


def test_too_large_requests_are_rejected_and_missed(home, profile):
    table = rows(4).with_columns(
        input_tokens=pl.when(pl.int_range(pl.len()) % 100 == 50).then(30_000).otherwise("input_tokens")
    )
    found = evaluate(stored(home, table, "large"), ["static(replicas=4)"], baselines=["none"], profile=profile)
    rejected = found.requests["static(replicas=4)"].filter(pl.col("status") == "rejected")
    assert rejected.height > 20
    assert (rejected["input_tokens"] == 30_000).all()
    assert not rejected["attained"].any()
    assert rejected["ttft_s"].null_count() == rejected.height


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        ({"policies": []}, Exit.USAGE, "nothing to evaluate"),
        ({"policies": ["hpa"], "profile": "llama-8b"}, Exit.USAGE, "no profile named"),
        ({"policies": ["hpa"], "train_fraction": 1.0}, Exit.USAGE, "--train-fraction"),
        ({"policies": ["hpa"], "attain": 0.0}, Exit.USAGE, "--attain"),
        ({"policies": ["hpa"], "load": 0.0}, Exit.USAGE, "--load"),
        ({"policies": ["hpa"], "router": "fastest"}, Exit.USAGE, "no router named"),
    ],
)
def test_wrong_questions_are_refused(trace, asked, code, says):
    with pytest.raises(UserError) as error:
        evaluate(trace, **{"baselines": ["none"], **asked})
    assert error.value.code == code
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("services: {speech: {}}", "no service 'speech'"),
        ("pools: [{service: chat, region: mars}]", "no pool chat/mars"),
        ("pools: [{service: chat, region: eu, min: 3, max: 2}]", "max 2 is below min 3"),
        ("pools: [{service: chat, region: eu, replicas: -1}]", "replicas"),
        ("pools: [{service: chat, region: eu, size: 2}]", "size"),
        ("services: {chat: {usd_per_gpu_hour: .nan}}", "usd_per_gpu_hour"),
        ("{", "not a fleet file"),
    ],
)
def test_impossible_fleets_are_refused(trace, tmp_path, text, says):
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        evaluate(trace, ["hpa"], fleet=path)
    assert error.value.code == Exit.CONFIG
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kv_tokens": 0}, "kv_tokens"),
        ({"latency": {"base": 0.0}}, "last 0 s"),
        ({"latency": {"base": float("nan")}}, "base"),
        ({"latency": {"base": 0.1, "token_knots": [0, 5], "token_slopes": [1]}}, "token_knots"),
        ({"latency": {"base": 0.1, "token_knots": [0, 5, 5], "token_slopes": [1, 1, 1]}}, "rise"),
        ({"startup_s": -1}, "startup_s"),
        ({"max_seqs": None}, "max_seqs"),
    ],
)
def test_impossible_profiles_are_refused(trace, tmp_path, change, says):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({**PROFILE, **change}))
    with pytest.raises(UserError) as error:
        evaluate(trace, ["hpa"], profile=str(path))
    assert error.value.code == Exit.CONFIG
    assert says in str(error.value)


def test_one_request_is_enough(home, profile):
    trace = stored(home, rows(5).head(1), "one")
    found = evaluate(trace, ["preserve"], profile=profile)
    assert set(found.scores["arrived"]) == {1}
    assert set(found.scores["completed"]) == {1}
    (e2e,) = found.requests["static-peak"]["e2e_s"]
    hours = found.scores.filter(pl.col("policy") == "static-peak")["gpu_hours_provisioned"].item()
    assert hours == pytest.approx(2 * (e2e - PROFILE["overhead_s"]) / 3600)  # first arrival to last completion
    assert found.exit_code == Exit.OK
