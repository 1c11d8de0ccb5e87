"""Routers: each equals its plain twin through a whole fleet, and keeps its own laws."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import FunctionType

import numpy as np
import polars as pl
import pytest
from cases import assert_same, expected
from cases_routers import play_fast, play_slow, router_cases
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from numba import config
from numba.core.dispatcher import Dispatcher
from reference_routers import fmix32
from scipy.stats import chisquare

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli.main import main
from lmaas.replay import columns as c
from lmaas.replay.engine import NEVER, Controller, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import Actions
from lmaas.replay.routernames import find_router, ready
from lmaas.replay.routers import ROUTERS, Router
from lmaas.replay.routing import steps
from lmaas.replay.routing.scored import scored

FIXTURES = ROOT / "tests" / "fixtures"
FLEET = Fleet((Pool("s", "r", find_profile("llama-3.1-8b/h100/tp1")),))

DRAWS = 2000 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 20_000
EXAMPLES = 5 if config.DISABLE_JIT else 20  # each replays a fleet one iteration at a time
quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)
BUILTIN = list(ROUTERS.builtin)
LINEAR = [name for name in BUILTIN if ROUTERS.load(name).weights]


@pytest.mark.parametrize("name", BUILTIN)
def test_equals_its_plain_twin(name):
    @quick
    @given(router_cases((name,)))
    def check(case):
        rows, _ = play_slow(case)
        outcome, _ = play_fast(case)
        assert_same(expected(rows), outcome)

    check()


@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize("name", LINEAR)
def test_weights_choose_what_the_scan_chooses(name, scales):
    """The tournament tree and the router's own function, bit by bit; scales: with and without token columns for all."""

    @quick
    @given(router_cases((name,)))
    def check(case):
        tree, _ = play_fast(case, linear=True, scales=scales)
        scan, _ = play_fast(case, linear=False, scales=scales)
        for column in ("status", "record", "preemptions", "admitted_s", "first_s", "done_s"):
            assert np.array_equal(getattr(tree, column), getattr(scan, column), equal_nan=column.endswith("_s")), column

    check()


def many(n, replicas, router, seed=0, ticks=None, **columns):
    """(replica by request, outcome) of n short requests, one a second: no replica is ever busy for long."""
    zeros = np.zeros(n, np.int64)
    table = Requests(
        np.arange(n, dtype=float), zeros, zeros + 50, zeros + 5, np.full(n, 5.0), columns.pop("kind", zeros), **columns
    )
    controller = NEVER
    if ticks:
        times = sorted(ticks)
        controller = Controller(
            lambda t: next((x for x in times if x > t), np.inf), lambda t, seen: Actions({0: ticks[t]})
        )
    outcome = Replay(table, FLEET, [replicas], router, controller, seed=seed).run()
    numbers = dict(outcome.replicas.select("record", "replica").iter_rows())
    return np.array([numbers[r] for r in outcome.record]), outcome


def test_random_is_uniform_and_independent():
    chosen, _ = many(DRAWS, 8, "random")
    counts = np.bincount(chosen, minlength=8)
    assert chisquare(counts).pvalue > 1e-4
    pairs = np.bincount(8 * chosen[:-1] + chosen[1:], minlength=64)  # what follows what
    assert chisquare(pairs).pvalue > 1e-4


def test_random_routers_follow_the_seed():
    for name in ("random", "power-of-two"):
        one, two, other = (many(400, 8, name, seed=s)[0] for s in (1, 1, 2))
        assert (one == two).all()
        assert (one != other).mean() > 0.5
        assert (many(400, 8, f"{name}(seed=2)", seed=1)[0] == other).all()


def test_power_of_two_draws_every_pair_alike():
    """Idle replicas tie, so the lower of the pair is chosen: index k with probability 2(n - 1 - k) / n(n - 1)."""
    n = 6
    chosen, _ = many(DRAWS, n, "power-of-two")
    wanted = np.array([2 * (n - 1 - k) / (n * (n - 1)) for k in range(n - 1)])
    assert (chosen < n - 1).all()
    assert chisquare(np.bincount(chosen, minlength=n - 1), wanted * len(chosen)).pvalue > 1e-4
    assert (many(20, 1, "power-of-two")[0] == 0).all()


def plain(compiled):
    """The Python function behind a compiled one, and behind those that it calls."""
    function = getattr(compiled, "py_func", compiled)
    called = {n: function.__globals__[n] for n in function.__code__.co_names if n in function.__globals__}
    steps_of = {n: plain(thing) for n, thing in called.items() if isinstance(thing, Dispatcher)}
    return FunctionType(function.__code__, {**function.__globals__, **steps_of})


@pytest.mark.skipif(config.DISABLE_JIT, reason="interpreted, nothing is compiled")
@pytest.mark.parametrize("name", BUILTIN)
def test_compiled_and_interpreted_choose_alike(name):
    rng = np.random.default_rng(3)
    router = ready(name, 12)
    memories = np.full(8, -1.0), np.full(8, -1.0)
    for n in (1, 2, 5, 40):
        for _ in range(50):
            replicas = rng.integers(0, 9, (n, c.VIEW_COLUMNS)).astype(float)
            replicas[:, c.INDEX], replicas[:, c.KV_CAPACITY_TOKENS] = np.sort(rng.choice(100, n, False)), 10
            replicas[:, c.MAX_SEQS] = 4
            request = rng.integers(1, 9, c.REQUEST_COLUMNS).astype(float)
            request[c.SESSION] = rng.integers(-1, 1 << 50)
            counts = (replicas[:, c.WAITING] + replicas[:, c.RUNNING]).astype(np.int64)
            start = np.cumsum(counts) - counts
            ahead = rng.integers(0, 9, (n, max(router.horizon, 1))).astype(float)
            flight = rng.integers(0, 9, (counts.sum(), c.FLIGHT_COLUMNS)).astype(float)
            answers = []
            for route, memory in zip((router.route, plain(router.route)), memories, strict=True):
                scores = np.zeros(n)
                params = np.array([*router.numbers, 0.0])
                row = route(request, replicas, ahead, flight, start, params, memory, scores)
                answers.append((row, scores.tolist(), memory.tolist()))
            assert answers[0] == answers[1]


def test_the_generator_is_splitmix32_over_murmurs_finaliser():
    """Numbers of the published function, by hand: they must never change."""
    assert [fmix32(x) for x in (0, 1, 2)] == [0, 0x514E28B7, 0x30F4C306]
    mine = plain(steps.mix)
    assert all(mine(x) == fmix32(x) for x in (0, 1, 77, 0x7FFFFFFF, 0xFFFFFFFF))


def test_weighted_keeps_its_shares_all_the_way():
    """After any number of requests of a kind each replica has its share of them, give or take four."""
    kind = np.arange(3000) % 2
    chosen, _ = many(3000, 4, "weighted", kind=kind)
    for which in (0, 1):
        shares = np.cumsum(chosen[kind == which][:, None] == np.arange(4), axis=0)
        assert (np.abs(shares - np.arange(1, 1501)[:, None] / 4) < 4).all()


def test_weighted_tells_profiles_apart():
    small = find_profile("llama-3.1-8b/a100/tp1")
    fleet = Fleet((replace(FLEET.pools[0], mixed=((small, 2),)),))
    zeros = np.zeros(1200, np.int64)
    kind = np.arange(1200) % 3 // 2  # two of kind 0, one of kind 1
    table = Requests(np.arange(1200.0), zeros, zeros + 50, zeros + 5, np.full(1200, 5.0), kind)
    outcome = Replay(table, fleet, [2], "weighted(weights=[[3, 1], [0, 1]])").run()
    big = np.isin(outcome.record, outcome.replicas.filter(pl.col("replica") < 2)["record"])
    assert abs(big[kind == 0].mean() - 0.75) < 0.01
    assert not big[kind == 1].any()


def test_what_would_queue_goes_where_it_is_worked_off_soonest():
    """All shares are of the two mixed replicas; past a queue of four there the first profile's take the rest, at 1:3.

    Requests of 1,000 tokens come faster than anybody serves them, one of which runs at a time.
    """
    small = find_profile("llama-3.1-8b/a100/tp1").model_copy(update={"max_seqs": 1})
    own = small.model_copy(update={"name": "own"})
    fleet = Fleet((replace(FLEET.pools[0], profile=own, mixed=((small, 2),)),))
    n = 60
    zeros = np.zeros(n, np.int64)
    table = Requests(np.arange(n) / 1000, zeros, zeros + 500, zeros + 500, np.full(n, 500.0), zeros)

    def shares(router):
        outcome = Replay(table, fleet, [1], router).run()
        counts = np.bincount(outcome.record, minlength=3)
        return counts[np.argsort(outcome.replicas["replica"].to_numpy())].tolist()

    assert shares("weighted-least(weights=[[0, 1]])") == [0, 30, 30]
    assert shares("weighted-least(weights=[[0, 1]], rates=[[0, 1]])") == [0, 30, 30]
    first, second, third = shares("weighted-least(weights=[[0, 1]], rates=[[3, 1]])")
    assert first == pytest.approx(36, abs=3) and abs(second - third) <= 1
    assert shares("weighted-least(weights=[[0, 0], [0, 1]], rates=[[3, 0]])") == [60, 0, 0]
    assert shares("weighted-least(weights=[[0, 0], [0, 1]])") == [20, 20, 20]


def test_sessions_stay_and_few_move_when_the_fleet_grows():
    session = np.arange(4000) % 200
    chosen, _ = many(4000, 9, "session-affinity", ticks={2000.5: 10}, session=session)
    before, after = chosen[1800:2000], chosen[3800:]
    assert all(len(set(chosen[:2000][session[:2000] == s])) == 1 for s in range(200))
    assert (chosen[:200] == before).all()
    moved = before != after
    assert (after[moved] == 9).all()  # only to the new replica
    assert 0.04 < moved.mean() < 0.2  # one in ten
    assert len(set(before)) == 9


def test_without_sessions_the_fewest_requests_decide():
    case = {"n": 300, "replicas": 3}
    one, _ = many(**case, router="session-affinity")
    two, _ = many(**case, router="least-requests")
    assert (one == two).all()


def test_prefix_aware_goes_where_the_prompt_is_cached():
    """Two prompts in turn on four replicas: each finds its own replica; without a cache the fewest requests decide."""
    n = 40
    hashes = np.array([100, 101, 102, 200, 201, 202], np.uint64)
    given = {"hashes": hashes, "hash_at": np.arange(n) % 2 * 3, "hash_n": np.full(n, 3), "hash_tokens": 16}
    zeros = np.zeros(n, np.int64)
    # the second comes while the first is still there, so that it goes elsewhere
    arrival = np.concatenate([[0.0, 0.01], np.arange(n - 2) + 10.0])
    table = Requests(arrival, zeros, zeros + 50, zeros + 20, np.full(n, 20.0), zeros, **given)
    for name in ("prefix-aware", "scored"):
        record = Replay(table, FLEET, [4], name).run().record
        assert record[:2].tolist() == [0, 1]
        assert (record == np.arange(n) % 2).all()
    off = replace(FLEET, prefix_cache=False)
    one, two = (Replay(table, off, [4], name).run().record for name in ("prefix-aware", "least-requests"))
    assert (one == two).all()


def scores_of(*replicas):
    """llm-d's, of a prompt of 100 tokens; replicas: (waiting, share of KV in use, prompt tokens cached)."""
    view, request = np.zeros((len(replicas), c.VIEW_COLUMNS)), np.zeros(c.REQUEST_COLUMNS)
    request[c.INPUT_TOKENS] = 100.0
    for row, (waiting, busy, matched) in zip(view, replicas, strict=True):
        row[c.WAITING], row[c.KV_TOKENS], row[c.KV_CAPACITY_TOKENS] = waiting, 1000.0 * busy, 1000.0
        row[c.MATCHED_TOKENS] = matched
    none, found = np.zeros((0, 0)), np.zeros(len(replicas))
    params = np.array(list(find_router("scored").params.values()))
    assert scored(request, view, none, none, np.zeros(0, np.int64), params, np.zeros(0), found) == c.SCORES
    return [round(-score, 12) for score in found.tolist()]


def test_llm_d_weighs_cached_prefix_queue_and_kv_by_hand():
    """2 · cached/prompt + (most - own)/(most - fewest) + (1 - KV use); over 5 waiting or 0.8 of KV are left out.

    Queue and KV: kubernetes-sigs/gateway-api-inference-extension, scorer/queue.go, scorer/kvcache_utilization.go.
    """
    calm = [(0, 0.5, 0), (4, 0.2, 80), (2, 0.7, 32)]
    assert scores_of(*calm) == pytest.approx([0 + 1 + 0.5, 1.6 + 0 + 0.8, 0.64 + 0.5 + 0.3])
    full = [(6, 0.0, 100), (0, 0.81, 100)]
    assert scores_of(*calm, *full) == [1.5, 2.4, 1.44, -np.inf, -np.inf]  # nor is six the longest queue then
    assert scores_of(*full) == pytest.approx([2 + 0 + 1, 2 + 1 + 0.19])  # all are full: all count
    assert scores_of((5, 0.8, 0), (5, 0.0, 0)) == [0 + 1 + 0.2, 0 + 1 + 1]  # at the limits, queues alike


def test_kappa_reaches_the_weights():
    assert find_router("preserve(kappa=5)").linear == {c.PREFILL_TOKENS: 5.0, c.EXPECTED_TOKENS: 1.0}


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("randon", Exit.USAGE, "did you mean 'random'"),
        ("random(sed=3)", Exit.USAGE, "did you mean 'seed'"),
        ("least-requests(seed=1)", Exit.USAGE, "it has none"),
        ("scored(kv='x')", Exit.USAGE, "no number"),
        ("scored(kv=1", Exit.USAGE, "is not NAME"),
        ("weighted(weights=3)", Exit.USAGE, "no table"),
        ("weighted(weights=[[1, 2], [3]])", Exit.USAGE, "no table"),
        ("{here}/none.py:ROUTER", Exit.CONFIG, "no such file; that folder has deep_router.py, holding_router.py"),
        ("{here}/my_router.py:ROUTTER", Exit.CONFIG, "it has ROUTER, short_first"),
        ("{here}/my_router.py", Exit.CONFIG, "write my_router.py:"),
        ("{here}/my_router.py:ROUTER(shrt=3)", Exit.USAGE, "did you mean 'short'"),
        ("{here}/wrong_routers.py:number", Exit.CONFIG, "of type int"),
        ("{here}/wrong_routers.py:three_arguments", Exit.CONFIG, "takes 3 arguments (request, replicas, scores)"),
        ("{broken}:ROUTER", Exit.CONFIG, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_router_is_told(text, code, says, tmp_path):
    (tmp_path / "broken.py").write_text("ROUTER = 1 / 0\n")
    with pytest.raises(UserError) as caught:
        find_router(text.format(here=FIXTURES, broken=tmp_path / "broken.py"))
    assert says in str(caught.value)
    assert caught.value.code == code


@pytest.mark.skipif(config.DISABLE_JIT, reason="interpreted, nothing is compiled")
@pytest.mark.parametrize(("name", "says"), [("plain", "a plain function"), ("answers_text", "cannot be compiled")])
def test_what_cannot_be_compiled_is_told(name, says):
    with pytest.raises(UserError, match=says) as caught:
        find_router(f"{FIXTURES}/wrong_routers.py:{name}")
    assert caught.value.code == Exit.CONFIG


def test_weights_that_cannot_be_are_refused():
    route = find_router("least-requests").route
    for wrong in ({c.MATCHED_TOKENS: 1.0}, {c.KV_TOKENS: 1.0}, {c.WAITING: "kappa"}):
        with pytest.raises(ValueError, match="column"):
            Router(route, weights=wrong)


def test_a_users_router_is_read_anew_when_its_file_changes(tmp_path):
    path = tmp_path / "own.py"
    text = (FIXTURES / "my_router.py").read_text()
    path.write_text(text)
    assert find_router(f"{path}:ROUTER").params == {"short": 1000.0}
    path.write_text(text.replace("1000.0", "7.0"))
    os.utime(path, ns=(1, 1))
    assert find_router(f"{path}:ROUTER").params == {"short": 7.0}
    assert find_router(f"{path}:short_first").params == {}


def test_a_users_router_survives_being_touched_and_moved(tmp_path):
    """What numba cached of a file is still of use when its time or its folder changes."""
    code = "import sys; from lmaas.replay.routernames import find_router; print(find_router(sys.argv[1]).params)"
    before, after = tmp_path / "one", tmp_path / "two"
    before.mkdir()
    shutil.copy(FIXTURES / "my_router.py", before / "own.py")
    for folder, at in ((before, 1), (before, 2), (after, 3)):
        if not folder.exists():
            before.rename(after)
        os.utime(folder / "own.py", (at, at))
        said = subprocess.run([sys.executable, "-c", code, f"{folder}/own.py:ROUTER"], capture_output=True, text=True)
        assert said.stdout == "{'short': 1000.0}\n", said.stderr


def test_a_users_router_through_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    rows = [
        "arrival_s,service,input_tokens,output_tokens",
        *(f"{k},a,{100 + 50 * (k % 40)},{10 + k % 7}" for k in range(200)),
    ]
    (tmp_path / "trace.csv").write_text("\n".join(rows) + "\n")
    command = ["evaluate", str(tmp_path / "trace.csv"), "--policy", "static(replicas=3)", "--baseline", "none"]
    command += ["--train-fraction", "0", "--json", "--router"]
    assert main([*command, f"{FIXTURES}/my_router.py:ROUTER"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["results"][0]["policy"] == "static(replicas=3)+my_router.py:ROUTER"
    assert said["results"][0]["arrived"] == 200
    assert main([*command, f"{FIXTURES}/wrong_routers.py:raises"]) == Exit.PARTIAL
    told = capsys.readouterr()
    assert "router raises raised ValueError at t=" in told.out + told.err
    assert main([*command, f"{FIXTURES}/my_router.py:NAME"]) == Exit.CONFIG


def test_the_listing_says_what_each_router_does(capsys):
    assert main(["policies", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["routers"]}
    assert set(rows) == set(ROUTERS)
    assert all(row["summary"].endswith((".", "does.")) for row in rows.values())
    assert rows["prefix-aware"]["parameters"] == "spread=16, sigmas=2"
    assert rows["weighted"]["parameters"] == "weights=[[1]]"
