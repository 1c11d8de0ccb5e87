"""Other seeds: what they change and what they leave, and intervals that allow for their spread."""

import math

import numpy as np
import polars as pl
import pytest
from planted import HALF_S, benched, trace
from scipy import stats

from lmaas.policies.full.crew import Crew
from lmaas.policies.full.seeds import JITTER_S, SCORES, Seeded, by_seed, jittered, seeded
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy
from lmaas.policies.spread import NO_SPREAD, Spread


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return benched(home, trace([4, 9] * 10, talkative=0.2), "seeds", startup_s={"cold": 90, "cv": 0.4})


def test_arrivals_move_a_little_and_nothing_else(bench):
    ready, _ = bench.base
    moved = jittered(ready.requests, ready.cut_s, ready.end_s, 1)
    both = ready.requests.join(moved, on="request_id", suffix="_moved")
    assert both.height == ready.requests.height and moved["arrival_s"].is_sorted()
    apart = (both["arrival_s_moved"] - both["arrival_s"]).to_numpy()
    before = (both["arrival_s"] < ready.cut_s).to_numpy()
    assert (apart[before] == 0).all()
    assert 0.45 < np.abs(apart).max() <= JITTER_S and abs(apart[~before].mean()) < 0.02
    assert both.filter(~pl.Series(before))["arrival_s_moved"].min() >= HALF_S
    assert moved["arrival_s"][-1] <= ready.end_s
    assert np.allclose(both["done_s_moved"] - both["done_s"], apart)
    talk = both.filter((pl.col("session") >= 0) & (pl.col("arrival_s").is_between(ready.cut_s + 1, ready.end_s - 1)))
    assert np.ptp((talk["arrival_s_moved"] - talk["arrival_s"]).to_numpy()) < 1e-9  # a session moves as one
    same = ("service", "input_tokens", "output_tokens", "row", "limit_ttft_s")
    assert all(both[name].equals(both[f"{name}_moved"], check_names=False) for name in same)


def test_the_same_seed_gives_the_same_and_another_another(bench):
    tasks = [Seeded(parse_policy("hpa"), seed) for seed in (1, 1, 2)]
    one, again, other = (task(bench) for task in tasks)
    assert one == again and one != other
    run = run_policy(parse_policy("hpa"), *bench.base, lambda share: None)
    with Crew(bench, 1) as crew:
        table = by_seed([tasks[2], tasks[0]], [run], 0, crew, lambda share: None)
    groups = dict.fromkeys(("slo_attainment @ service=chat", "slo_attainment @ tier=interactive-fast"), pl.Float64)
    assert table.schema == pl.Schema({**SCORES, **groups})
    for group in groups:  # the only ones there are
        assert table[group].to_list() == pytest.approx(table["slo_attainment"].to_list(), abs=1e-12)
    assert table["seed"].to_list() == [0, 1, 2]
    assert table["slo_attainment"].n_unique() == 3
    assert table.row(1, named=True) == {"policy": "hpa", "seed": 1, "why": None, **one}


def test_what_was_learned_stays(bench):
    ready, inputs = bench.base
    other, told = seeded(ready, inputs, 7)
    assert other.rates is ready.rates and other.history is ready.history and other.seed == 7
    assert told.demand("last-value", 90.0) is inputs.demand("last-value", 90.0)
    assert len(told.lengths("true")) == other.replayed.height
    assert (told.lengths("true") == other.replayed["output_tokens"].to_numpy()).all()


def spread(**scores):
    rows = [
        {"policy": name, "seed": seed, "slo_attainment": x, "why": None}
        for name, values in scores.items() for seed, x in enumerate(values)
    ]  # fmt: skip
    return Spread.of(pl.DataFrame(rows))


def test_intervals_widen_by_what_seeds_scatter():
    """By hand: s of 1, 2, 3 is 1; t of two degrees of freedom is 2.92."""
    found = spread(a=[1.0, 2.0, 3.0], b=[1.5, 2.5, 3.5], c=[3.0, 2.0, 1.0], d=[1.0, None, None])
    t = stats.t.ppf(0.95, 2)
    low, high = found.widened((0.7, 1.4), 1.0, "slo_attainment", "a")
    assert (low, high) == (pytest.approx(1 - math.hypot(0.3, t)), pytest.approx(1 + math.hypot(0.4, t)))
    # what seeds do to both cancels out of a difference, what they do against each other does not
    assert found.widened((-1.0, 0.0), -0.5, "slo_attainment", "a", "b") == pytest.approx((-1.0, 0.0))
    assert found.deviation("slo_attainment", "a", "c") == pytest.approx(2 * t)
    assert found.widened((0.7, 1.4), 1.0, "slo_attainment", "d") == (0.7, 1.4)  # one seed alone scatters nothing
    assert found.widened(None, 1.0, "slo_attainment", "a") is None
    assert NO_SPREAD.widened((0.7, 1.4), 1.0, "slo_attainment", "a") == (0.7, 1.4)
