"""The map of KV to come that a policy sees equals PreServe's ring, walked; its laws; and it costs others nothing."""

import os

import numpy as np
import pytest
from cases_full import FEATURES, full_cases, play_slow
from cases_kernel import play_fast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_anticipator import anticipators, artifact, paper
from test_kernel import pressed

from lmaas.replay.anticipation import Anticipation
from lmaas.replay.engine import Controller, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile
from lmaas.replay.protocol import NOTHING

EXAMPLES = 10 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 40
RULES = {"paper": paper, "artifact": artifact}
CHOICES = [name for name in FEATURES if name != "holder"]
STEADY = Latency(base=1.0, token_knots=[0], token_slopes=[0.0])  # an iteration a second


def check(case, times, horizon, extension):
    """Tokens of KV that were anticipated, over all looks."""
    slow, fast = {}, {}

    def seen_slow(fleet):
        for replica in fleet.replicas:
            rings[id(replica)].sync(replica)
        return {(r.pool, r.index): rings[id(r)].slots(horizon) for r in fleet.replicas if r.state == "active"}

    def seen_fast(replay, t):
        seen = replay.look(t).replicas
        capacity = {r.name: r.kv_tokens // r.block * r.block for r in replay.world.profiles}
        tokens = [[x * capacity[name] for x in row] for name, row in zip(seen.profile, seen.ahead, strict=True)]
        rows = zip(seen.pool, seen.replica, seen.state, tokens, strict=True)
        fast[t] = {(int(p), int(i)): row for p, i, state, row in rows if state == "active"}

    with anticipators(RULES[extension]) as rings:
        play_slow(case, {t: lambda fleet: slow.update({fleet.now: seen_slow(fleet)}) for t in times})
    play_fast(case, looks=dict.fromkeys(times, seen_fast), anticipation=Anticipation(horizon, extension))
    for t in set(slow) & set(fast):
        assert slow[t].keys() == fast[t].keys(), t
        for replica, slots in slow[t].items():
            assert fast[t][replica] == pytest.approx(slots, abs=1e-6), (t, replica)
    return sum(sum(map(sum, rows.values())) for rows in slow.values())


@st.composite
def looked_at(draw):
    case = draw(full_cases(sorted(draw(st.sets(st.sampled_from(CHOICES))))))
    times = draw(st.lists(st.integers(1, 200), min_size=1, max_size=8, unique=True))
    return case, [x / 8 for x in times], draw(st.sampled_from([1, 2, 5, 40])), draw(st.sampled_from(sorted(RULES)))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False)
@given(looked_at())
def test_the_map_equals_the_ring_walked(given):
    check(*given)


@pytest.mark.parametrize("extension", RULES)
def test_the_map_equals_the_ring_where_predictions_are_outlived_and_requests_preempted(extension):
    case = pressed(3) | {"router": "preserve"}  # whose own extension plays no part
    assert check(case, [3.0, 5.5, 6.0, 12.0, 19.9, 24.5, 31.0, 40.0], 100, extension) > 10_000


def looks(rows, extension="paper", horizon=8, kv=100, every=1.0):
    """{t: slots in tokens} on one replica; rows: (arrival_s, prompt, answer, prediction)."""
    found = {}
    profile = Profile(name="p", kv_tokens=kv, block=1, max_batch_tokens=64, max_seqs=8, latency=STEADY)

    def act(t, seen):
        found[t] = (seen.replicas.ahead[0] * kv).round(9).tolist()
        return NOTHING

    arrival, *lengths, predicted = (np.array(x) for x in zip(*rows, strict=True))
    zeros = np.zeros(len(rows), np.int64)
    requests = Requests(arrival.astype(float), zeros, *lengths, predicted.astype(float), zeros)
    controller = Controller(lambda t: t + every, act)
    asked = Anticipation(horizon, extension)
    Replay(requests, Fleet((Pool("s", "r", profile),)), [1], controller=controller, anticipation=asked).run()
    return found


def test_one_request_by_hand():
    """A prompt of 5, an answer of 4, known: prefilled after a second, then a token a second."""
    found = looks([(0.0, 5, 4, 4), (20.0, 1, 1, 1)])
    assert found[1.0] == [5, 6, 7, 8, 0, 0, 0, 0]
    assert found[2.0] == [6, 7, 8, 0, 0, 0, 0, 0]
    assert found[3.0] == [7, 8, 0, 0, 0, 0, 0, 0]
    assert found[4.0] == [0] * 8  # done


def test_early_and_late_finish_by_hand():
    found = looks([(0.0, 5, 2, 6), (20.0, 1, 1, 1)])
    assert (found[1.0], found[2.0]) == ([5, 6, 7, 8, 9, 10, 0, 0], [0] * 8)
    found = looks([(0.0, 5, 9, 6), (20.0, 1, 1, 1)])  # a fifth of six: two more tokens
    assert found[5.0] == [9, 10, 0, 0, 0, 0, 0, 0]  # its fifth token
    assert found[6.0] == [10, 11, 12, 0, 0, 0, 0, 0]  # its sixth, and it goes on
    assert found[7.0] == [11, 12, 0, 0, 0, 0, 0, 0]
    assert found[8.0] == [12, 13, 14, 0, 0, 0, 0, 0]
    assert found[9.0] == [0] * 8


def test_the_artifact_waits_ten_tokens_and_gives_thirty():
    found = looks([(0.0, 5, 40, 3), (60.0, 1, 1, 1)], "artifact", horizon=40)
    assert [len([x for x in found[t] if x]) for t in (1.0, 3.0, 4.0, 12.0, 13.0, 14.0)] == [3, 1, 0, 0, 21, 20]
    assert found[13.0][:2] == [17, 18]  # the KV that is there


def drawn(n=300, error=0.0, seed=5):
    rng = np.random.default_rng(seed)
    answer = rng.integers(1, 60, n)
    said = np.maximum(1, np.rint(answer * np.exp(error * rng.standard_normal(n))))
    return list(zip(np.sort(rng.uniform(0, 100, n)), rng.integers(1, 20, n), answer, said, strict=True))


def test_with_true_lengths_the_first_slot_is_the_kv_that_is_there():
    """Thirty at once, prefilled in one iteration; the map then foretells every iteration until they have gone."""
    rows = [(0.0, int(p), int(d), int(d)) for _, p, d, _ in drawn(30)]
    held, ahead = {}, {}
    profile = Profile(name="p", kv_tokens=3000, block=1, max_batch_tokens=640, max_seqs=30, latency=STEADY)

    def act(t, seen):
        held[t], ahead[t] = seen.kv_fraction[0] * 3000, seen.replicas.ahead[0] * 3000
        return NOTHING

    arrival, *lengths, predicted = (np.array(x) for x in zip(*rows, strict=True))
    zeros = np.zeros(len(rows), np.int64)
    requests = Requests(arrival, zeros, *lengths, predicted.astype(float), zeros)
    fleet, controller = Fleet((Pool("s", "r", profile),)), Controller(lambda t: t + 1.0, act)
    Replay(requests, fleet, [1], controller=controller, anticipation=Anticipation(60)).run()
    assert len(held) > 50
    for t, kv in held.items():
        assert ahead[t][0] == pytest.approx(kv), t
    for j in range(1, len(held)):  # a slot counts those that end with its iteration, too
        ending = sum(p + d - 1 for _, p, d, _ in rows if d == j + 1)
        assert ahead[1.0][j] == pytest.approx(held.get(1.0 + j, 0.0) + ending), j


@pytest.mark.parametrize("extension", ["paper", "artifact", "expected"])
def test_the_map_is_empty_once_all_requests_ended(extension):
    rows = [*drawn(error=0.8), (3000.0, 1, 1, 1)]
    found = looks(rows, extension, horizon=120, kv=400)
    assert max(slots[0] for slots in found.values()) > 50
    assert found[max(t for t in found if t < 3000)] == [0.0] * 120


def test_nothing_is_made_where_no_policy_asks():
    case = pressed(1, n=20)
    _, replay = play_fast(case)
    assert replay.st.coming.size == 1
    assert replay.look(1.0).replicas.ahead.shape[1] == 0


@pytest.mark.parametrize("wrong", [{"iterations": -1}, {"iterations": 2.5}, {"iterations": 20_000}, {"extension": "x"}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"iterations ahead|extension is"):
        Anticipation(**wrong)
