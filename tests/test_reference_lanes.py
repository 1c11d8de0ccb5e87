"""Prefill and decode lanes in the slow reference, worked out by hand. An iteration lasts 1 s, a block is 1 token."""

from worked_cases import play, shape

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
