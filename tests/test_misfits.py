"""Policies that answer nonsense, fleets that cannot be, and starts that find no machines: refused, ended or counted."""

import json

import numpy as np
import polars as pl
import pytest
from evaluation_data import evaluation, scores, texts

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import open_trace
from lmaas.analysis.registry import Registry
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.policies import evaluate, registry
from lmaas.policies.registry import POLICIES

H100 = "H100-SXM-80GB"
SMALL = {
    "name": "test/small", "gpu": "H100-SXM-80GB", "kv_tokens": 12_000, "max_batch_tokens": 2048, "max_seqs": 8,
    "gpus_per_replica": 2, "usd_per_gpu_hour": 2.0, "startup_s": 30.0,
    "latency": {"base": 0.02, "token_knots": [0], "token_slopes": [5e-4]},
}  # fmt: skip


def rows(n=3000, services=("chat", "code"), seed=0):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, 7200, n)),
            "service": rng.choice(services, n),
            "region": rng.choice(["eu", "us"], n),
            "input_tokens": rng.integers(100, 2000, n),
            "output_tokens": rng.integers(1, 200, n),
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def profile(home):
    path = home / "profile.json"
    path.write_text(json.dumps(SMALL))
    return str(path)


@pytest.fixture(scope="module")
def trace(home):
    path = home / "trace.parquet"
    rows().write_parquet(path)
    return open_trace(str(path), Workspace.open(home / "ws"), say=lambda text: None)


def fleet_file(home, text):
    path = home / "fleet.yaml"
    path.write_text(text)
    return path


# --- policies


@pytest.fixture
def with_broken(monkeypatch):
    more = {"broken": "broken_policy:Broken", "misplanned": "broken_policy:Misplanned"}
    monkeypatch.setattr(
        registry, "POLICIES", Registry("policy", POLICIES.group, {**POLICIES.builtin, **more}, POLICIES.listing)
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken(how='raise')", "at t=3060 s: ZeroDivisionError: by design (broken_policy.py:"),
        ("broken(how='nan')", "at t=3060 s: ValueError: asked for nan replicas in pool 0"),
        ("broken(how='negative')", "at t=3060 s: ValueError: asked for -1 replicas in pool 0"),
        ("broken(how='pool')", "at t=3060 s: ValueError: asked for 1 replicas in pool 99"),
        ("broken(how='half')", "at t=3060 s: ValueError: asked for 1.5 replicas in pool 0"),
        ("broken(how='word')", "at t=3060 s: ValueError: asked for many replicas in pool 0"),
        ("broken(how='key')", "at t=3060 s: ValueError: asked for 1 replicas in pool chat"),
        (
            "broken(how='huge')",
            "at t=3060 s: ValueError: asked for 1,000,000,000 replicas of chat/eu/shared; at most 10",
        ),
        ("broken(how='list')", "at t=3060 s: TypeError: answered replicas=[1, 2]; needs {pool: number}"),
        ("broken(how='nothing')", "at t=3060 s: TypeError: answered None; needs Actions"),
        ("broken(how='shape')", "at t=3060 s: ValueError: asked to reshape replica 0 of pool 0 to no such profile"),
        (
            "broken(how='shapes')",
            "at t=3060 s: TypeError: answered reshape=7; needs a list of (pool, replica, p",
        ),
        ("broken(how='where')", "at t=3060 s: ValueError: asked to reshape replica 0 of pool 99 to test/small"),
        (
            "broken(how='group')",
            "at t=3060 s: ValueError: asked to regroup replicas [0] of pool 0 to ['no such profile",
        ),
        ("broken(how='kind')", "at t=3060 s: ValueError: asked for 1 replicas of no such profile in pool 0"),
        ("broken(how='kinds')", "at t=3060 s: TypeError: answered donate_of={0: 1}; needs {(pool, profile): number}"),
        ("broken(how='late')", "at t=3060 s: ValueError: asked for a start of inf s in pool 0; from 0 to 86,400"),
        ("broken(how='apart')", "at t=3060 s: ValueError: asked to regroup replicas 0 of pool 0"),
        (
            "broken(how='weights')",
            "at t=3060 s: ValueError: asked for weights [[1.0, -1.0]]; needs rows of equal length",
        ),
        ("broken(how='unweighed')", "router round_robin has no weights to be set"),
        (
            "broken(how='pair')",
            "at t=3060 s: TypeError: answered migrate=[(0, 1)]; needs a list of (request, p",
        ),
        ("broken(how='odd')", "at t=3060 s: ValueError: asked to migrate request 0.5 to replica 0 of pool 0"),
        ("broken(how='nowhere')", "at t=3060 s: ValueError: asked to migrate request 0 to replica 0 of pool 99"),
        ("broken(how='beyond')", "at t=3060 s: ValueError: asked to migrate request 0 to replica 1073741824 of pool 0"),
        ("broken(how='unborn')", "asked to migrate request 0 to replica 9999 of pool 0 at t=3060 s: there is none"),
        ("broken(how='release')", "at t=3060 s: ValueError: asked for inf held requests to release in pool 0"),
        ("broken(how='start')", "nothing to start from"),
        ("broken(how='short')", "begins with [1]: needs a whole number from 0 to 10,000 for each of 4 pools"),
        ("broken(how='void')", "begins with [nan, nan, nan, nan]"),
        ("broken(how='minus')", "begins with [-1, -1, -1, -1]"),
        ("broken(how='text')", "begins with three"),
        ("broken(how='crowd')", "begins with [1000000, 1000000"),
        ("broken(how='raise', control_s=0.0)", "control_s is 0.0; a time above 0 s"),
        ("misplanned(how='nan')", "plan_all asked for nan replicas of chat/eu in the window from t=9000 s"),
        ("misplanned(how='negative')", "plan_all asked for -2 replicas of chat/eu in the window from t=9000 s"),
        ("misplanned(how='null')", "plan_all asked for None replicas of chat/eu in the window from t=9000 s"),
        ("misplanned(how='columns')", "plan_all answered a table without service, region"),
        ("misplanned(how='words')", "plan_all answered replicas of type String"),
        ("misplanned(how='text')", "plan_all answered a plan; needs a table"),
    ],
)
def test_a_policy_that_answers_nonsense_ends_alone(home, trace, profile, with_broken, name, says):
    """Its name, the tick and what was wrong; the others report; exit 7."""
    # few requests before the first tick: what is wrong shows at once
    found = evaluate(trace, [name], baselines=["static(replicas=2)"], profile=profile, warmup_s=600)
    expected = says.replace("t=3060 s", f"t={found.settings['start_s'] + 60:g} s")
    assert expected in found.failures[name]
    assert found.scores["policy"].to_list() == ["static(replicas=2)"]
    assert found.exit_code == Exit.PARTIAL
    assert found.metrics()["failures"][name] == found.failures[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken(how='negative')", "ValueError: asked for -1 replicas in pool 0"),
        ("broken(how='raise')", "ZeroDivisionError: by design (broken_policy.py:"),
        ("misplanned(how='nan')", "plan_all asked for nan replicas of chat/eu"),
    ],
)
def test_so_it_does_at_window_fidelity(trace, profile, with_broken, name, says):
    found = evaluate(trace, [name], baselines=["static(replicas=2)"], profile=profile, fidelity="window")
    assert says in found.failures[name]
    assert found.exit_code == Exit.PARTIAL


# --- machines


def gpus_at_most(found, policy):
    """Most GPUs that the policy's replicas took in a region, mean over a window."""
    times = found.timeline.filter(pl.col("policy") == policy)
    taken = times.group_by("region", "start_s").agg(gpus=2 * pl.col("provisioned").sum())
    return dict(taken.group_by("region").agg(pl.col("gpus").max()).iter_rows())


def test_no_policy_takes_more_gpus_than_a_region_has(home, trace, profile):
    """Sizes that are too large are cut at the start and denied later; both are counted and said."""
    text = "regions: {eu: {gpus: {H100-SXM-80GB: 8}}, us: {gpus: {H100-SXM-80GB: 6}}}"
    asked = {"profile": profile, "load": 6.0}
    free = evaluate(trace, ["hpa"], **asked)
    found = evaluate(trace, ["hpa"], fleet=fleet_file(home, text), **asked)
    assert found.failures == {}
    for policy in found.scores["policy"]:
        most = gpus_at_most(found, policy)
        assert most["eu"] <= 8 and most["us"] <= 6, policy
        (before,) = free.scores.filter(pl.col("policy") == policy).to_dicts()
        (after,) = found.scores.filter(pl.col("policy") == policy).to_dicts()
        assert before["starts_denied"] == 0
        if max(gpus_at_most(free, policy).values()) > 8:
            assert after["starts_denied"] > 0, policy
            assert any(note.startswith(f"{policy}: {after['starts_denied']:,} starts") for note in found.notes)
    assert "Starts denied" in texts(found) and "was denied" in texts(found)
    peak = found.scores.filter(pl.col("policy") == "static-peak")["starts_denied"].item()
    wanted = free.timeline.filter(pl.col("policy") == "static-peak").group_by("service", "region").first()
    assert peak == wanted["provisioned"].sum() - 7  # 4 replicas in eu, 3 in us


def test_more_headroom_is_no_advice_where_gpus_lack():
    few = texts(evaluation(scores=scores(slo_attainment=[0.5] * 5, starts_denied=[7] * 5)))
    assert "but not of as few GPUs as the regions have" in few
    assert "preserve was denied 7 starts of replicas, for want of GPUs." in few
    enough = texts(evaluation(scores=scores(slo_attainment=[0.5] * 5)))
    assert "Try headroom" in enough and "denied" not in enough.split("Definitions")[0].replace("Starts denied", "")


@pytest.mark.parametrize(
    ("denied", "down", "why", "advice"),
    [
        (7, 7, "because their region was down", "but a region was down when replicas were wanted there"),
        (7, 3, "4 for want of GPUs and 3 because their region was down", "but not of as few GPUs as the regions have"),
    ],
)
def test_a_denied_start_names_its_cause(denied, down, why, advice):
    said = scores(slo_attainment=[0.5] * 5, starts_denied=[denied] * 5, starts_denied_down=[down] * 5)
    text = texts(evaluation(scores=said))
    assert f"preserve was denied 7 starts of replicas, {why}." in text and advice in text


def test_starts_denied_without_an_inventory_were_wanted_of_a_region_that_was_down(home, trace, profile):
    text = "faults: [{at: 1h5m, region: eu, for: 30m}]"
    found = evaluate(trace, ["hpa"], baselines=["none"], profile=profile, fleet=fleet_file(home, text))
    (hpa,) = found.scores.to_dicts()
    assert hpa["starts_denied"] == hpa["starts_denied_down"] > 0
    (note,) = [note for note in found.notes if "denied" in note]
    assert note.startswith(
        f"hpa: {hpa['starts_denied']:,} starts of replicas were denied, because their region was down"
    )
    assert "for want of GPUs" not in texts(found)


def test_a_static_size_beyond_the_gpus_is_refused_before_anything_runs(home, trace, profile):
    text = "regions: {eu: {gpus: {H100-SXM-80GB: 8}}}"
    seen = []
    with pytest.raises(UserError) as error:
        evaluate(
            trace, ["preserve", "static(replicas=5)"], profile=profile, fleet=fleet_file(home, text),
            progress=lambda name, share: seen.append(name),
        )  # fmt: skip
    assert error.value.code == Exit.CONFIG
    said = "policy 'static(replicas=5)': fleet: regions.eu.gpus.H100-SXM-80GB: 8 are fewer than the 20"
    assert said in str(error.value)
    assert set(seen) == {"preparation"}
    fine = evaluate(trace, ["static(replicas=2)"], baselines=["none"], profile=profile, fleet=fleet_file(home, text))
    assert fine.scores["starts_denied"].item() == 0


def test_no_replica_and_never_one_is_refused_by_the_policys_name(home, trace, profile):
    """Machines for one pool of two, neither with a minimum: the other's requests would wait for ever."""
    text = (
        "regions: {eu: {gpus: {H100-SXM-80GB: 2}}}\n"
        "pools: [{service: chat, region: eu, min: 0}, {service: code, region: eu, min: 0}]"
    )
    with pytest.raises(UserError) as error:
        evaluate(trace, ["static-mean"], baselines=["none"], profile=profile, fleet=fleet_file(home, text))
    assert error.value.code == Exit.CONFIG
    assert "policy 'static-mean': pool code/eu/shared: no replica to begin with" in str(error.value)


def test_a_static_fleet_serves_a_service_that_training_knew_nothing_of(home, profile):
    late = rows().with_columns(
        service=pl.when(pl.col("arrival_s") < 4000).then(pl.lit("chat")).otherwise(pl.col("service"))
    )
    path = home / "late.parquet"
    late.write_parquet(path)
    trace = open_trace(str(path), Workspace.open(home / "ws"), say=lambda text: None)
    text = "pools: [{service: code, region: eu, min: 0}, {service: code, region: us, min: 0}]"
    found = evaluate(trace, ["static-mean"], baselines=["none"], profile=profile, fleet=fleet_file(home, text))
    assert found.scores["incomplete"].item() == 0
    assert (found.timeline.filter(pl.col("service") == "code")["active"] >= 1).all()


# --- fleets that cannot be, from the command line


def spoilt(**change):
    return json.dumps({**SMALL, **change})


@pytest.mark.parametrize(
    ("fleet", "given", "says"),
    [
        (f"regions: {{eu: {{gpus: {{{H100}: 1}}}}, us: {{gpus: {{{H100}: 1}}}}}}", None, "services.chat: no region"),
        ("", spoilt(kv_tokens=90), "fleet: services.chat.profile: the KV cache of test/small holds 80 tokens"),
        (
            f"pools: [{{service: chat, region: eu, min: 9}}]\nregions: {{eu: {{gpus: {{{H100}: 8}}}}}}",
            None,
            f"regions.eu.gpus.{H100}: 8 are fewer than",
        ),
        ("pools: [{service: chat, region: eu, replicas: 0, min: 0, max: 0}]", None, "pools.0.max: must be greater"),
        ("services: {chat: {startup_s: -5}}", None, "services.chat.startup_s"),
        ("services: {chat: {startup_s: .nan}}", None, "services.chat.startup_s"),
        ("faults: [{at: -5, region: eu}]", None, "faults.0.at"),
        ("faults: [{at: .inf, region: eu}]", None, "faults.0.at"),
        ("faults: [{at: 1, region: eu, for: -3}]", None, "faults.0.for"),
        ("clients: {timeout_s: -1}", None, "clients.timeout_s"),
        ("clients: {timeout_s: .nan}", None, "clients.timeout_s"),
        ("clients: {timeout_s: 5, backoff_s: -2}", None, "clients.backoff_s"),
        ("regions: {eu: {latency_s: {us: -0.1}}}", None, "regions.eu.latency_s.us"),
        ("regions: {eu: {latency_s: {us: .nan}}}", None, "regions.eu.latency_s.us"),
        ("regions: {eu: {gpus: {H100-SXM-80GB: -4}}}", None, "regions.eu.gpus"),
        ("services: {chat: {usd_per_gpu_hour: -1}}", None, "services.chat.usd_per_gpu_hour"),
        ("region_choice: {rule: threshold, threshold: .nan}", None, "region_choice.threshold"),
        ("sessions: closed", None, "fleet: sessions: closed needs session_id, turn and think_s"),
        ("", spoilt(latency={"base": float("nan")}), "latency.base"),
        ("", spoilt(latency={"base": 0.01, "decode_kv": float("nan")}), "latency.decode_kv"),
        ("", spoilt(latency={"base": 0.01, "attn_pair": float("inf")}), "latency.attn_pair"),
        ("", spoilt(latency={"base": -0.01}), "latency.base"),
        ("", spoilt(latency={"base": 0.01, "token_knots": [0], "token_slopes": [-1.0]}), "latency.token_slopes"),
        ("", spoilt(startup_s={"cold": -1, "warm": 0, "swap": 0, "cv": 0}), "startup_s.cold"),
        ("", spoilt(overhead_s=float("nan")), "overhead_s"),
        ("", spoilt(prefix_cache="perhaps"), "prefix_cache"),
    ],
)  # fmt: skip
def test_bad_fleets_end_with_5_before_anything_runs(tmp_path, monkeypatch, capsys, fleet, given, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "ws"))
    rows(300).write_parquet("trace.parquet")
    (tmp_path / "profile.json").write_text(given or json.dumps(SMALL))
    line = ["evaluate", "trace.parquet", "--policy", "hpa", "--profile", "profile.json"]
    if fleet:
        (tmp_path / "fleet.yaml").write_text(fleet)
        line += ["--fleet", "fleet.yaml"]
    code = main(line)
    err = capsys.readouterr().err
    assert code == Exit.CONFIG, err
    assert says in err
    assert "Traceback" not in err and "replay " not in err
    assert not list((tmp_path / "ws").glob("runs/*"))
