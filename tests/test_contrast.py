"""Effect sizes against their definitions, and what is told from chance."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, spearmanr, wasserstein_distance

from lmaas.analysis.comparison import contrast

SAMPLES = st.lists(st.integers(0, 6), min_size=1, max_size=25)


def counted(sample, values=range(7)):
    return np.array([sample.count(v) for v in values], float)


@given(SAMPLES, SAMPLES)
def test_effects_are_what_they_are_called(a, b):
    x, y, values = counted(a), counted(b), np.arange(7.0)
    pairs = [(p < q) - (p > q) for p, q in product(a, b)]
    assert contrast.delta(x, y) == pytest.approx(sum(pairs) / len(pairs))
    assert contrast.kolmogorov(x, y) == pytest.approx(ks_2samp(a, b).statistic)
    assert contrast.wasserstein(x, y, values) == pytest.approx(wasserstein_distance(a, b))
    apart = sum(abs(a.count(v) / len(a) - b.count(v) / len(b)) for v in range(7)) / 2
    assert contrast.variation(x, y) == pytest.approx(apart)


@given(SAMPLES, st.floats(0, 1))
def test_quantiles_are_those_of_the_rows(a, rank):
    found = contrast.quantile(counted(a), np.arange(7.0), rank)
    assert found == pytest.approx(np.quantile(a, rank))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=40))
def test_rank_correlation_is_spearmans(pairs):
    joint = np.zeros((5, 5))
    np.add.at(joint, tuple(np.array(pairs).T), 1)
    x, y = np.array(pairs).T
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(contrast.spearman(joint))
    else:
        assert contrast.spearman(joint) == pytest.approx(spearmanr(x, y).statistic)


def test_every_draw_is_judged_alone():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 9, (2, 5, 7)).astype(float)
    for effect in (contrast.delta, contrast.kolmogorov, contrast.variation):
        assert effect(before, after).tolist() == [float(effect(b, a)) for b, a in zip(before, after, strict=True)]
    values = np.arange(7.0)
    together = contrast.quantile(before, values, 0.3)
    assert together.tolist() == [float(contrast.quantile(b, values, 0.3)) for b in before]


def test_ends_of_the_scale():
    assert contrast.delta(counted([0, 1]), counted([3, 4])) == 1
    assert contrast.delta(counted([3, 4]), counted([0, 1])) == -1
    assert contrast.ratio(np.array(0.0), np.array(5.0)) == 1
    assert np.isnan(contrast.ratio(np.array(0.0), np.array(0.0)))
    assert contrast.ratio(np.array(2.0), np.array(3.0)) == pytest.approx(0.2)


def test_sizes_have_names():
    assert [contrast.size("delta", x) for x in (0.1, -0.147, 0.4, -0.9)] == ["negligible", "small", "medium", "large"]
    assert contrast.size("ratio", contrast.ratio(np.array(1.0), np.array(2.0))) == "large"


def test_deals_use_every_block_once_and_draws_stay_on_their_side():
    draws = contrast.Draws.of(3, 5, np.random.default_rng(1))
    assert (draws.dealt.sum(1) == 3).all()
    assert set(np.unique(draws.dealt)) == {0, 1}
    assert (draws.again[:, :3].sum(1) == 3).all()
    assert (draws.again[:, 3:].sum(1) == 5).all()
    blocks = np.arange(16.0).reshape(8, 2)
    before, after = draws.sides(draws.dealt, blocks, dealt=True)
    assert np.allclose(before + after, blocks.sum(0))


def test_chance_is_seldom_called_a_change():
    """Under no change p is uniform: at most about 5 % below 5 %."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(100):
        blocks = rng.multinomial(200, [0.1] * 10, size=24).astype(float)
        draws = contrast.Draws.of(12, 12, rng)
        judged = contrast.judge(contrast.delta, blocks[:12], blocks[12:], draws)
        found.append(judged.p)
    assert np.mean(np.array(found) <= 0.05) <= 0.12
    assert 0.35 <= np.mean(found) <= 0.65


def test_alike_within_blocks_is_no_evidence():
    """Blocks that differ from each other explain a difference that independent requests would not."""
    rng = np.random.default_rng(3)
    share = rng.random(24)  # each block has its own
    blocks = np.stack([share, 1 - share], axis=1) * 1000
    apart = contrast.judge(contrast.variation, blocks[:12], blocks[12:], contrast.Draws.of(12, 12, rng))
    assert apart.effect > 0.01  # of 24,000 requests: far beyond what single ones would differ by
    assert apart.p > 0.05


def test_too_few_blocks_are_not_judged():
    judged = contrast.judge(
        contrast.delta, np.ones((3, 4)), np.ones((9, 4)), contrast.Draws.of(3, 9, np.random.default_rng())
    )
    assert (judged.effect, judged.p, judged.low) == (0.0, None, None)


@pytest.mark.parametrize(
    ("chances", "verdicts"),
    [
        ([0.01, 0.04, 0.03], [True, False, False]),  # 0.01 <= 0.05/3; 0.03 > 0.05/2
        ([0.001, None, 0.02, 0.6], [True, None, True, False]),
        ([None], [None]),
        ([0.2, 0.0005], [False, True]),
        ([], []),
    ],
)
def test_several_are_judged_together(chances, verdicts):
    assert contrast.beyond_noise(chances) == verdicts
