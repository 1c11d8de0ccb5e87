"""Calibration: engines come back from logs of theirs, and what a log is judged by is never looked at before."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from calibration_data import decode_s, log_of, prefill_s, truth, written

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli.main import main
from lmaas.replay.calibration import calibrate as whole
from lmaas.replay.calibration import engine as inference
from lmaas.replay.calibration.calibrate import calibrate, labelled
from lmaas.replay.calibration.engine import UNLIMITED, Given, peaks
from lmaas.replay.calibration.judge import Latencies, backtest, compared
from lmaas.replay.profile import find_profile


@pytest.fixture
def quick(monkeypatch):
    """Fewer steps: for what does not hang on the last per cent."""
    monkeypatch.setattr(inference, "LONG", 2)
    monkeypatch.setattr(inference, "SHORT", 1)
    monkeypatch.setattr(inference, "STARTS", 1)
    monkeypatch.setattr(inference, "FEW", 3)
    monkeypatch.setattr(whole, "POLISH", 40)


def errors(found, *names):
    """Absolute errors of the held-out part, by metric."""
    return {r["metric"]: max(abs(r[n]) for n in names) for r in found.held_out.iter_rows(named=True)}


# ---- what it finds


@pytest.mark.slow
def test_an_engine_comes_back_from_its_log_with_noise():
    profile = truth(max_seqs=64)
    found = calibrate(log_of(profile, noise=0.05), Given(64, 2048, profile.kv_tokens, 1), "log")
    assert max(errors(found, "p50_error", "p95_error").values()) < 0.05
    for n in (48, 64):  # batches that the log is full of
        assert decode_s(found.profile, n) == pytest.approx(decode_s(profile, n), rel=0.05)
    assert prefill_s(found.profile, 2048) == pytest.approx(prefill_s(profile, 2048), rel=0.2)
    assert found.profile.provenance == "calibrated"


@pytest.mark.slow
def test_a_kv_cache_that_fills_is_measured_by_its_effects():
    """The size is not given: what the requests waited and were preempted for tells it."""
    profile = truth(kv_tokens=30_000, max_seqs=128)
    found = calibrate(log_of(profile, noise=0.02), Given(128, 2048, None, 1), "log")
    kv = next(p for p in found.engine if p.name == "kv_tokens")
    assert kv.how == "inferred"
    assert kv.value == pytest.approx(30_000, rel=0.05)
    off = errors(found, "p50_error", "p95_error")
    assert off["e2e"] < 0.08 and off["tpot"] < 0.08 and off["ttft"] < 0.15


@pytest.mark.slow
def test_two_engines_behind_a_router():
    profile = truth(max_seqs=48)
    found = calibrate(log_of(profile, rate=8.0, replicas=2, noise=0.05), Given(48, 2048, None, 2), "log")
    off = errors(found, "p50_error", "p95_error")
    assert off["e2e"] < 0.08 and off["tpot"] < 0.08 and off["ttft"] < 0.15
    assert "not identifiable" in {p.how for p in found.engine}  # the KV never fills


@pytest.mark.slow
def test_what_is_not_given_is_inferred_where_the_log_tells():
    profile = truth(max_seqs=32)
    found = calibrate(log_of(profile, n=200, noise=0.02), Given(), "log")
    told = {p.name: p for p in found.engine}
    assert (told["replicas"].value, told["max_seqs"].value) == (1, 32)
    assert told["max_seqs"].how == "inferred"
    assert told["kv_tokens"].how == "not identifiable"
    assert max(errors(found, "p50_error", "p95_error").values()) < 0.06


def test_an_idle_engine_tells_neither_its_limits_nor_its_kv(quick):
    found = calibrate(log_of(truth(), n=80, rate=0.05), Given(), "log")
    told = {p.name: p for p in found.engine}
    assert {told[name].how for name in ("replicas", "max_seqs", "kv_tokens")} == {"not identifiable"}
    assert told["replicas"].value == 1
    assert found.profile.kv_tokens < UNLIMITED


@pytest.mark.slow
@pytest.mark.parametrize("run", ["RTXPRO6000_Llama-3.1-8B", "RTXPRO6000_Qwen3-32B"])
def test_measured_runs_are_predicted_within_five_per_cent(shared, read, run):
    """vLLM 0.19 on real GPUs: fitted on the first 150 requests, judged on the other 150 (docs/profiles.md)."""
    from lmaas.replay.calibration.log import read_log

    log = read_log(read(shared / "traces" / "vllm-measured" / run / "requests.jsonl"))
    found = calibrate(log, Given(128, 2048, None, 1), run, 150)
    assert max(errors(found, "p50_error", "p95_error").values()) < 0.05
    assert max(errors(found, "median_error").values()) < 0.03


# ---- what it must not do


def test_latencies_of_the_rest_are_not_looked_at(quick):
    log = log_of(truth(max_seqs=32), n=70)
    rest = np.arange(len(log)) >= 35
    other = replace(
        log, ttft_s=np.where(rest, 7 * log.ttft_s, log.ttft_s), e2e_s=np.where(rest, 9 * log.e2e_s, log.e2e_s)
    )
    one, two = (calibrate(each, Given(None, 2048, None, 1), "log") for each in (log, other))
    assert one.profile.latency == two.profile.latency
    assert one.engine == two.engine
    assert two.held_out["p50_error"].to_list() != one.held_out["p50_error"].to_list()


def test_the_same_log_gives_the_same_profile(quick):
    log = log_of(truth(), n=70, noise=0.05)
    assert (
        calibrate(log, Given(32, 2048, 10**6, 1), "a").profile == calibrate(log, Given(32, 2048, 10**6, 1), "a").profile
    )


# ---- how it judges


def test_errors_are_of_percentiles_and_of_requests():
    seen = Latencies(np.array([1.0, 2.0, 3.0]), np.array([0.1, np.nan, 0.1]), np.array([4.0, 5.0, 6.0]))
    told = Latencies(np.array([1.1, 2.0, 3.3]), np.array([0.1, np.nan, np.nan]), np.array([4.0, 10.0, 6.0]))
    rows = {r["metric"]: r for r in compared(told, seen, np.ones(3, bool)).iter_rows(named=True)}
    assert rows["ttft"]["p50_error"] == pytest.approx(0.0)
    assert rows["ttft"]["p95_error"] == pytest.approx(
        np.quantile([1.1, 2, 3.3], 0.95) / np.quantile([1, 2, 3], 0.95) - 1
    )
    assert rows["ttft"]["median_error"] == pytest.approx(0.1)
    assert (rows["tpot"]["n"], rows["tpot"]["not_completed"]) == (2, 1)
    assert rows["tpot"]["median_error"] == pytest.approx(0.5)  # one exact, one that never ended
    assert rows["e2e"]["p50_error"] == pytest.approx(0.2)


def test_a_profile_is_exact_on_its_own_log():
    profile = truth(max_seqs=32)
    log = log_of(profile, n=80)
    off = backtest(log, profile)
    assert off.select("p50_error", "p95_error", "median_error").to_numpy() == pytest.approx(0, abs=1e-12)
    slower = profile.model_copy(update={"overhead_s": 1.0})
    assert backtest(log, slower).filter(metric="ttft")["p50_error"][0] > 0.01


def test_peaks_are_of_requests_at_one_time():
    log = replace(
        log_of(truth(), n=3),
        arrival_s=np.array([0.0, 0.0, 20.0]),
        input_tokens=np.array([100, 200, 400]),
        output_tokens=np.array([11, 11, 11]),
        ttft_s=np.array([1.0, 2.0, 1.0]),
        e2e_s=np.array([10.0, 10.0, 2.0]),
    )
    running, context = peaks(log)
    assert running == 2
    assert context == pytest.approx(411)  # the third alone, at its end; the first two hold 302 at most when one begins


# ---- the command


def test_the_command_writes_a_profile_that_evaluate_takes(quick, tmp_path, capsys, home):
    log = log_of(truth(max_seqs=32), n=90)
    status = ["failed" if i % 10 == 9 else "ok" for i in range(len(log))]
    path, out = written(log, tmp_path / "log.parquet", status=status), tmp_path / "p.json"
    asked = [
        "calibrate",
        str(path),
        "--max-seqs",
        "32",
        "--max-batch-tokens",
        "2048",
        "--replicas",
        "1",
        "--out",
        str(out),
    ]
    assert main([*asked, "--gpu", "l40s", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["requests"] == {"fitted": 40, "held_out": 41, "aside": {"failed": 9}}
    assert found["profile"]["usd_per_gpu_hour"] == find_profile("llama-3.1-8b/l40s/tp1").usd_per_gpu_hour
    assert set(found["profile"]["error"]) >= {"ttft_p50", "tpot_p95", "e2e_median", "mape", "p95"}
    assert find_profile(str(out)).model_dump(mode="json") == found["profile"]
    assert main(["profile", "show", str(out)]) == 0
    assert "Calibrated on a log" in capsys.readouterr().out
    asked = ["evaluate", str(path), "--policy", "static(replicas=1)", "--baseline", "none", "--train-fraction", "0"]
    assert main([*asked, "--profile", str(out), "--json"]) == 0


@pytest.mark.parametrize(
    ("drop", "rows", "code", "says"),
    [
        (["ttft_s"], 70, Exit.INPUT, "without values here: ttft_s"),
        (["ttft_s", "e2e_s"], 70, Exit.INPUT, "without values here: ttft_s, e2e_s"),
        ([], 20, Exit.INPUT, "20 requests with observed latencies"),
    ],
)
def test_logs_that_cannot_be_used_say_why(tmp_path, capsys, home, drop, rows, code, says):
    path = written(log_of(truth(), n=rows), tmp_path / "log.parquet")
    pl.read_parquet(path).drop(drop).write_parquet(path)
    assert main(["calibrate", str(path)]) == code
    assert says in capsys.readouterr().err


def test_one_service_at_a_time(tmp_path, capsys, home):
    log = log_of(truth(), n=70)
    path = written(log, tmp_path / "log.parquet", service=["a", "b"] * 35)
    assert main(["calibrate", str(path)]) == Exit.USAGE
    assert "--service must name one of its services: " in capsys.readouterr().err
    with pytest.raises(UserError, match="of 70 requests"):
        calibrate(log, Given(), "log", 69)


def test_known_gpus_bring_their_price_and_their_kv(quick):
    found = calibrate(log_of(truth(), n=70), Given(32, 2048, None, 1), "log")
    named = labelled(found, "llama-3.1-8b", "l40s", 1)
    assert named.profile.kv_tokens == pytest.approx(190_116, rel=0.1)  # the shipped profile's
    assert labelled(found, "mine", "l40s", 1).profile.kv_tokens == found.profile.kv_tokens
    assert labelled(found, None, "unheard of", 2).profile.gpus_per_replica == 2
