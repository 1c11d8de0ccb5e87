"""What a policy sees of single replicas and requests agrees with what it sees of pools, and with a case by hand."""

import numpy as np
import pytest

from lmaas.analysis.trace import TIERS
from lmaas.replay.engine import Controller, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import NOTHING, Actions

PROFILE = find_profile("llama-3.1-8b/h100/tp1")
SMALL = PROFILE.model_copy(update={"name": "small", "max_seqs": 2})


def looks(n=400, pools=2, act=lambda t, seen: NOTHING, profile=SMALL, replicas=2, deadline_s=None):
    """What was seen every second of n requests over 20 s, on `pools` pools."""
    rng = np.random.default_rng(0)
    found = []

    def look(t, seen):
        found.append((seen, seen.replicas, seen.requests))
        return act(t, seen)

    requests = Requests(
        np.sort(rng.uniform(0, 20, n)), rng.integers(0, pools, n), rng.integers(1, 3000, n), rng.integers(1, 300, n),
        np.full(n, 100.0), np.zeros(n, np.int64), tier=rng.integers(0, 3, n),
        deadline_s=deadline_s,
    )  # fmt: skip
    fleet = Fleet(tuple(Pool(f"s{p}", "r", profile) for p in range(pools)))
    outcome = Replay(requests, fleet, [replicas] * pools, controller=Controller(lambda t: t + 1.0, look)).run()
    return requests, outcome, found


def test_replicas_and_requests_add_up_to_their_pools():
    requests, _, found = looks()
    for seen, replicas, single in found:
        for p in range(2):
            mine = replicas.pool == p
            assert seen.active[p] == (mine & (replicas.state == "active")).sum()
            assert seen.waiting[p] == replicas.waiting[mine].sum() == single.by_tier("waiting", 2)[p].sum()
            assert seen.running[p] == replicas.running[mine].sum() == single.by_tier("running", 2)[p].sum()
            assert seen.outstanding_tokens[p] == pytest.approx(replicas.outstanding_tokens[mine].sum())
            assert seen.kv_fraction[p] == pytest.approx(replicas.kv_fraction[mine].mean())
        assert (single.arrival_s == requests.arrival_s[single.request]).all()
        assert (single.tier == requests.tier[single.request]).all()
        assert (single.input_tokens == requests.input_tokens[single.request]).all()
        assert (single.predicted_tokens >= 1).all() and set(single.where) <= {"waiting", "running"}
    assert max(single.by_tier("waiting", 2).sum() for _, _, single in found) > 10
    assert found[0][2].by_tier("running", 2).shape == (2, len(TIERS))


def test_deadlines_are_shown_as_given():
    _, _, found = looks()
    assert all(np.isnan(single.due_s).all() and len(single.due_s) == len(single.pool) for _, _, single in found)
    given = np.where(np.arange(400) % 3, np.arange(400) / 10, np.nan)
    for _, _, single in looks(deadline_s=given)[2]:
        np.testing.assert_array_equal(single.due_s, single.arrival_s + given[single.request])


def test_latencies_are_those_of_the_requests_that_completed_since():
    _, outcome, found = looks(pools=1)
    before = outcome.arrival_s[0]
    for seen, _, _ in found[:40]:
        done = (outcome.done_s > before) & (outcome.done_s <= seen.t)
        assert seen.completions[0] == done.sum()
        if done.any():
            assert seen.mean_ttft_s[0] == pytest.approx((outcome.first_s - outcome.arrival_s)[done].mean())
            assert seen.mean_e2e_s[0] == pytest.approx((outcome.done_s - outcome.arrival_s)[done].mean())
        else:
            assert np.isnan(seen.mean_ttft_s[0])
        before = seen.t


def test_a_policy_moves_the_requests_it_sees():
    """Half of what waits on replica 0 goes to replica 1."""

    def act(t, seen):
        single = seen.requests
        here = single.request[(single.where == "waiting") & (single.replica == 0)]
        return Actions(migrate=[(int(q), 0, 1) for q in here[: len(here) // 2]])

    _, outcome, found = looks(pools=1, act=act)
    assert (outcome.status == 1).all()
    waiting = [replicas.waiting.tolist() for _, replicas, _ in found]
    assert sum(first for first, _ in waiting) < sum(second for _, second in waiting)


def test_they_are_seen_within_the_tick_only():
    _, _, found = looks(n=20)
    with pytest.raises(LookupError, match="during the tick"):
        _ = found[0][0].requests


def test_replicas_that_start_and_drain_are_told():
    def act(t, seen):
        return Actions({0: 3 if t < 3 else 1})

    _, _, found = looks(pools=1, act=act, replicas=1, profile=PROFILE)
    states = {state for _, replicas, _ in found for state in replicas.state}
    assert {"starting", "active"} <= states
    assert all(replicas.replica.tolist() == sorted(replicas.replica.tolist()) for _, replicas, _ in found)
    assert found[0][1].profile.tolist() == [PROFILE.name]


def test_what_is_not_sent_yet_is_not_seen():
    """The next turn of a session is on its way in the replay while its user thinks; no policy knows of it."""
    found = []

    def look(t, seen):
        found.append((t, seen.requests.request.tolist()))
        return NOTHING

    one = np.ones(2, np.int64)
    session = {"follow": np.array([1, -1]), "think_s": np.array([0.0, 5.0])}
    requests = Requests(np.array([0.0, 1.0]), 0 * one, 100 * one, 10 * one, 10.0 * one, 0 * one, **session)
    fleet = Fleet((Pool("s", "r", PROFILE),))
    outcome = Replay(requests, fleet, [1], controller=Controller(lambda t: t + 0.01, look)).run()
    sent = outcome.done_s[0] + 5.0
    assert outcome.arrival_s[1] == sent
    assert {t > sent for t, seen in found if 1 in seen} == {True}
    assert [seen for t, seen in found if 1 < t < sent] == [[]] * sum(1 < t < sent for t, _ in found)
