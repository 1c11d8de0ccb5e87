"""Replicas of several profiles in one pool: each costs its own price and adds its own overhead, and reports say so."""

import json

import numpy as np
import polars as pl
import pytest
from evaluation_data import described, evaluation, texts

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies.evaluation import evaluate
from lmaas.replay.engine import NEVER, Controller, Replay, Requests
from lmaas.replay.fleet import Fault, Fleet, Pool
from lmaas.replay.profile import Latency, Profile, Startup
from lmaas.replay.protocol import Actions
from lmaas.replay.scores import request_rows
from lmaas.replay.spending import MONTH_H, cost_scores

SLOW_START = Startup(cold=5.0, warm=5.0, swap=5.0)


def profile(name, overhead_s, usd, gpus):
    """A second an iteration, whatever is in it."""
    return Profile(
        name=name, kv_tokens=1600, max_batch_tokens=1000, max_seqs=8, latency=Latency(base=1.0), startup_s=SLOW_START,
        overhead_s=overhead_s, usd_per_gpu_hour=usd, gpus_per_replica=gpus,
    )  # fmt: skip


A, B = profile("a", 0.25, 2.0, 1), profile("b", 0.5, 5.0, 2)
UNPRICED = B.model_copy(update={"usd_per_gpu_hour": None})


def replayed(fleet, initial, arrival_s, output=1, controller=NEVER, more=()):
    """(rows, outcome) of prompts of 10 tokens in the fleet's first pool, dealt in turn."""
    n = len(arrival_s)
    zeros = np.zeros(n, np.int64)
    requests = Requests(np.array(arrival_s), zeros, zeros + 10, zeros + output, np.full(n, 1.0), zeros)
    outcome = Replay(requests, fleet, initial, "round-robin", controller, profiles=more).run()
    free = dict.fromkeys(("limit_ttft_s", "limit_tpot_s", "limit_e2e_s"), np.inf)
    table = pl.DataFrame({"arrival_s": arrival_s, "output_tokens": zeros + output, "pool": zeros}).with_columns(
        **{name: pl.lit(limit) for name, limit in free.items()}
    )
    return request_rows(table, outcome, fleet), outcome


def once(at_s, actions):
    return Controller(lambda t: at_s if t < at_s else np.inf, lambda t, seen: actions)


def test_donated_hours_are_a_score_of_their_own_and_in_no_other():
    fleet = Fleet((Pool("s", "r", A),))
    rows, outcome = replayed(fleet, [2], [0.0, 100.0], controller=once(40.0, Actions(donate={0: 1})))
    assert rows["status"].to_list() == ["ok"] * 2
    scores = cost_scores(outcome, 0.0, 100.0)
    assert scores["gpu_hours_donated"] == pytest.approx((101 - 40) / 3600)
    assert scores["gpu_hours_provisioned"] == pytest.approx((101 + 40) / 3600)
    assert scores["cost_usd"] == pytest.approx((101 + 40) / 3600 * 2.0)
    assert cost_scores(outcome, 50.0, 80.0)["gpu_hours_donated"] == pytest.approx((101 - 50) / 3600)


def test_a_mixed_fleet_has_two_prices_and_two_overheads():
    fleet = Fleet((Pool("s", "r", A, mixed=((B, 1),)),))
    rows, outcome = replayed(fleet, [1], [0.0, 50.0, 100.0])
    assert rows["replica"].to_list() == [0, 1, 0]
    assert rows["ttft_s"].to_list() == rows["e2e_s"].to_list() == [1.25, 1.5, 1.25]
    scores = cost_scores(outcome, 0.0, 100.0)
    hourly = 1 * 2.0 + 2 * 5.0
    assert scores["gpu_hours_provisioned"] == pytest.approx(3 * 101 / 3600)
    assert scores["cost_usd"] == pytest.approx(hourly * 101 / 3600)  # the tail's second with it
    assert scores["usd_per_month"] == pytest.approx(hourly * MONTH_H)


def test_a_reshaped_replica_costs_its_new_price_from_then_on():
    """Idle at 10 s, so off at once and starting until 15 s."""
    fleet = Fleet((Pool("s", "r", A),))
    reshape = once(10.0, Actions(reshape=[(0, 0, "b")]))
    rows, outcome = replayed(fleet, [1], [0.0, 20.0], controller=reshape, more=[B])
    assert rows["replica"].to_list() == [0, 0]
    assert rows["ttft_s"].to_list() == [1.25, 1.5]
    scores = cost_scores(outcome, 0.0, 20.0)
    assert scores["cost_usd"] == pytest.approx((10 * 1 * 2.0 + 11 * 2 * 5.0) / 3600)
    assert scores["wasted_startup_hours"] == pytest.approx(5 * 2 / 3600)
    assert cost_scores(outcome, 12.0, 20.0)["cost_usd"] == pytest.approx(9 * 2 * 5.0 / 3600)


def test_with_lanes_the_prefill_replicas_overhead_counts_once():
    """Two prefill replicas, dealt in turn; whatever the decode replica's overhead is, no request has it."""
    decode = profile("decode", 100.0, 3.0, 1)
    fleet = Fleet((Pool("s", "r", A, "prefill", mixed=((B, 1),)), Pool("s", "r", decode, "decode")))
    rows, outcome = replayed(fleet, [1, 1], [0.0, 50.0, 100.0], output=3)
    assert rows["prefill_replica"].to_list() == [0, 1, 0]
    assert rows["pool"].to_list() == ["s/r/decode"] * 3
    assert rows["ttft_s"].to_list() == [1.25, 1.5, 1.25]
    assert rows["e2e_s"].to_list() == [3.25, 3.5, 3.25]
    assert rows["tpot_s"].to_list() == [1.0] * 3
    hourly = 2.0 + 2 * 5.0 + 3.0
    assert cost_scores(outcome, 0.0, 100.0)["cost_usd"] == pytest.approx(hourly * 103 / 3600)


def test_without_the_price_of_a_replica_that_is_paid_for_there_is_no_cost():
    mixed = Fleet((Pool("s", "r", A, mixed=((UNPRICED, 1),)),))
    _, outcome = replayed(mixed, [1], [0.0, 50.0])
    scores = cost_scores(outcome, 0.0, 50.0)
    assert (scores["cost_usd"], scores["usd_per_month"]) == (None, None)
    assert scores["gpu_hours_provisioned"] == pytest.approx(3 * 51 / 3600)


def test_a_profile_that_nobody_pays_for_needs_no_price():
    """None of its replicas started, or the only one was lost before the evaluated part."""
    fleet = Fleet((Pool("s", "r", A),))
    _, outcome = replayed(fleet, [1], [0.0, 50.0], more=[UNPRICED])
    assert cost_scores(outcome, 0.0, 50.0)["cost_usd"] == pytest.approx(2.0 * 51 / 3600)
    lost = Fleet((Pool("s", "r", A, mixed=((UNPRICED, 1),)),), faults=(Fault(10.0, pool=0, replica=1),))
    _, outcome = replayed(lost, [1], [0.0, 20.0, 50.0])
    assert cost_scores(outcome, 15.0, 50.0)["cost_usd"] == pytest.approx(2.0 * 36 / 3600)
    assert cost_scores(outcome, 5.0, 50.0)["cost_usd"] is None


def test_a_fleet_that_never_has_a_replica_is_scored():
    rows, outcome = replayed(Fleet((Pool("s", "r", A, minimum=0),)), [0], [0.0], controller=once(1.0, Actions()))
    assert rows.select("status", "replica", "ttft_s").row(0) == ("incomplete", None, None)
    assert cost_scores(outcome, 0.0, 1.0)["cost_usd"] == 0


# --- what an evaluation tells of it


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """(trace, profile, fleet file): a replica of one shipped profile beside the user's own, at two prices."""
    home = tmp_path_factory.mktemp("prices")
    rng = np.random.default_rng(0)
    n = 2000
    rows = pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, 7200, n)),
            "service": ["chat"] * n,
            "input_tokens": rng.integers(100, 2000, n),
            "output_tokens": rng.integers(1, 100, n),
        }
    )
    rows.write_parquet(home / "trace.parquet")
    own = profile("test/own", 0.25, 2.0, 2).model_copy(update={"latency": Latency(base=0.02), "kv_tokens": 12_000})
    (home / "profile.json").write_text(json.dumps(own.model_dump()))
    (home / "fleet.yaml").write_text(
        "pools: [{service: chat, mixed: [{profile: llama-3.1-8b/h100/tp1, replicas: 1, usd_per_gpu_hour: 7.5}]}]"
    )
    trace = open_trace(str(home / "trace.parquet"), Workspace.open(home / "ws"), say=lambda text: None)
    return trace, str(home / "profile.json"), home / "fleet.yaml"


def test_an_evaluation_of_a_mixed_fleet_names_profiles_and_prices(asked):
    trace, own, fleet = asked
    found = evaluate(trace, ["static(replicas=1)"], baselines=["none"], profile=own, fleet=fleet)
    (score,) = found.scores.to_dicts()
    # one replica of 2 GPUs at $2 and one of 1 GPU at $7.5 for the same time
    assert score["cost_usd"] == pytest.approx(score["gpu_hours_provisioned"] * (2 * 2.0 + 7.5) / 3)
    (pool,) = json.loads(json.dumps(found.metrics()["settings"]["pools"]))
    (mixed,) = pool["mixed"]
    assert (mixed["profile"], mixed["replicas"], mixed["usd_per_gpu_hour"]) == ("llama-3.1-8b/h100/tp1", 1, 7.5)
    assert (pool["profile"], pool["usd_per_gpu_hour"]) == ("test/own", 2.0)
    said = texts(found)
    expected = "chat on test/own at $2/GPU-h, 1 of chat/default on llama-3.1-8b/h100/tp1 at $7.5/GPU-h"
    assert f"In effect: {expected};" in said
    assert "chat/default/shared: 1 mixed in" in said


def test_windows_say_that_they_ignore_mixed_replicas(asked):
    trace, own, fleet = asked
    more = {"baselines": ["none"], "profile": own, "fidelity": "window"}
    found = evaluate(trace, ["static(replicas=1)"], fleet=fleet, **more)
    assert "mixed replicas" in found.settings["ignored"]
    assert any(note.startswith("window fidelity ignores mixed replicas") for note in found.notes)
    plain = evaluate(trace, ["static(replicas=1)"], **more)
    assert "mixed replicas" not in plain.settings["ignored"]


def test_a_report_shows_a_mixed_profile_without_a_price():
    other = {"replicas": 3, "profile": "test/other", "usd_per_gpu_hour": None}
    found = evaluation()
    pools = [described("chat/eu/shared", other), described("chat/us/shared")]
    said = texts(evaluation(settings={**found.settings, "pools": pools}))
    assert "chat on llama-3.1-8b/h100/tp1 at $2.69/GPU-h, 3 of chat/eu on test/other;" in said
    assert "chat/eu/shared: 3 mixed in test/other" in said
