"""The slow reference on examples small enough to work out by hand.

An iteration lasts 1 s whatever is in it (base only), a block is 1 token where nothing else is said. So a request that
starts at t with its whole prompt emits its tokens at t+1, t+2, ...; at the end of iteration k it has computed
input + k - 1 tokens.
"""

import json

import pytest
from cases_full import full_cases, play_slow
from hypothesis import HealthCheck, given, settings
from worked_cases import cached, held, play, shape

# the waiting queue


def test_lower_rank_goes_first():
    """One at a time; r0 runs 0-2; then rank 1 (2-3) before rank 3 (3-4), though that came first."""
    rows, _, _ = play([(0, 1, 2), (0.5, 1, 1), (0.75, 1, 1)], shapes=[shape(max_seqs=1)], rank=[5.0, 3.0, 1.0])
    assert [r.done for r in rows] == [2, 4, 3]


@pytest.mark.parametrize(("rank", "done"), [([0.0, 2.0, 1.0], [6, 9, 7]), ([0.0, 0.0, 0.0], [6, 8, 9])])
def test_a_preempted_request_returns_to_its_place(rank, done):
    """8 blocks: at 0 3+3, at 1 4+4, at 2 r0 needs a fifth: r1, admitted last, is preempted with two tokens out.

    r0 ends at 6. Ranked, r2 (6 blocks) goes first, 6-7, and r1 (3 + 2 to recompute) emits its last two at 8 and 9.
    Unranked, r1 is before r2 by receipt: 7 and 8, then r2 8-9.
    """
    rows, _, _ = play([(0, 3, 6), (0, 3, 4), (1.5, 6, 1)], shapes=[shape(kv_tokens=8)], rank=rank)
    assert [r.done for r in rows] == done
    assert [r.preemptions for r in rows] == [0, 1, 0]


def test_arrivals_of_one_instant_go_by_request_number():
    """r0 is held and released at 3, the instant r1 arrives: r0 is received first."""
    rows, _, _ = play(
        [(0, 1, 1), (3, 1, 1)], shapes=[shape(max_seqs=1)], held=[True, False], actions={"3": [["release", 0, 1]]}
    )
    assert [r.done for r in rows] == [4, 5]
    assert rows[0].hold == 3


# the prefix cache


def test_a_hit_leaves_at_least_one_token():
    """H = 4. r1 of 8 tokens: at most floor(7/4) = 1 block; r2 of 9: floor(8/4) = 2. r0 found nothing."""
    rows, _, _ = play(
        [(0, 8, 1), (1, 8, 1), (2, 9, 1)],
        shapes=[shape(block=2)],
        hash_tokens=4,
        hashes=[[1, 2], [1, 2], [1, 2]],
    )
    assert [r.cached_tokens for r in rows] == [0, 4, 8]


def test_a_hit_is_not_computed_again():
    """2 tokens an iteration: r0's 8 take 4 iterations; r1, 6 of them found, takes one."""
    rows, _, _ = play(
        [(0, 8, 1), (4, 8, 1)], shapes=[shape(max_batch_tokens=2)], hash_tokens=2, hashes=[[1, 2, 3, 4]] * 2
    )
    assert [r.done for r in rows] == [4, 5]
    assert rows[1].cached_tokens == 6


def test_a_block_computed_twice_is_held_once():
    """H = 4, block 2: both compute the same 4 tokens, 2 + 2 blocks; from 1 they share 2; then one more each."""
    _, _, seen = play(
        [(0, 4, 3), (0, 4, 3)],
        {0.5: held, 1.0: held, 1.5: held},
        shapes=[shape(block=2)],
        hash_tokens=4,
        hashes=[[1], [1]],
    )
    assert seen == {0.5: 4, 1.0: 2, 1.5: 4}


def test_the_oldest_goes_first_and_of_it_the_deepest():
    """12 blocks, H = 2. r0 leaves {1, 2} at 1, r1 leaves {5, 6} at 2: 4 are empty. r2 takes 5: hash 2 goes.

    r3 finds hash 1 alone: 2 tokens.
    """
    rows, _, seen = play(
        [(0, 4, 1), (1, 4, 1), (2, 5, 1), (3, 5, 1)],
        {1.5: cached, 2.0: cached, 2.5: cached},
        shapes=[shape(kv_tokens=12)],
        hash_tokens=2,
        hashes=[[1, 2], [5, 6], [], [1, 2]],
    )
    assert seen == {1.5: {1, 2}, 2.0: {1, 2, 5, 6}, 2.5: {1, 5, 6}}
    assert rows[3].cached_tokens == 2


@pytest.mark.parametrize(
    ("requests", "hashes", "left"),
    [
        # {1} is let go at 1, {5, 6} at 2: the older goes, though 6 is deeper; r2 takes 7 of 6 empty ones
        ([(0, 2, 1), (1, 4, 1), (2, 7, 1)], [[1], [5, 6], []], {5, 6}),
        # {1} is let go at 1, {5} at 2, {1} again by r2 at 3: 5 goes; r3 takes 9 of 8 empty ones
        ([(0, 2, 1), (1, 2, 1), (2, 3, 1), (3, 9, 1)], [[1], [5], [1], []], {1}),
    ],
)
def test_the_least_recently_let_go_is_evicted(requests, hashes, left):
    """12 blocks, H = 2."""
    last = requests[-1][0] + 0.5
    _, _, seen = play(requests, {last: cached}, shapes=[shape(kv_tokens=12)], hash_tokens=2, hashes=hashes)
    assert seen == {last: left}


def test_pins_are_undone_where_the_rest_has_no_room():
    """8 blocks, H = 2; r0 leaves {1, 2}. r1 holds 4 from 2; r2 (7 tokens) would pin 4 and need 3 of 0: undone.

    At 3 r1 takes a fifth block: hash 2 goes. r1 ends at 4: r2 pins 2 and needs 5 of 6: it runs 4-5.
    """
    rows, _, seen = play(
        [(0, 4, 1), (1, 3, 3), (1.5, 7, 1)],
        {2.5: lambda f: (held(f), cached(f)), 3.5: lambda f: (held(f), cached(f))},
        shapes=[shape(kv_tokens=8)],
        hash_tokens=2,
        hashes=[[1, 2], [], [1, 2, 3]],
    )
    assert seen == {2.5: (4, {1, 2}), 3.5: (5, {1})}
    assert (rows[2].admitted, rows[2].done, rows[2].cached_tokens) == (4, 5, 2)


def test_a_preempted_request_finds_its_own_prefix():
    """8 blocks, H = 2: at 0 2+3, at 1 3+4, at 2 4 and no fifth for r1: preempted, hash 1 (2 blocks) stays.

    r0 ends at 5, holding 6 at most. r1: 5 tokens, 2 found; emits the third at 6, the fourth at 7.
    """
    rows, _, _ = play([(0, 2, 5), (0, 3, 4)], shapes=[shape(kv_tokens=8)], hash_tokens=2, hashes=[[], [1]])
    assert [r.done for r in rows] == [5, 7]
    assert (rows[1].preemptions, rows[1].cached_tokens, rows[1].admitted) == (1, 2, 0)


# everything at once

ENDS = {"ok", "rejected", "abandoned", "waiting", "not-sent"}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(full_cases())
def test_mixed_cases_keep_the_laws(case):
    """The conservation checks of `Fleet.check` hold after every instant; what comes out is consistent."""
    rows, fleet = play_slow(json.loads(json.dumps(case)))
    retries = case.get("clients", {"retries": 0})["retries"]
    follow = [k for k in case.get("sessions", {"next": []})["next"] if k >= 0]
    for request in rows:
        assert request.status in ENDS
        assert request.tries <= retries + 1
        if request.status == "ok":
            assert request.arrival <= request.admitted < request.first <= request.done
            assert request.generated == request.output
            assert request.arrival + request.network / 2 <= request.admitted
        else:
            assert request.done is None
        if request.status == "not-sent":
            assert request.number in follow
    for replica in fleet.replicas:
        times = [t for t, _ in replica.history]
        assert times == sorted(times)
    again = play_slow(case)[0]
    assert [(r.status, r.replica, r.done) for r in again] == [(r.status, r.replica, r.done) for r in rows]
