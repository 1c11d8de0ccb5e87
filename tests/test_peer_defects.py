"""Faults found in other simulators of LLM serving, each as a case that ours must not repeat.

Every docstring names the peer, the version and the fault; all were reproduced in 2026-11 by running it or read in its
source. Speed that falls with size (BLIS, Dynamo, FleetSim) is measured in benchmarks/agreement.py.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import ROOT

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.policies import evaluate
from lmaas.replay import columns as c
from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile, find_profile

SMALL = Profile(
    name="test/small",
    kv_tokens=4000,
    max_batch_tokens=2048,
    max_seqs=64,
    usd_per_gpu_hour=2.0,
    startup_s=20.0,
    latency=Latency(
        base=0.02, token_knots=(0, 256), token_slopes=(1e-4, 2e-4), attn_pair=1e-8, decode_seq=1e-4, decode_kv=1e-6
    ),
)


def play(arrival_s, inputs, outputs, replicas=1, router="round-robin", profile=SMALL):
    n = len(arrival_s)
    zeros = np.zeros(n, np.int64)
    lengths = [np.broadcast_to(np.asarray(x, np.int64), (n,)).copy() for x in (inputs, outputs)]
    requests = Requests(np.asarray(arrival_s, float), zeros, *lengths, lengths[1].astype(float), zeros)
    return Replay(requests, Fleet((Pool("s", "default", profile),)), [replicas], router).run()


def stored(folder: Path, content: pl.DataFrame | str, name: str):
    """A trace in a workspace of its own."""
    path = folder / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        content.write_parquet(path)
    return ingest(path, Workspace.open(folder / "home"), say=lambda text: None)


def rows(n=600, span_s=600.0, seed=0, longest=1500):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, span_s, n)),
            "input_tokens": rng.integers(1, longest, n),
            "output_tokens": rng.integers(2, 300, n),
        }
    )


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(SMALL.model_dump_json())
    return str(path)


# --- requests ---


@pytest.mark.parametrize("router", ["least-requests", "least-outstanding"])
def test_a_load_balancer_counts_running_requests(router):
    """Vidur 7d47513, LOR: `num_pending_requests = len(_request_queue)`, the waiting ones only. With nobody waiting all
    replicas tie and replica 0 gets everything: E2E p50 27.9 s where 12.8 s is right."""
    found = play([0.0, 1.0, 2.0, 3.0], 100, 800, replicas=2, router=router)
    assert (found.done_s > 3.0).all()  # all of them run at once
    assert (found.admitted_s < [0.5, 1.5, 2.5, 3.5]).all()  # and none waits
    assert sorted(found.record.tolist()) == [0, 0, 1, 1]
    assert found.record[0] != found.record[1]


@pytest.mark.parametrize("n", [1, 5])
def test_requests_at_time_zero_are_served(n):
    """splitwise-sim 8f99e7d: a request at t = 0 is dispatched before the instances exist ("No instances available")."""
    found = play(np.zeros(n), 100, 5, replicas=2)
    assert (found.status == c.OK).all()
    assert (found.admitted_s == 0).all()


def test_no_request_is_lost_under_kv_pressure():
    """splitwise-sim 8f99e7d: under KV pressure 9,095 of 19,366 requests never complete; the summary covers the rest.
    BLIS #1615: a replay completes fewer requests than its run."""
    rng = np.random.default_rng(1)
    n = 500
    found = play(np.sort(rng.uniform(0, 50, n)), rng.integers(1, 2000, n), rng.integers(1, 1500, n))
    assert found.preemptions.sum() > 100  # else there is no pressure
    assert (found.status == c.OK).all()
    assert np.isfinite(found.done_s).all()


def test_every_request_is_in_the_results(tmp_path, profile, monkeypatch, capsys):
    """splitwise-sim 8f99e7d: what was lost is in no table and the exit code is 0. Here requests that can never fit are
    in the request table, in the scores and in the attainment's denominator."""
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    table = rows(longest=4600)
    never = int(((table["input_tokens"] + table["output_tokens"] - 1 + 15) // 16 > 4000 // 16).sum())
    assert never > 10
    table.write_parquet(tmp_path / "trace.parquet")
    out = tmp_path / "requests.parquet"
    code = main(
        ["evaluate", str(tmp_path / "trace.parquet"), "--policy", "static(replicas=1)", "--baseline", "none",
         "--train-fraction", "0", "--profile", profile, "--requests-out", str(out), "--json"]
    )  # fmt: skip
    assert code == Exit.OK
    printed = json.loads(capsys.readouterr().out)
    statuses = dict(pl.read_parquet(out).group_by("status").len().iter_rows())
    assert statuses == {"ok": table.height - never, "rejected": never}
    (scores,) = printed["results"]
    assert (scores["arrived"], scores["completed"], scores["rejected"]) == (table.height, table.height - never, never)
    assert scores["slo_attainment"] <= 1 - never / table.height


def test_kv_capacity_of_grouped_query_models():
    """splitwise-sim 8f99e7d: KV size from hidden_size (as if every head had keys and values): 8 times too much for
    Llama-70B. Here 8 x 80 GB hold more than that would allow, and no more than they can."""
    memory, weights, layers = 8 * 85_899_345_920, 141e9, 80
    grouped, every_head = 2 * layers * 8 * 128 * 2, 2 * layers * 64 * 128 * 2
    kv_tokens = find_profile("llama-3.1-70b/a100/tp8").kv_tokens
    assert (memory - weights) / every_head < kv_tokens < (memory - weights) / grouped


def test_context_makes_decoding_slower():
    """splitwise-sim 8f99e7d: a step's time depends on its number of tokens only; context is free."""
    shape = find_profile("llama-3.1-8b/h100/tp1")
    found = play([0.0, 1000.0], [100, 100_000], 100, profile=shape)
    short, long = (found.done_s - found.first_s) / 99
    assert long - short == pytest.approx(shape.latency.decode_kv * 99_900)
    assert long > 1.5 * short


def test_a_replica_is_not_faster_than_its_profile():
    """vllm-sr-sim 0.1.0 (3d48f8c9): a request holds its slot for its time / n_slots though n_slots run at once, so
    one A100 served 3,940 requests/s where its own profile allows 31.5."""
    shape = find_profile("llama-3.1-8b/h100/tp1")
    n, prompt, output = 4000, 512, 256
    found = play(np.zeros(n), prompt, output, profile=shape)
    g = shape.latency.token_s(shape.max_batch_tokens)
    prefill_s = n * prompt / shape.max_batch_tokens * g[-1]  # no chunk does more tokens, none is cheaper a token
    decode_s = (
        n * (output - 1) / shape.max_seqs * (shape.latency.base + shape.max_seqs * shape.latency.decode_kv * prompt)
    )
    assert (np.diff(g) > 0).all()
    assert found.end_s > max(prefill_s, decode_s)
    assert found.end_s < 3 * (prefill_s + decode_s)


# --- traces ---


def test_no_prompt_is_shrunk(tmp_path):
    """Dynamo replay 1.4.2: a prompt of 6,000 tokens with one hash id is simulated as 512 tokens, exit 0, no warning; a
    negative length is "failed to parse line 2". Here a row that contradicts itself is set aside with its text and the
    reason, and all others keep their length."""
    whole = {"timestamp": 0, "input_length": 6000, "output_length": 10, "hash_ids": list(range(12))}
    one_id = whole | {"timestamp": 1000, "hash_ids": [7]}
    no_ids = whole | {"timestamp": 2000, "hash_ids": None}
    negative = whole | {"timestamp": 3000, "input_length": -5}
    trace = stored(tmp_path, "".join(json.dumps(r) + "\n" for r in (whole, one_id, no_ids, negative)), "mooncake.jsonl")
    assert trace.table("arrival_s", "input_tokens").rows() == [(0.0, 6000), (2.0, 6000)]
    aside = pl.read_parquet(trace.path.with_name("rejects.parquet")).sort("source_row").rows()
    assert [(row, reason) for row, reason, _ in aside] == [
        (1, "block_hashes not one per 512 input tokens"),
        (3, "input_tokens negative"),
    ]
    assert json.loads(aside[0][2]) == one_id


def test_a_long_prompt_is_prefilled_in_full(tmp_path, profile):
    """Dynamo replay 1.4.2, as above: 600 + 100,000 tokens replayed as 1,112."""
    table = pl.DataFrame({"arrival_s": [0.0, 60.0], "input_tokens": [1, 3900], "output_tokens": [2, 2]})
    trace = stored(tmp_path, table, "long.parquet")
    found = evaluate(trace, ["static(replicas=1)"], baselines=["none"], profile=profile, train_fraction=0.0)
    (requests,) = found.requests.values()
    expected, _ = SMALL.alone_s(np.array([1, 3900]), np.array([2, 2]))
    assert requests["ttft_s"].to_list() == pytest.approx(expected.tolist())
    assert requests["input_tokens"].to_list() == [1, 3900]


def test_genuine_azure_rows_are_read(tmp_path):
    """vllm-sr-sim 0.1.0, `azure_csv`: 0 rows of the genuine file (float() of a date, the exception swallowed); with
    `splitwise` the *row index* becomes the time when the column is not called `timestamp`."""
    trace = stored(tmp_path, (ROOT / "tests/fixtures/azure.csv").read_text(), "azure.csv")
    assert trace.meta.rows_read == trace.meta.rows_kept == 3
    assert trace.table("arrival_s")["arrival_s"].to_list() == pytest.approx([0.97996, 1.03196, 1.078149], abs=1e-9)


def test_all_of_the_azure_trace_is_read(tmp_path, shared):
    """As above, with the whole file."""
    path = shared / "traces/azure-llm-2023/AzureLLMInferenceTrace_conv.csv"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    trace = ingest(path, Workspace.open(tmp_path), say=lambda text: None)
    assert trace.meta.rows_kept == 19_366
    assert trace.meta.span_s == pytest.approx(3501.7, abs=0.1)


def test_no_time_is_made_up(tmp_path):
    """vllm-sr-sim 0.1.0, `splitwise`, as above: without a column it knows, the trace is refused by name."""
    with pytest.raises(UserError, match=r"splitwise\.csv") as refused:
        stored(tmp_path, "when,num_prefill_tokens,num_decode_tokens\n10,100,5\n700,200,9\n", "splitwise.csv")
    assert "when" in str(refused.value)


# --- evaluations ---


def test_the_same_command_twice_gives_the_same_bytes(tmp_path, profile, monkeypatch, capsys):
    """Dynamo replay 1.4.2, kv_router: the same command twice, 49 fields differ (mean TTFT 260.1 and 258.2 ms).
    LLMServingSim PR #43: parallel runs shared scratch files. Here each run has its folder and metrics.json is the same,
    with one worker or two."""
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    rows(n=1500, span_s=1800.0).write_parquet(tmp_path / "trace.parquet")
    command = ["evaluate", str(tmp_path / "trace.parquet"), "--policy", "hpa", "--router", "least-outstanding",
               "--policy", "preserve", "--baseline", "none"]  # fmt: skip
    outs = [tmp_path / name for name in ("first", "second", "workers")]
    for out, jobs in zip(outs, ("1", "1", "2"), strict=True):
        assert main([*command, "--profile", profile, "--window", "5m", "--jobs", jobs, "--out", str(out)]) == Exit.OK
    first, *others = [(out / "metrics.json").read_bytes() for out in outs]
    assert json.loads(first)["results"]
    assert others == [first, first]
    capsys.readouterr()


def test_recorded_traces_scale_and_stand_beside_static_fleets(tmp_path, profile):
    """BLIS f90a1e3: `replay` refuses an autoscaler, and its output has no GPU-hours, cost or timeline of replicas.
    Dynamo 1.4.2: the planner's report shows no static fleet beside it (at equal GPU-hours p99 TTFT was 42.2 s against
    2.8 s), and forbids the per-request report."""
    quiet, busy = rows(n=300, span_s=1800.0), rows(n=3000, span_s=1800.0, seed=1)
    table = pl.concat([quiet, busy.with_columns(pl.col("arrival_s") + 1800.0)])
    found = evaluate(stored(tmp_path, table, "trace.parquet"), ["hpa"], profile=profile, window_s=300.0)
    scores = {row["policy"]: row for row in found.scores.iter_rows(named=True)}
    assert {"static-peak", "static-mean", "oracle"} <= set(scores)
    assert scores["hpa"]["scale_actions"] > 0
    assert scores["static-mean"]["scale_actions"] == 0
    for policy, row in scores.items():
        assert row["gpu_hours_provisioned"] > 0
        assert row["cost_usd"] == pytest.approx(2.0 * row["gpu_hours_provisioned"])
        assert found.requests[policy].height == row["arrived"]
        assert found.timeline.filter(policy=policy).height > 1
    assert found.timeline.filter(policy="hpa")["provisioned"].n_unique() > 1


def test_a_short_trace_has_all_its_results(tmp_path, profile):
    """SageServe 0b95ca2: the last window's save is commented out, so a trace of less than an hour leaves nothing; its
    response times are 0 and its times between tokens negative."""
    trace = stored(tmp_path, rows(n=60, span_s=90.0), "short.parquet")
    found = evaluate(trace, ["static(replicas=2)"], baselines=["none"], profile=profile, train_fraction=0.0)
    (requests,) = found.requests.values()
    assert requests.height == found.scores["completed"].item() == 60
    assert (requests["ttft_s"] > 0).all()
    assert (requests["tpot_s"] > 0).all()
    assert (requests["e2e_s"] > requests["ttft_s"]).all()
    for name in ("ttft_p99_s", "tpot_p99_s", "e2e_p99_s"):
        assert np.isfinite(found.scores[name].item())
