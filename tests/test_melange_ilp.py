"""Mélange's ILP: the cheapest counts by brute force, its room by the flow; and by hand."""

import ctypes
import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.policies.melange.ilp import Problem, cheapest
from lmaas.policies.oserve.flow import assign
from lmaas.policies.quiet import quiet

few = settings(max_examples=60, deadline=None)


def problem(capacity, demand, price, rows=(), low=(), high=()):
    shapes = len(price)
    return Problem(
        np.array(capacity, np.float64), np.array(demand, np.float64), np.array(price, np.float64),
        np.array(rows, np.float64).reshape(-1, shapes), np.array(low, np.float64), np.array(high, np.float64),
    )  # fmt: skip


def serves(p, counts):
    return assign(p.capacity, counts, p.demand).left.sum() <= 2e-5 * p.demand.sum()


def by_brute_force(p, most):
    """The least price of counts up to `most` a shape that serve everything, by the flow of every such count."""
    best = np.inf
    for counts in itertools.product(range(most + 1), repeat=len(p.price)):
        x = np.array(counts)
        allowed = ((p.rows @ x >= p.low) & (p.rows @ x <= p.high)).all()
        if allowed and x @ p.price < best and serves(p, x):
            best = float(x @ p.price)
    return best


@few
@given(st.data())
def test_it_is_the_cheapest_of_all_counts(data):
    numbers, tenths = st.integers(1, 40), st.integers(1, 60)
    shapes, kinds = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    capacity = [[data.draw(numbers) / 4 for _ in range(kinds)] for _ in range(shapes)]
    demand = [data.draw(tenths) / 10 for _ in range(kinds)]
    price = [data.draw(st.integers(1, 9)) for _ in range(shapes)]
    cap = data.draw(st.integers(1, 5))
    p = problem(capacity, demand, price, [[1] * shapes], [1], [cap])
    replicas, left = cheapest(p)
    best = by_brute_force(p, cap)
    assert (left.sum() == 0) == (best < np.inf)
    if best < np.inf:
        assert replicas @ p.price == pytest.approx(best, rel=2e-4)
        assert serves(p, replicas)


def test_two_types_of_gpu_share_the_requests_by_hand():
    """12/s short ones: 2 cheap replicas at 3 $ rather than one dear at 8 $; long ones run on the dear one alone.

    One dear replica is then 60 % busy, and takes 4 of the short ones' 12/s; one cheap replica serves the other 8/s.
    """
    capacity = [[8.0, 0.0], [10.0, 5.0]]
    short = problem(capacity, [12, 0], [3, 8])
    assert [n.tolist() for n in cheapest(short)] == [[2, 0], [0, 0]]
    both = problem(capacity, [12, 3], [3, 8])
    assert [n.tolist() for n in cheapest(both)] == [[1, 1], [0, 0]]


def test_bounds_hold_and_what_finds_no_room_is_as_little_as_can_be():
    """One replica is all that is allowed: the one that serves 10 of 12/s, however dear."""
    capacity = [[8.0, 4.0, 0.0], [10.0, 5.0, 0.0]]
    replicas, left = cheapest(problem(capacity, [12, 0, 7], [3, 80], [[1, 1]], [0], [1]))
    assert replicas.tolist() == [0, 1]
    assert left == pytest.approx([2, 0, 7], abs=1e-3)
    least, _ = cheapest(problem(capacity, [0, 0, 0], [3, 80], [[1, 0], [0, 1]], [2, 0], [9, 9]))
    assert least.tolist() == [2, 0]
    with pytest.raises(ArithmeticError):
        cheapest(problem(capacity, [1, 0, 0], [3, 80], [[1, 1], [1, 1]], [3, 0], [9, 2]))


def test_three_loads_of_a_third_fill_one_replica():
    """0.1 + 0.1 + 0.1 is more than 0.3 in floating point."""
    replicas, _ = cheapest(problem([[0.3, 0.3, 0.3]], [0.1, 0.1, 0.1], [1]))
    assert replicas.tolist() == [1]


def test_what_compiled_code_prints_is_not_seen(capfd):
    libc = ctypes.CDLL(None)
    print("before")
    with quiet():
        libc.printf(b"a solver's line\n")
        os.write(1, b"another one\n")
    libc.printf(b"after\n")
    libc.fflush(None)
    assert capfd.readouterr().out == "before\nafter\n"
