"""Clients that give up, and the regions that serve them, in the slow reference, worked out by hand."""

from cases_kernel import play_fast
from worked_cases import NET, case_of, held, play, shape, waiting

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
