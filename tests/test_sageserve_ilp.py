"""SageServe's ILP: equal to ceil(ρ/θ) where it separates, to brute force elsewhere; and what it refuses."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from lmaas.policies.sageserve.ilp import Infeasible, Problem, solve


def problem(demand, rate, now=None, **more):
    """Services by regions of demand, services by types of rate; the artifact's costs; what is not given is no bound."""
    demand, rate = np.array(demand, np.float64), np.array(rate, np.float64)
    shape = (*demand.shape, rate.shape[1])
    given = {
        "services": tuple(f"s{m}" for m in range(shape[0])),
        "regions": tuple(f"r{r}" for r in range(shape[1])),
        "types": tuple(f"g{g}" for g in range(shape[2])),
        "now": np.zeros(shape, np.int64) if now is None else np.array(now),
        "vm_cost": np.full((shape[0], shape[2]), 10.0),
        "start_cost": np.full((shape[0], shape[2]), 150.0),
        "gpus": np.ones((shape[0], shape[2])),
        "cap": np.full((shape[1], shape[2]), np.inf),
        "floor": np.zeros(shape[:2]),
        "most": np.full(shape[:2], np.inf),
    }
    arrays = {name: np.asarray(value) if isinstance(value, list) else value for name, value in more.items()}
    return Problem(demand=demand, rate=rate, **(given | arrays))


def meets(p, x):
    """Which plans meet every constraint, said as in the paper; x i8[..., m, r, g]."""
    served = (x * p.rate[:, None, :]).sum(axis=-1)
    slack = 2e-6 * p.rate.max(axis=1)
    taken = (x * p.gpus[:, None, :]).sum(axis=-3)
    pools = x.sum(axis=-1)
    return (
        (served >= p.local * p.demand - slack[:, None]).all(axis=(-1, -2))
        & (served.sum(axis=-1) >= p.demand.sum(axis=1) - slack).all(axis=-1)
        & (taken <= p.cap).all(axis=(-1, -2))
        & ((pools >= p.floor) & (pools <= p.most)).all(axis=(-1, -2))
        & ((x == 0) | (p.rate[:, None, :] > 0)).all(axis=(-1, -2, -3))
    )


def price(p, x):
    """The objective, written out: α a replica more or less, σ a start."""
    total = 0.0
    for m, r, g in np.ndindex(*p.now.shape):
        change = int(x[m, r, g]) - int(p.now[m, r, g])
        total += float(p.vm_cost[m, g]) * change + float(p.start_cost[m, g]) * max(0, change)
    return total


def place(p):
    """Σ k·x of this breaks ties: types count most, then regions, then services."""
    return np.arange(1, p.now.size + 1).reshape(p.now.shape[::-1]).transpose(2, 1, 0)


def brute(p, most):
    """The least (cost, Σ k·x) of all plans with at most `most` replicas of a type in a pool; None: there is none."""
    every = np.array(list(itertools.product(range(most + 1), repeat=p.now.size))).reshape(-1, *p.now.shape)
    fine = every[meets(p, every)]
    return min(((round(price(p, x), 6), int((place(p) * x).sum())) for x in fine), default=None)


def test_by_hand():
    """1,000 tokens/s a replica: 2,500 need three. One is there: two starts of 150, and 10 an hour for each."""
    p = problem([[2500.0]], [[1000.0]], now=[[[1]]])
    assert solve(p).tolist() == [[[3]]]
    assert p.cost(solve(p)) == 2 * (10 + 150)
    assert p.cost(np.array([[[0]]])) == -10


def test_where_it_separates_it_is_the_ceiling():
    """ε = 1, no caps, one GPU type: ceil(ρ/θ) in every pool, whatever is there, of thousands."""
    rng = np.random.default_rng(0)
    pools = 0
    for _ in range(400):
        m, r = int(rng.integers(1, 5)), int(rng.integers(1, 8))
        rate = rng.uniform(100, 9000, (m, 1))
        demand = rng.uniform(0, 80_000, (m, r)) * (rng.random((m, r)) < 0.9)
        p = problem(demand, rate, now=rng.integers(0, 30, (m, r, 1)))
        assert np.array_equal(solve(p)[:, :, 0], np.ceil(demand / rate))
        pools += m * r
    assert pools > 3000
    edge = problem([[3000.0, 3000.01, 0.0]], [[1000.0]])
    assert solve(edge)[0, :, 0].tolist() == [3, 4, 0]


def test_with_the_floor_it_is_the_larger_of_both():
    rng = np.random.default_rng(1)
    demand, rate = rng.uniform(0, 9000, (6, 8)), rng.uniform(500, 3000, (6, 1))
    floor = rng.integers(0, 4, (6, 8)).astype(np.float64)
    p = problem(demand, rate, floor=floor, now=rng.integers(0, 9, (6, 8, 1)))
    assert np.array_equal(solve(p)[:, :, 0], np.maximum(np.ceil(demand / rate), floor))


def small(rng):
    """A problem small enough for all its plans to be tried: several types, caps, bounds, any ε."""
    m, r, g = [(1, 1, 3), (1, 2, 2), (2, 1, 2), (1, 3, 1), (2, 2, 1), (1, 4, 1)][int(rng.integers(6))]
    rate = rng.choice([0.0, 300.0, 500.0, 700.0, 1000.0], (m, g))
    rate[:, 0] = rng.choice([400.0, 600.0], m)
    return problem(
        rng.choice([0.0, 200.0, 450.0, 900.0, 1300.0], (m, r)), rate, now=rng.integers(0, 4, (m, r, g)),
        vm_cost=rng.choice([4.0, 10.0, 17.0], (m, g)), start_cost=rng.choice([0.0, 30.0, 150.0], (m, g)),
        gpus=rng.choice([1.0, 2.0], (m, g)),
        cap=np.where(rng.random((r, g)) < 0.5, np.inf, rng.integers(0, 7, (r, g))),
        floor=rng.integers(0, 2, (m, r)).astype(np.float64),
        most=np.where(rng.random((m, r)) < 0.7, np.inf, rng.integers(1, 4, (m, r))),
        local=float(rng.choice([0.0, 0.3, 0.7, 1.0])),
    )  # fmt: skip


def test_elsewhere_it_is_the_best_of_all_plans():
    rng = np.random.default_rng(2)
    solved = refused = 0
    for _ in range(160):
        p = small(rng)
        best = brute(p, 6)
        if best is None:
            with pytest.raises(Infeasible):
                solve(p)
            refused += 1
            continue
        x = solve(p)
        assert meets(p, x)
        assert (round(price(p, x), 6), int((place(p) * x).sum())) == best
        solved += 1
    assert min(solved, refused) > 10


def test_of_equal_plans_the_earlier_type_and_region():
    """Both types serve alike and cost alike; with ε = 0 any region may serve."""
    p = problem([[1500.0, 0.0]], [[1000.0, 1000.0]], local=0.0)
    assert solve(p)[0].tolist() == [[2, 0], [0, 0]]
    assert solve(replace(p, cap=np.array([[1.0, np.inf], [np.inf, np.inf]])))[0].tolist() == [[1, 0], [1, 0]]


def test_running_replicas_are_kept_rather_than_started_elsewhere():
    """A start costs fifteen hours of a machine: what runs in the other region serves, as far as ε lets it."""
    p = problem([[4000.0, 0.0]], [[1000.0]], now=[[[1], [3]]], local=0.25)
    assert solve(p)[0, :, 0].tolist() == [1, 3]
    assert solve(replace(p, local=0.75))[0, :, 0].tolist() == [3, 1]


class TestInfeasible:
    def says(self, p):
        with pytest.raises(Infeasible) as error:
            solve(p)
        return str(error.value)

    def test_a_floor_beyond_the_regions_gpus(self):
        p = problem([[0.0], [0.0]], [[1000.0], [1000.0]], floor=[[2], [1]], gpus=[[8], [4]], cap=[[16.0]])
        assert self.says(p).startswith("floor: region r0 is to have at least 3 replicas")
        assert self.says(p).endswith("and has 16 g0")

    def test_a_regions_cap(self):
        p = problem([[4200.0, 0.0]], [[1000.0]], gpus=[[8]], cap=[[32.0], [80.0]], local=1.0)
        assert "region cap: r0 is to serve 100% of its demand itself, s0 4,200 tokens/s" in self.says(p)
        assert self.says(p).endswith("has 32 g0")
        assert solve(replace(p, local=0.9))[0, :, 0].tolist() == [4, 1]

    def test_a_pools_bound(self):
        p = problem([[4200.0]], [[1000.0]], most=[[3]])
        assert self.says(p).endswith("has s0 at most 3")

    def test_the_demand_of_all_regions(self):
        p = problem([[4200.0, 500.0]], [[1000.0]], cap=[[3.0], [1.0]], local=0.5)
        assert "global demand: s0 needs 4,700 tokens/s in all regions" in self.says(p)
        assert "serves at most 4,000 of it: r0: 3 g0; r1: 1 g0" in self.says(p)

    def test_services_that_do_not_fit_together(self):
        p = problem([[3000.0], [3000.0]], [[1000.0], [1000.0]], cap=[[4.0]], local=0.5)
        assert "each service alone finds room, all together do not: s0 3,000, s1 3,000" in self.says(p)


def test_a_fleet_of_several_types_and_regions():
    """10 services in 5 regions on 3 types: feasible, within caps, and no dearer than the first type alone."""
    rng = np.random.default_rng(3)
    rate = rng.uniform(500, 4000, (10, 3))
    demand = rng.uniform(0, 20_000, (10, 5))
    p = problem(
        demand, rate, now=rng.integers(0, 8, (10, 5, 3)), vm_cost=np.array([[10.0, 6.0, 4.0]] * 10), local=0.7,
        gpus=rng.choice([1.0, 2.0, 4.0], (10, 3)), cap=np.array([[np.inf, 60.0, 40.0]] * 5),
    )  # fmt: skip
    x = solve(p)
    assert meets(p, x)
    alone = np.zeros_like(x)
    alone[:, :, 0] = np.ceil(demand / rate[:, :1])
    assert p.cost(x) <= p.cost(alone)
    assert math.isfinite(p.cost(x))
