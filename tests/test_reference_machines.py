"""Replicas that are lost, move requests, come and go, in the slow reference, worked out by hand."""

import pytest
from cases import same_lives
from cases_full import play_slow
from cases_kernel import play_fast
from worked_cases import NET, case_of, held, play, shape

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
