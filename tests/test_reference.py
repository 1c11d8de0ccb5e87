"""The slow reference on examples small enough to work out by hand.

An iteration lasts 1 s whatever is in it (base only), a block is 1 token where nothing else is said. So a request that
starts at t with its whole prompt emits its tokens at t+1, t+2, ...; at the end of iteration k it has computed
input + k - 1 tokens.
"""

import json

import pytest
from cases import same_lives
from cases_full import full_cases, play_slow
from cases_kernel import play_fast
from hypothesis import HealthCheck, given, settings

PLAIN = {
    "base": 1.0, "token_knots": [0], "token_slopes": [0.0], "attn_pair": 0.0, "prefix_kv": 0.0, "decode_seq": 0.0,
    "decode_kv": 0.0,
}  # fmt: skip


def shape(base=1.0, **more):
    wide = {"kv_tokens": 100, "block": 1, "max_batch_tokens": 1000, "max_seqs": 8}
    return {"latency": {**PLAIN, "base": base}, **wide, **more}


def case_of(requests, shapes=None, counts=(1,), ticks=None, startup=0.0, **more):
    """The case of requests [(arrival, input, output) or (arrival, pool, input, output)]."""
    predicted = more.pop("predicted", [1] * len(requests))
    rows = [
        [float(r[0]), r[1] if len(r) == 4 else 0, r[-2], r[-1], p, 0] for r, p in zip(requests, predicted, strict=True)
    ]
    return {
        "shapes": shapes or [shape() for _ in counts],
        "requests": rows,
        "counts": list(counts),
        "ticks": ticks or {},
        "startup": startup,
        "router": "round-robin",
        **more,
    }


def play(requests, looks=None, **more):
    """(requests, fleet, seen): of the case; looks {time: function of the fleet}, seen what they returned."""
    case = case_of(requests, **more)
    seen = {}

    def look(at, read):
        return lambda fleet: seen.update({at: read(fleet)})

    done, fleet = play_slow(case, {at: look(at, read) for at, read in (looks or {}).items()})
    return done, fleet, seen


def held(fleet, index=0):
    return fleet.replicas[index].held


def cached(fleet):
    return set(fleet.replicas[0].kv.present)


def waiting(fleet):
    return len(fleet.replicas[0].waiting)


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


# lanes

LANES = ["prefill", "decode"]
SLOW = {"kv_bytes_per_token": 64.0, "bandwidth": 1024.0}  # 1/16 s a token


def test_a_request_is_handed_over_at_its_first_token():
    """4 prompt tokens, 0-1; their KV takes 1/4 s; the second and third token at 2.25 and 3.25 on the other side."""
    rows, _, seen = play(
        [(0, 4, 3)],
        {1.0: lambda f: [r.held for r in f.replicas], 1.5: lambda f: [r.held for r in f.replicas]},
        shapes=[shape(**SLOW), shape()],
        counts=(1, 1),
        lanes=LANES,
    )
    assert (rows[0].first, rows[0].transfer, rows[0].done) == (1, 0.25, 3.25)
    assert (rows[0].pool, rows[0].prefilled, rows[0].preemptions) == (1, (0, 0), 0)
    assert seen == {1.0: [4, 0], 1.5: [0, 5]}


def test_an_output_of_one_token_does_not_travel():
    rows, _, _ = play([(0, 4, 1)], counts=(1, 1), lanes=LANES)
    assert (rows[0].pool, rows[0].done, rows[0].prefilled) == (0, 1, None)


def test_kv_waits_in_host_memory_for_a_decode_replica():
    """Landed at 1.25 with nobody there; a replica comes at 5 and needs one iteration for the second token."""
    rows, _, seen = play(
        [(0, 4, 2)],
        {2.0: lambda f: [r.held for r in f.replicas]},
        shapes=[shape(**SLOW), shape()],
        counts=(1, 0),
        lanes=LANES,
        ticks={"5": [1, 1]},
    )
    assert (rows[0].transfer, rows[0].done, seen[2.0]) == (0.25, 6, [0])


def test_a_decode_replica_recomputes_who_it_preempts():
    """8 blocks: both land at 1 with 3 tokens, hold 4 each until 2; r0 needs a fifth, so r1 goes; r0 ends at 4.

    r1 has two tokens out: 3 + 2 to recompute at 4, its third token at 5, its fourth at 6.
    """
    rows, _, _ = play([(0, 3, 4), (0, 3, 4)], shapes=[shape(), shape(kv_tokens=8)], counts=(1, 1), lanes=LANES)
    assert [r.done for r in rows] == [4, 6]
    assert [r.preemptions for r in rows] == [0, 1]


def test_what_no_decode_replica_can_hold_is_rejected_before_its_prompt_is_computed():
    """4 blocks on the decode side hold 2 + 3 - 1 tokens, not 3 + 3 - 1; on the prefill side 5 prompt tokens fit."""
    small = [shape(kv_tokens=5), shape(kv_tokens=4)]
    rows, _, _ = play([(0, 2, 3), (0, 3, 3), (0, 5, 1), (0, 6, 1)], shapes=small, counts=(1, 1), lanes=LANES)
    assert [(r.status, r.pool) for r in rows] == [("ok", 1), ("rejected", 0), ("ok", 0), ("rejected", 0)]


def test_a_prefill_replica_holds_prompts_alone():
    """4 blocks there are enough for a prompt of 4, whatever comes after it."""
    rows, _, _ = play([(0, 4, 9)], shapes=[shape(kv_tokens=4), shape()], counts=(1, 1), lanes=LANES)
    assert (rows[0].first, rows[0].done) == (1, 9)


def test_after_a_fault_of_the_decode_side_the_prompt_is_computed_again():
    """Lost at 2.5 with two tokens out; prefill again 2.5-3.5, the other decode replica 3.5-5.5."""
    rows, _, _ = play([(0, 2, 3)], counts=(1, 2), lanes=LANES, faults=[[2.5, "replica", 1, 0]])
    assert (rows[0].restarts, rows[0].first, rows[0].done, rows[0].replica) == (1, 3.5, 5.5, 1)


def test_the_nearest_region_with_a_decode_pool_that_is_up():
    """From region 0: region 2 is 1/4 s away, region 1 1/2 s; r1 is handed over at 4, when region 2 is down."""
    rows, _, _ = play(
        [(0, 0, 2, 2), (3, 0, 2, 2)],
        counts=(1, 1, 1),
        lanes=["prefill", "decode", "decode"],
        pool_service=[0, 0, 0],
        pool_region=[0, 1, 2],
        service=[0, 0],
        latency_s=[[0, 0.5, 0.25], [0.5, 0, 0], [0.25, 0, 0]],
        faults=[[3.5, "region", 2, 9.0]],
    )
    assert [(r.pool, r.transfer, r.done, r.network) for r in rows] == [(2, 0.25, 2.25, 0), (1, 0.5, 5.5, 0)]


def test_a_hand_over_releases_held_requests():
    """r1 is held until r0 leaves the prefill lane at 1; both then decode."""
    rows, _, _ = play([(0, 1, 5), (0, 1, 2)], counts=(1, 1), lanes=LANES, held=[False, True], release=[0.0, 1.0])
    assert [(r.hold, r.done) for r in rows] == [(0, 5), (1, 3)]


def test_a_draining_prefill_replica_waits_for_its_transfers():
    """Drained at 1, with KV on its way until 1.25."""
    _, fleet, _ = play([(0, 4, 3)], shapes=[shape(**SLOW), shape()], counts=(1, 1), lanes=LANES, ticks={"1": [0, 1]})
    assert fleet.replicas[0].off == 1.25


def test_a_prefill_lane_expects_one_token():
    """Predicted 9 tokens: 2 + 1 outstanding where the prompt is computed; 9 - 1 where it decodes."""
    _, _, seen = play(
        [(0, 2, 3)],
        {0.5: lambda f: f.replicas[0].outstanding(), 1.5: lambda f: f.replicas[1].outstanding()},
        counts=(1, 1),
        lanes=LANES,
        predicted=[9],
    )
    assert seen == {0.5: 3, 1.5: 8}


# clients


def test_a_waiting_request_is_abandoned():
    """r0 runs 0-10, one at a time; r1, sent at 1, has waited 3 s at 4."""
    rows, _, seen = play(
        [(0, 1, 10), (1, 1, 1)],
        {3.5: waiting, 4.5: waiting},
        shapes=[shape(max_seqs=1)],
        clients={"timeout_s": 3.0, "retries": 0, "backoff_s": 0.0, "factor": 1.0},
    )
    assert [r.status for r in rows] == ["ok", "abandoned"]
    assert seen == {3.5: 1, 4.5: 0}


def test_a_token_at_the_end_of_patience_is_seen():
    """Iterations end before clients give up."""
    rows, _, _ = play([(0, 1, 1)], clients={"timeout_s": 1.0, "retries": 0, "backoff_s": 0.0, "factor": 1.0})
    assert rows[0].status == "ok"


def test_a_running_request_leaves_when_its_iteration_ends():
    """8 prompt tokens, 2 an iteration: at 1.5 two computed, two more planned: 4 blocks until 2, when nothing is left.

    r1 waits behind it (one at a time) and runs from 2.
    """
    rows, _, seen = play(
        [(0, 8, 1), (1.5, 2, 1)],
        {1.75: held, 2.0: held},
        shapes=[shape(max_batch_tokens=2, max_seqs=1)],
        clients={"timeout_s": 1.5, "retries": 0, "backoff_s": 0.0, "factor": 1.0},
    )
    assert [r.status for r in rows] == ["abandoned", "ok"]
    assert rows[0].first is None
    assert seen == {1.75: 4, 2.0: 0}
    assert rows[1].done == 3


def test_a_request_between_iterations_leaves_at_once():
    """Patience ends at 2, as the second of four iterations does: no third one."""
    _, _, seen = play(
        [(0, 8, 1), (3, 1, 1)],
        {2.5: held},
        shapes=[shape(max_batch_tokens=2)],
        clients={"timeout_s": 2.0, "retries": 0, "backoff_s": 0.0, "factor": 1.0},
    )
    assert seen == {2.5: 0}


def test_a_replay_lasts_until_the_last_client_has_given_up():
    """Eight iterations of 1 s; patience ends in the third, whose end nobody waits for: two count as busy."""
    case = case_of([(0, 8, 1)], shapes=[shape(max_batch_tokens=1)], clients={"timeout_s": 2.5})
    outcome, _ = play_fast(case)
    assert outcome.busy_s.tolist() == [2.0]
    assert outcome.end_s == 2.5 and outcome.spans["to_s"].to_list() == [2.5]


def test_it_tries_again_while_the_first_try_still_runs():
    """8 prompt tokens, 4 an iteration: gives up at 1.5, sends at 1.75; the first try stays until 2, emits nothing."""
    rows, _, seen = play(
        [(0, 8, 1)],
        {1.875: lambda f: f.replicas[0].requests(), 2.0: lambda f: f.replicas[0].requests()},
        shapes=[shape(max_batch_tokens=4)],
        clients={"timeout_s": 1.5, "retries": 1, "backoff_s": 0.25, "factor": 1.0},
    )
    assert seen == {1.875: 2, 2.0: 1}
    # second try: 2-3 and 3-4, but patience ends at 1.75 + 1.5 = 3.25
    assert (rows[0].status, rows[0].tries, rows[0].first, rows[0].admitted) == ("abandoned", 2, None, 2)


RETRY = {"timeout_s": 2.0, "retries": 2, "backoff_s": 1.0, "factor": 3.0}


def test_back_off_grows():
    """Sent 1, gives up 3, sent 3 + 1·3^0 = 4, gives up 6, sent 6 + 1·3^1 = 9, gives up 11."""
    times = [3.5, 4.5, 6.5, 8.5, 9.5, 11.5]
    rows, _, seen = play(
        [(0, 1, 20), (1, 1, 1)], dict.fromkeys(times, waiting), shapes=[shape(max_seqs=1)], clients=RETRY
    )
    assert [seen[t] for t in times] == [0, 1, 0, 0, 1, 0]
    assert (rows[1].status, rows[1].tries) == ("abandoned", 3)


def test_a_later_try_succeeds():
    """r0 ends at 10; the third try, sent at 9, runs 10-11, just in time."""
    rows, _, _ = play([(0, 1, 10), (1, 1, 1)], shapes=[shape(max_seqs=1)], clients=RETRY)
    assert (rows[1].status, rows[1].tries, rows[1].admitted, rows[1].done) == ("ok", 3, 10, 11)


# sessions


def test_the_next_turn_waits_for_the_one_before():
    """r0 ends at 2; 1.5 s of thought: r1 arrives at 3.5. r2 is rejected (101 blocks), so r3 is never sent."""
    rows, _, _ = play(
        [(0, 1, 2), (0, 1, 1), (0, 101, 1), (0, 1, 1)],
        sessions={"next": [1, -1, 3, -1], "think_s": [0.0, 1.5, 0.0, 1.0]},
    )
    assert [r.status for r in rows] == ["ok", "ok", "rejected", "not-sent"]
    assert (rows[1].arrival, rows[1].done) == (3.5, 4.5)


# faults


def test_a_lost_replica_s_requests_start_again():
    """r0 on replica 0 has two tokens at 2.5; on replica 1 it starts when the iteration there ends, at 3: 4 to 7."""
    rows, fleet, _ = play([(0, 1, 4), (0, 1, 4)], counts=[2], faults=[[2.5, "replica", 0, 0]])
    assert (rows[0].restarts, rows[0].replica, rows[0].first, rows[0].done) == (1, 1, 4, 7)
    assert (rows[1].restarts, rows[1].done) == (0, 4)
    assert (fleet.replicas[0].state, fleet.replicas[0].off) == ("off", 2.5)


def test_an_iteration_that_ends_as_the_replica_is_lost_counts():
    rows, _, _ = play([(0, 1, 4)], faults=[[4.0, "replica", 0, 0]])
    assert (rows[0].status, rows[0].done, rows[0].restarts) == ("ok", 4, 0)


def test_busy_time_ends_with_the_replica():
    """Lost as an iteration ends, it was busy up to then, once; with one in progress, for the part of it."""
    for at, busy_s in ((1.0, 1.0), (1.5, 1.5), (2.0, 2.0)):
        case = case_of([(0, 1, 4)], faults=[[at, "replica", 0, 0]])
        outcome, _ = play_fast(case)
        assert outcome.busy_s.tolist() == [busy_s]


NET = {"pool_service": [0, 0], "pool_region": [0, 1], "latency_s": [[0.0, 1.0], [1.0, 0.0]]}


def test_a_lost_region_starts_nothing_until_it_returns():
    """Region 0 is down 4-10. r0 restarts in region 1, there at 5: 6 to 15. r1, sent at 5, is there at 6: 7.

    Scaling at 6 is denied; at 10 a start takes 2 s; r2, sent at 11, is at home again and waits until 12.
    """
    rows, fleet, _ = play(
        [(0, 1, 10), (5, 1, 1), (11, 1, 1)],
        counts=[1, 1],
        startup=2.0,
        **NET,
        service=[0, 0, 0],
        origin=[0, 0, 0],
        faults=[[4.0, "region", 0, 10.0]],
        actions={"6": [["scale", 0, 1]], "10": [["scale", 0, 1]]},
    )
    assert [(r.pool, r.replica, r.done, r.network, r.restarts) for r in rows] == [
        (1, 0, 15, 2, 1),
        (1, 0, 7, 2, 0),
        (0, 1, 13, 0, 0),
    ]
    assert fleet.denied == {0: 1}
    assert fleet.find(0, 1).spans() == [("starting", 10, 12), ("active", 12, None)]


@pytest.mark.parametrize(
    ("until", "expected"), [(9.0, [(2, 4, 5, 1), (2, 4, 4, 0)]), (1.0, [(1, 2, 3, 0), (1, 2, 3, 0)])]
)
def test_a_request_on_its_way_to_a_lost_region_starts_again(until, expected):
    """r0 is in region 1 at 1: down since 0.5, so it starts again from its origin, like r1, sent at 1: in region 2 at 3.

    Where region 1 is up again by then, with a new replica, r0 runs there 1-3, and r1 from 2.
    """
    case = case_of(
        [(0, 1, 2), (1, 1, 1)],
        counts=[0, 1, 1],
        pool_service=[1, 0, 0],
        pool_region=[0, 1, 2],
        latency_s=[[0, 1, 2], [1, 0, 1], [2, 1, 0]],
        service=[0, 0],
        origin=[0, 0],
        faults=[[0.5, "region", 1, until]],
        actions={"1": [["scale", 1, 1]]},
    )
    rows, fleet = play_slow(case)
    outcome, _ = play_fast(case)
    assert [(r.pool, r.network, r.done, r.restarts) for r in rows] == expected
    found = zip(outcome.pool, outcome.network_s, outcome.done_s, outcome.restarts, strict=True)
    assert list(found) == expected
    same_lives(fleet, outcome)


@pytest.mark.parametrize("rule", [["home"], ["threshold", 0.5]])
def test_a_request_whose_every_region_is_down_waits_where_it_comes(rule):
    """One region has the service, down 0.5-5; r0 is there at 1; a replica comes at 6 and serves it until 7."""
    rows, _, _ = play(
        [(0, 1, 1)],
        counts=[0, 1],
        **{**NET, "pool_service": [1, 0]},
        service=[0],
        origin=[0],
        region_rule=rule,
        faults=[[0.5, "region", 1, 5.0]],
        actions={"6": [["scale", 1, 1]]},
    )
    assert (rows[0].network, rows[0].done, rows[0].restarts) == (2, 7, 0)


# regions


def test_threshold_takes_the_nearest_pool_below():
    """10 blocks each, threshold 0.5. r0 holds 5 of pool 0 from 0: 0.5 is not below, so r1, at 0.5, goes to pool 1.

    It is there at 1.5: 8 blocks. At 2, before an iteration starts, pool 0 holds 6: r2 goes to the lower, 0.
    """
    rows, _, _ = play(
        [(0, 5, 6), (0.5, 8, 3), (2, 1, 1)],
        shapes=[shape(kv_tokens=10)] * 2,
        counts=[1, 1],
        **NET,
        service=[0, 0, 0],
        origin=[0, 0, 0],
        region_rule=["threshold", 0.5],
    )
    assert [(r.pool, r.network, r.first) for r in rows] == [(0, 0, 1), (1, 2, 2.5), (0, 0, 3)]


def test_home_goes_abroad_only_where_home_has_no_pool():
    """Service 1 lives in region 1 only."""
    rows, _, _ = play(
        [(0, 1, 1), (0, 1, 1)],
        counts=[1, 1],
        **{**NET, "pool_service": [0, 1]},
        service=[0, 1],
        origin=[0, 0],
    )
    assert [(r.pool, r.network, r.done) for r in rows] == [(0, 0, 1), (1, 2, 2)]


# holding


def test_completions_release_by_two_thresholds():
    """10 blocks, thresholds 0.3 and 0.6; r2, r3, r4 are held from 0.5.

    r0 ends at 2: r1 holds 5 blocks, 0.5: one, r2, runs 2-3. It ends at 3: r1 holds 6, 0.6 is not below: none.
    r1 ends at 6: 0: two, r3 and r4, run 6-7.
    """
    rows, _, _ = play(
        [(0, 2, 2), (0, 4, 6), (0.5, 1, 1), (0.5, 1, 1), (0.5, 1, 1)],
        shapes=[shape(kv_tokens=10)],
        held=[False, False, True, True, True],
        release=[0.3, 0.6],
    )
    assert [r.done for r in rows] == [2, 6, 3, 7, 7]
    assert [r.hold for r in rows] == [0, 0, 1.5, 5.5, 5.5]


def test_the_policy_releases_in_rank_order():
    """Nothing else releases: r0 (rank 2) waits for ever."""
    rows, _, _ = play([(0, 1, 1), (0, 1, 1)], held=[True, True], rank=[2.0, 1.0], actions={"3": [["release", 0, 1]]})
    assert [r.status for r in rows] == ["waiting", "ok"]
    assert (rows[1].done, rows[1].hold) == (4, 3)


def test_a_held_request_gives_up_too():
    rows, fleet, _ = play(
        [(0, 1, 1)], held=[True], clients={"timeout_s": 3.0, "retries": 0, "backoff_s": 0.0, "factor": 1.0}
    )
    assert (rows[0].status, rows[0].hold) == ("abandoned", 3)
    assert fleet.holds == {0: []}


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


# migrating

WIRE = {"kv_bytes_per_token": 64.0, "bandwidth": 64.0}  # a token a second


def test_a_running_request_takes_its_kv_along():
    """Asked at 1.5, leaves at 2 with 5 tokens computed: 5 s. Its 5 blocks at the source stay until 7.

    There it goes on: third token at 8, fourth at 9.
    """
    rows, _, seen = play(
        [(0, 4, 4)],
        {6.5: lambda f: (held(f, 0), held(f, 1)), 7.5: lambda f: (held(f, 0), held(f, 1))},
        shapes=[shape(max_batch_tokens=4, **WIRE)],
        counts=[2],
        actions={"1.5": [["migrate", 0, 0, 1]]},
    )
    assert seen == {6.5: (5, 0), 7.5: (0, 6)}
    assert (rows[0].replica, rows[0].first, rows[0].done, rows[0].admitted) == (1, 1, 9, 0)


def test_a_waiting_request_leaves_at_once_without_kv():
    """One at a time; r2 waits behind r0 until 2.5, when it is on the idle replica 1 in no time: 2.5-3.5."""
    rows, _, _ = play(
        [(0, 4, 10), (0, 4, 1), (0, 4, 1)],
        shapes=[shape(max_seqs=1, **WIRE)],
        counts=[2],
        actions={"2.5": [["migrate", 2, 0, 1]]},
    )
    assert (rows[2].replica, rows[2].done) == (1, 3.5)


def test_a_target_that_is_gone_costs_the_kv():
    """As above, but replica 1 is off from 3: at 7 r0 is routed to replica 0 and computes 4 + 2 tokens anew, 4 an
    iteration: third token at 9, fourth at 10.
    """
    rows, _, _ = play(
        [(0, 4, 4)],
        shapes=[shape(max_batch_tokens=4, **WIRE)],
        counts=[2],
        actions={"1.5": [["migrate", 0, 0, 1]], "3": [["scale", 0, 1]]},
    )
    assert (rows[0].replica, rows[0].done) == (0, 10)


def test_a_draining_source_waits_for_the_transfer():
    """It holds the blocks until 7."""
    _, fleet, _ = play(
        [(0, 4, 4), (0, 1, 20)],
        shapes=[shape(**WIRE)],
        counts=[2],
        actions={"1.5": [["migrate", 0, 0, 1]], "3": [["scale", 0, 1]]},
    )
    assert fleet.replicas[0].spans() == [("active", 0, 3), ("draining", 3, 7)]


# machines

LATE = (20, 1, 1)  # keeps the fleet alive
START = {"cold": 2.0, "warm": 0.5, "swap": 1.0}


def test_a_donated_replica_comes_back_warm():
    """The younger of two idle ones is donated at 1 and taken back at 5."""
    _, fleet, _ = play(
        [(0, 1, 1), LATE],
        counts=[2],
        startup=START,
        actions={"1": [["donate", 0, 1]], "5": [["scale", 0, 2]]},
    )
    back = fleet.find(0, 1)
    assert back.spans() == [("active", 0, 1), ("donated", 1, 5), ("starting", 5, 5.5), ("active", 5.5, None)]
    assert back.donated() == [(1, 5)]
    assert len(fleet.replicas) == 2


def test_a_busy_replica_drains_before_it_is_donated():
    """Both have one request, replica 1 is the younger; its request ends at 3."""
    _, fleet, _ = play([(0, 9, 9), (0, 1, 3), LATE], counts=[2], actions={"1.5": [["donate", 0, 1]]})
    assert fleet.find(0, 1).spans() == [("active", 0, 1.5), ("draining", 1.5, 3), ("donated", 3, None)]


def test_starting_replicas_are_cancelled_before_idle_ones_drain():
    """Replica 0 starts until 2, reshaped; replica 1, the younger, has nothing to do at 1.5 and stays all the same."""
    case = case_of(
        [(0, 1, 1), LATE],
        shapes=[shape(), shape(0.5)],
        counts=[2],
        startup=START,
        actions={"1": [["reshape", 0, 0, 1]], "1.5": [["scale", 0, 1]]},
    )
    _, fleet = play_slow(case)
    assert fleet.find(0, 0).spans() == [("active", 0, 1), ("starting", 1, 1.5)]
    assert fleet.find(0, 1).spans() == [("active", 0, None)]
    same_lives(fleet, play_fast(case)[0])


def test_another_pool_s_donated_machine_is_swapped():
    """Two machines of type A, both taken; pool 1 donates its own at 1; pool 0 gets it at 5, ready at 6."""
    a = shape(gpu="A", gpus=1)
    _, fleet, _ = play(
        [(0, 1, 1), LATE],
        shapes=[a, a],
        counts=[1, 1],
        startup=START,
        inventory={"0": {"A": 2}},
        actions={"1": [["donate", 1, 1]], "5": [["scale", 0, 2]]},
    )
    assert fleet.find(1, 0).spans() == [("active", 0, 1), ("donated", 1, 5)]
    assert fleet.find(0, 1).spans() == [("starting", 5, 6), ("active", 6, None)]
    assert fleet.denied == {}


def test_what_finds_no_machine_is_denied():
    """Two of type A, one taken: of three more one starts cold, 5-7."""
    _, fleet, _ = play(
        [(0, 1, 1), LATE],
        shapes=[shape(gpu="A", gpus=1)],
        startup=START,
        inventory={"0": {"A": 2}},
        actions={"5": [["scale", 0, 4]]},
    )
    assert fleet.denied == {0: 2}
    assert fleet.find(0, 1).spans() == [("starting", 5, 7), ("active", 7, None)]


def test_a_reshaped_replica_keeps_its_number():
    """It drains until 3, swaps for 1 s and then takes half a second an iteration: r1, waiting since 3.5, runs 4-4.5."""
    rows, fleet, _ = play(
        [(0, 1, 3), (3.5, 1, 1)],
        shapes=[shape(), shape(0.5)],
        startup=START,
        actions={"1.5": [["reshape", 0, 0, 1]]},
    )
    assert [(r.replica, r.done) for r in rows] == [(0, 3), (0, 4.5)]
    assert fleet.find(0, 0).spans() == [
        ("active", 0, 1.5),
        ("draining", 1.5, 3),
        ("starting", 3, 4),
        ("active", 4, None),
    ]


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
