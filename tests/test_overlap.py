"""Traces that were trained on are known again, others are not."""

import numpy as np
import polars as pl
import pytest
from requests_data import habits, table

from lmaas.analysis.lengths.overlap import KEPT, hashes, is_known, sketch


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def test_hashes_are_of_neighbours_within_a_service_and_a_tenant():
    rows = table(arrival_s=[0.0, 1.0, 2.0, 4.0], service=["a", "b", "a", "b"], tenant=["x", "x", "y", "x"],
                 input_tokens=[1, 2, 3, 4], output_tokens=[5, 6, 7, 8])  # fmt: skip
    # by service a-a and b-b; by tenant b-b again
    assert len(hashes(rows)) == 2
    alone = [rows.filter(service=name) for name in "ab"]
    assert set(hashes(rows)) == {*hashes(alone[0]), *hashes(alone[1])}
    assert set(hashes(rows.with_columns(pl.col("arrival_s") + 8.0))) == set(hashes(rows))
    assert not set(hashes(rows)) & set(hashes(rows.with_columns(output_tokens=pl.lit(9, pl.UInt32))))


def test_other_traffic_of_the_same_kind_is_not_known(rng):
    known = sketch(habits(rng))
    assert known == sorted(set(known)) and len(known) > 1000
    assert not is_known(habits(rng), known)


def test_a_large_training_is_known_by_its_smallest_hashes(rng):
    large = habits(rng, hours=10)
    known = sketch(large)
    assert len(known) == KEPT < large.height and known == hashes(large)[:KEPT].tolist()
    assert is_known(large[20_000:22_000], known)
    assert not is_known(habits(rng), known)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_requests_conclude_nothing(n, rng):
    rows = habits(rng)
    assert not is_known(rows[:n], sketch(rows))
    assert not is_known(rows, sketch(rows[:n]))
