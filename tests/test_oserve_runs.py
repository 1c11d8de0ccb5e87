"""OServe replayed: a shift of the mix that it answers and one shape cannot, its price, no look-ahead."""

import json

import numpy as np
import polars as pl
import pytest
from three_hours import stored

from lmaas.policies import evaluate
from lmaas.policies.brought import suited
from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy

LATENCY = {"base": 0.02, "token_knots": [0, 256], "token_slopes": [4e-5, 8e-5], "decode_seq": 1e-4, "decode_kv": 2e-7}
SMALL = {
    "name": "test/small", "model": "test", "gpu": "G", "dtype": "bf16", "tp": 1, "gpus_per_replica": 1,
    "kv_tokens": 12_000, "max_batch_tokens": 2048, "max_seqs": 32, "latency": LATENCY, "weights_gb": 40.0,
    "kv_bytes_per_token": 100_000, "startup_s": {"cold": 90.0, "warm": 60.0, "swap": 80.0},
}  # fmt: skip
FASTER = {**LATENCY, "base": 0.018, "token_slopes": [3.4e-5, 6.8e-5], "decode_kv": 1e-7}  # by far not twice as fast
LARGE = SMALL | {"name": "test/large", "tp": 2, "gpus_per_replica": 2, "kv_tokens": 60_000, "latency": FASTER}
FLEET = """
pools: [{service: chat, region: eu, mixed: [{profile: PATH, replicas: 0}]}]
regions: {eu: {gpus: {G: 4}}}
"""
SHIFT_S = 1500.0  # long ones come
END_S = 2400.0


def rows(seed=0, shift_s=SHIFT_S, scrambled_s=None):
    """Short requests, few long ones until shift_s and many from then on; from scrambled_s on lengths are others."""
    rng = np.random.default_rng(seed)
    parts = []
    for rate, begin, end, size, answer in (
        (45.0, 0.0, shift_s, 300, 60), (0.05, 0.0, shift_s, 6000, 500),
        (8.0, shift_s, END_S, 300, 60), (0.5, shift_s, END_S, 6000, 500),
    ):  # fmt: skip
        n = rng.poisson(rate * (end - begin))
        parts.append((rng.uniform(begin, end, n), np.full(n, size), np.full(n, answer)))
    t, inputs, outputs = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(t)
    t, inputs, outputs = t[order], inputs[order], outputs[order]
    t[0], t[-1] = 0.0, END_S
    inputs = np.clip(inputs * rng.lognormal(0, 0.2, len(t)), 1, 9000).astype(np.int64)
    outputs = np.clip(outputs * rng.lognormal(0, 0.2, len(t)), 1, 1500).astype(np.int64)
    if scrambled_s is not None:
        late = t > scrambled_s
        late[-1] = False
        inputs[late], outputs[late] = rng.integers(1, 9000, late.sum()), rng.integers(1, 1500, late.sum())
    n = len(t)
    return pl.DataFrame(
        {"request_id": [f"r{k}" for k in range(n)], "arrival_s": t, "service": ["chat"] * n, "region": ["eu"] * n,
         "input_tokens": inputs, "output_tokens": outputs}
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "small.json").write_text(json.dumps(SMALL))
    (home / "large.json").write_text(json.dumps(LARGE))
    (home / "fleet.yaml").write_text(FLEET.replace("PATH", str(home / "large.json")))
    return home


CHEAP = "forecaster=last-value, lengths=input-bin"
OSERVE = f"oserve({CHEAP})"
ABLATED = {
    "alike": f"oserve({CHEAP}, deployment=homogeneous, switching=none)",
    "by replica": f"oserve({CHEAP}, router=weighted)",
    "fixed": f"oserve({CHEAP}, switching=none)",
    "reload": f"oserve({CHEAP}, switching=reload)",
}
SLO = ["ttft<2s, tpot<100ms"]


def run(home, table, policies, name, **more):
    return evaluate(
        stored(home, table, name), policies, baselines=["none"], profile=str(home / "small.json"),
        fleet=home / "fleet.yaml", slo=SLO, window_s=60.0, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(home):
    return run(home, rows(), [OSERVE, *ABLATED.values(), "static(replicas=4)"], "plain", check=True)


def score(result, policy, name):
    return result.scores.filter(pl.col("policy") == policy)[name].item()


def test_it_answers_a_shift_that_one_shape_cannot(result):
    """Small ones hold few long requests at once; nobody has more GPUs."""
    attained = {policy: score(result, policy, "slo_attainment") for policy in result.scores["policy"]}
    assert result.failures == {}
    assert attained[OSERVE] > attained["static(replicas=4)"] + 0.1
    assert attained[OSERVE] > attained[ABLATED["fixed"]] + 0.05
    assert attained[OSERVE] > attained[ABLATED["alike"]] + 0.1
    assert attained[OSERVE] > attained[ABLATED["reload"]] + 0.05
    assert attained[OSERVE] > attained[ABLATED["by replica"]] + 0.03


def test_a_switch_is_made_of_replicas_that_come_and_go_and_is_paid(result):
    """Four GPUs all along: those that drain, those that start, and those whose neighbour has yet to drain."""
    hours = (END_S - result.settings["cut_s"]) / 3600
    paid = score(result, OSERVE, "gpu_hours_provisioned") - score(result, OSERVE, "gpu_hours_tail")
    assert paid == pytest.approx(4 * hours)
    assert score(result, OSERVE, "scale_actions") > 0
    assert score(result, ABLATED["fixed"], "scale_actions") == 0
    assert score(result, ABLATED["reload"], "wasted_startup_hours") > 10 * score(result, OSERVE, "wasted_startup_hours")
    seen = result.requests[OSERVE].filter(pl.col("status") == "ok")["replica"]
    assert seen.max() > 3


def test_requests_are_conserved(result):
    for policy, table in result.requests.items():
        assert table.height == score(result, policy, "arrived"), policy
        assert table["status"].is_in(["ok", "rejected"]).all(), policy


def test_it_says_what_it_divides(result):
    (note,) = [note for note in result.notes if "4 GPUs" in note and note.startswith(OSERVE)]
    assert "test/large" in note
    assert "KV moves between replicas at 200 GB/s" in " ".join(result.notes)


@pytest.mark.parametrize("after_s", [1200.0, 1800.0])
def test_it_never_looks_ahead(home, result, after_s):
    """What was done by then, and where requests went, is the same whatever comes later."""
    other = run(home, rows(scrambled_s=after_s), [OSERVE], f"scrambled-{after_s}")
    cut = other.settings["cut_s"]
    mine, theirs = (
        found.timeline.filter((pl.col("policy") == OSERVE) & (pl.col("start_s") + pl.col("length_s") <= after_s))
        .select("start_s", "active", "provisioned")
        for found in (result, other)
    )  # fmt: skip
    assert mine.equals(theirs)
    assert after_s <= cut or mine.height > 5
    before, after = (
        found.requests[OSERVE].filter(pl.col("arrival_s") <= after_s).select("request_id", "replica")
        for found in (result, other)
    )  # fmt: skip
    assert before.equals(after)


def test_with_true_lengths_it_is_foresight_and_told_apart(home):
    assert parse_policy("oserve(lengths=true)").policy.foresight
    assert parse_policy("oserve(forecaster=truth, demand_error=0.04)").policy.foresight
    assert not parse_policy("oserve").policy.foresight


def test_types_and_capacities_are_of_the_training_part(home):
    """Two tight clouds: two types have requests of one, and only large ones serve the long."""
    found = []
    for table, name in ((rows(), "plain"), (rows(scrambled_s=1200.0), "scrambled-1200.0")):
        ready = prepare(
            stored(home, table, name), slos=(), attain=0.99, profile=str(home / "small.json"),
            fleet=home / "fleet.yaml", train_fraction=0.5, warmup_s=300.0, window_s=60.0, load=1.0, seed=0,
        )  # fmt: skip
        fitted, sets = suited(ready, parse_policy(OSERVE).policy, Inputs(ready))
        assert sets == {"kv_bandwidth_gb_s": 200.0}
        (division,) = fitted.history.own
        assert fitted.requests["kind"].max() < len(fitted.kinds) == 4
        found.append((division.capacity, division.demand, division.begins))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]
    assert found[0][1].sum() == pytest.approx(45.05, rel=0.05)
