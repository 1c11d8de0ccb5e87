"""Prefill and decode lanes from the fleet file to the scores: sized apart, replayed together, accounted for once."""

import json

import numpy as np
import polars as pl
import pytest
from reference import Fleet as SlowFleet
from reference import Latency, Replica, Request, Rules, Shape

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies import evaluate
from lmaas.policies.planning import mu_table, placed, pool_counts, size
from lmaas.replay import columns as c
from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.lanerates import lane_rates
from lmaas.replay.profile import Profile
from lmaas.replay.rates import Mix
from lmaas.reports.write import write_requests

PROFILE = {
    "name": "test/lanes", "kv_tokens": 12_000, "max_batch_tokens": 2048, "max_seqs": 24, "startup_s": 30.0,
    "usd_per_gpu_hour": 2.0, "overhead_s": 0.02, "kv_bytes_per_token": 131_072,
    "latency": {
        "base": 0.01, "token_knots": [0, 256], "token_slopes": [1e-4, 2e-4], "attn_pair": 4e-9, "prefix_kv": 1e-9,
        "decode_seq": 4e-4, "decode_kv": 1e-6,
    },
}  # fmt: skip
FLEET = """
kv_bandwidth_gb_s: 2
pools:
  - {service: chat, lane: prefill}
  - {service: chat, lane: decode}
"""
SLO = ("ttft<2s,tpot<50ms",)
BYTES_S = 2e9


def lengths(n, rng):
    return np.clip(rng.lognormal(5.5, 0.8, n), 1, 4000).astype(np.int64), np.clip(rng.lognormal(3.5, 1, n), 1, 800)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("lanes")
    rng = np.random.default_rng(1)
    n = 6000
    prompts, outputs = lengths(n, rng)
    table = pl.DataFrame(
        {
            "request_id": [f"r{k}" for k in range(n)],
            "arrival_s": np.cumsum(rng.exponential(0.1, n)),
            "service": ["chat"] * n,
            "input_tokens": prompts,
            "output_tokens": outputs.astype(np.int64),
        }
    )
    table.write_parquet(home / "t.parquet")
    (home / "p.json").write_text(json.dumps(PROFILE))
    trace = open_trace(str(home / "t.parquet"), Workspace.open(home / "ws"), say=lambda text: None)

    def of(*policies, fleet=FLEET, **more):
        path = home / "fleet.yaml"
        path.write_text(fleet)
        given = {"baselines": ["none"], "slo": SLO, "profile": str(home / "p.json"), "warmup_s": 0.0} | more
        return evaluate(trace, list(policies), fleet=path, **given)

    return of


def test_the_replay_is_the_references(run):
    result = run("static(replicas=2,decode=3,router='round-robin')", train_fraction=0.95)
    rows = next(iter(result.requests.values()))
    lat = PROFILE["latency"]
    shape = Shape(Latency(*lat.values()), 12_000, 16, 2048, 24, kv_bytes_per_token=131_072.0, bandwidth=BYTES_S)
    replicas = [Replica(0, 0, shape), Replica(0, 1, shape), *(Replica(1, k, shape) for k in range(3))]
    fleet = SlowFleet(replicas, "round-robin", rules=Rules(shapes=[shape, shape], lanes=["prefill", "decode"]))
    columns = rows.select("arrival_s", "input_tokens", "output_tokens").iter_rows()
    slow = [Request(k, at, 0, prompt, out) for k, (at, prompt, out) in enumerate(columns)]
    fleet.run(slow)
    assert rows["ttft_s"].to_list() == pytest.approx([r.first - r.arrival + 0.02 for r in slow], abs=1e-9)
    assert rows["e2e_s"].to_list() == pytest.approx([r.done - r.arrival + 0.02 for r in slow], abs=1e-9)
    assert rows["transfer_s"].fill_null(0).to_list() == pytest.approx([r.transfer for r in slow])


def test_every_request_counts_once_in_each_lane(run, tmp_path):
    result = run("static(replicas=3)")
    (rows,) = result.requests.values()
    more = rows["output_tokens"] > 1
    assert (rows["transfer_s"].is_not_null() == more).all()
    assert (rows["prefill_pool"].drop_nulls() == "chat/default/prefill").all()
    assert rows.filter(more)["pool"].unique().to_list() == ["chat/default/decode"]
    assert rows.filter(~more)["pool"].unique().to_list() == ["chat/default/prefill"]
    moved = rows.filter(more)
    wanted = (moved["input_tokens"].cast(pl.Float64) * (131_072 / BYTES_S)).to_list()
    assert moved["transfer_s"].to_list() == pytest.approx(wanted, abs=1e-9)
    assert (moved["e2e_s"] - moved["ttft_s"] >= moved["transfer_s"]).all()
    arrived = dict(result.timeline.group_by("lane").agg(pl.col("arrived").sum()).iter_rows())
    assert arrived == {"prefill": rows.height, "decode": int(more.sum())}
    write_requests(result.requests, tmp_path / "r.csv")
    assert pl.read_csv(tmp_path / "r.csv").columns[-3:] == ["transfer_s", "prefill_pool", "prefill_replica"]


def test_policies_size_each_lane(run):
    """The steady load needs more of one lane than of the other, and what is asked for attains."""
    result = run("preserve", "hpa", "static-peak")
    rates = {rate["lane"]: rate for rate in result.settings["rates"]}
    assert rates.keys() == {"prefill", "decode"}
    provisioned = result.timeline.filter(pl.col("policy") == "static-peak").group_by("lane").agg("provisioned")
    counts = {lane: set(n) for lane, n in provisioned.iter_rows()}
    assert counts["prefill"] != counts["decode"]
    attained = dict(result.scores.select("policy", "slo_attainment").iter_rows())
    assert attained["static-peak"] > 0.97
    assert min(attained.values()) > 0.9


REFUSED = [
    ("preserve", {"fidelity": "window"}, "--fidelity window does not estimate prefill and decode lanes"),
    ("static(replicas=2,prefill=1)", {"fleet": "{}"}, "static: prefill=1 and no pool has that lane"),
]


@pytest.mark.parametrize(("policy", "more", "says"), REFUSED)
def test_what_lanes_do_not_support_is_refused(run, policy, more, says):
    with pytest.raises(UserError) as error:
        run(policy, **more)
    assert error.value.code == Exit.CONFIG
    assert says in str(error.value)


# --- sizing ---

SMALL = Profile.model_validate(PROFILE)
WORLD = Fleet(
    (
        Pool("chat", "asia", SMALL),
        Pool("chat", "eu", SMALL, "prefill"),
        Pool("chat", "us", SMALL, "prefill"),
        Pool("chat", "us", SMALL, "decode", maximum=7),
    ),
    ("asia", "eu", "us"),
)
RATES = pl.DataFrame(
    {
        "service": ["chat"] * 3, "lane": ["shared", "prefill", "decode"], "requests_s": [1.0, 2.0, 3.0],
        "prompt_tokens_s": [100.0, 200.0, 1.0], "output_tokens_s": [10.0, 1.0, 20.0],
        "total_tokens_s": [110.0, 1.0, 150.0], "mean_running": [1.0, 1.0, 1.0],
    }
)  # fmt: skip


def demand(**by_origin):
    """Per origin: prompt and output tokens/s of a window of 10 s."""
    rows = []
    for origin, (prompt, output) in by_origin.items():
        values = {"prompt_tokens": prompt, "output_tokens": output, "total_tokens": prompt + output}
        rows += [(0.0, 10.0, "chat", origin, metric, 10.0 * value) for metric, value in values.items()]
    return pl.DataFrame(rows, schema=["start_s", "length_s", "service", "origin", "metric", "value"], orient="row")


def test_a_decode_lane_takes_all_that_is_handed_over_to_it():
    """eu has no decode pool, so us decodes for both; prompts of 300 and 400 tokens/s at 200 a replica are 2 each."""
    plan = size(placed(demand(asia=(50, 30), eu=(300, 20), us=(400, 60)), WORLD), mu_table(RATES))
    wanted = {(region, lane): n for _, _, region, lane, n in plan.iter_rows()}
    # asia, shared: its output, 30 / 10; us/decode: total 780 / 150 = 5.2 is tighter than its output, 80 / 20
    assert wanted == {("asia", "shared"): 3, ("eu", "prefill"): 2, ("us", "prefill"): 2, ("us", "decode"): 6}
    assert pool_counts(plan, WORLD).tolist() == [3, 2, 2, 6]


def test_a_plan_for_a_pool_that_is_not_there_is_refused():
    plan = size(demand(us=(400, 60)).pipe(placed, WORLD), mu_table(RATES)).with_columns(lane=pl.lit("shared"))
    with pytest.raises(UserError, match="chat/us/shared"):
        pool_counts(plan, WORLD)


def test_lanes_at_their_rates_attain_together():
    """Eight decode replicas at 0.95 μ, fed by as many prefill replicas as their own μ asks for."""
    rng = np.random.default_rng(3)
    prompts, outputs = lengths(4000, rng)
    outputs = outputs.astype(np.int64)
    limits = [np.full(4000, limit) for limit in (2.0, 0.05, np.inf)]
    mix = Mix(prompts, outputs, *limits, np.zeros(4000, np.int64))
    prefill, decode = lane_rates(SMALL, SMALL, mix, 0.98, bandwidth_gb_s=2.0)
    rate = 0.95 * 8 * decode.requests_s
    arrival = np.cumsum(rng.exponential(1 / rate, 4000))

    def share(rate_share):
        zeros = np.zeros(4000, np.int64)
        pools = (Pool("s", "r", SMALL, "prefill"), Pool("s", "r", SMALL, "decode"))
        fleet = Fleet(pools, kv_bandwidth_gb_s=2.0)
        counts = [int(np.ceil(rate / prefill.requests_s / 0.95)), 8]
        out = Replay(
            Requests(arrival / rate_share, zeros, prompts, outputs, outputs * 1.0, zeros),
            fleet,
            counts,
            "least-requests",
        ).run()
        tpot = (out.done_s - out.first_s) / np.maximum(outputs - 1, 1)
        return ((out.status == c.OK) & (out.first_s - arrival / rate_share < 1.98) & (tpot <= 0.05)).mean()

    assert share(1.0) > 0.97
    assert share(1.5) < 0.9
