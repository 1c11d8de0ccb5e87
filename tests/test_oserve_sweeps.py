"""The mixes that benchmarks/oserve_sweeps.py draws have the coefficients of variation they say."""

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from oserve_sweeps import INPUT_TOKENS, JITTER, MINUTES, MIXES, OUTPUT_TOKENS, POLICIES, Mix, drawn, highest, limits_of

from lmaas.policies.registry import parse_policy


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_lengths_vary_as_much_as_the_mix_says(mix):
    """Two values, m·(1 - cv) and m·(1 + cv), equally often; the jitter multiplies: 1 + CV² = (1 + cv²)·exp(JITTER²)."""
    table = drawn(mix, 40.0)
    assert table["arrival_s"].is_sorted() and table.height == pytest.approx(40 * 60 * sum(MINUTES), rel=0.02)
    cv = ((1 + mix.lengths**2) * np.exp(JITTER**2) - 1) ** 0.5
    for name, mean in (("input_tokens", INPUT_TOKENS), ("output_tokens", OUTPUT_TOKENS)):
        tokens = table[name].to_numpy()
        assert tokens.mean() == pytest.approx(mean, rel=0.02)
        assert tokens.std() / tokens.mean() == pytest.approx(cv, rel=0.03)


@pytest.mark.parametrize("mix", [mix for mix in MIXES if mix.shares], ids=lambda mix: mix.name)
def test_shares_vary_over_time_as_much_as_the_mix_says(mix):
    """The rate of the shortest type, minute by minute; counts add a Poisson's own."""
    table = drawn(mix, 400.0)
    short = (table["input_tokens"] < INPUT_TOKENS) & (table["output_tokens"] < OUTPUT_TOKENS)
    counts = np.bincount((table["arrival_s"].filter(short) // 60).cast(int).to_numpy(), minlength=sum(MINUTES))
    assert (counts.var() - counts.mean()) ** 0.5 / counts.mean() == pytest.approx(mix.shares, rel=0.05)
    alike = Mix("", mix.lengths, 0.0)
    assert table.height == pytest.approx(drawn(alike, 400.0).height, rel=0.01)  # the whole rate is constant


def test_a_throughput_lies_between_two_replays():
    """0.99 is a quarter of the way from 1.0 to 0.96; before the first or after the last nothing is known."""
    assert highest([10.0, 20.0, 30.0], [1.0, 0.96, 0.5], 0.99) == pytest.approx(12.5)
    assert highest([10.0, 20.0], [1.0, 0.995], 0.99) == np.inf
    assert highest([10.0, 20.0], [0.9, 0.995], 0.99) == 0.0


def test_its_policies_are_there():
    assert limits_of(["ttft<10s, tpot<200ms"]) == (10.0, 0.2, np.inf)
    for text in POLICIES:
        parse_policy(*text.split("+"))
