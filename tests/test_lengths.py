"""Output lengths at arrival: worth against the floors, fallbacks, and nothing learned from the future."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_data import habits, scramble, small_tables, table, traffic

from lmaas.analysis.lengths import LengthPredictor, residual_by_bucket, residual_table
from lmaas.analysis.lengths.features import Features
from lmaas.analysis.lengths.history import RECENT
from lmaas.analysis.lengths.predictor import MANY, MIN_ROWS
from lmaas.analysis.lengths.scores import scores
from lmaas.analysis.windows import PRIOR_OUTPUT_TOKENS

CUT_S = 3600.0
MIN_BINS, MIN_TREES = MIN_ROWS["input-bin"], MANY


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def compared(requests, cut_s=CUT_S):
    """Trees beside the floors."""
    kinds = ("trees", "input-bin", "median")
    return scores({kind: LengthPredictor.train(requests, cut_s=cut_s, kind=kind) for kind in kinds}, requests)


def every(found, predictor, measure):
    return found.filter(pl.col("service").is_null() & (pl.col("predictor") == predictor))[measure].item()


# --- worth ---


def test_trees_find_what_lengths_depend_on_and_stay_unbiased(rng):
    requests = habits(rng)
    found = compared(requests)
    mean = requests["output_tokens"].mean()
    for floor in ("input-bin", "median"):
        assert every(found, "trees", "mae_tokens") < 0.6 * every(found, floor, "mae_tokens")
        assert every(found, "trees", "acc_100") > every(found, floor, "acc_100")
    for row in found.filter(pl.col("predictor") == "trees").to_dicts():
        assert abs(row["bias_tokens"]) < 0.03 * mean, row


def test_predictions_sum_to_the_outputs_where_a_median_would_not(rng):
    """Load is a sum: with a heavy tail the median predicts far too little of it."""
    requests = habits(rng, noise=1.2)
    found = compared(requests)
    mean = requests["output_tokens"].mean()
    assert abs(every(found, "trees", "bias_tokens")) < 0.06 * mean
    assert every(found, "median", "bias_tokens") < -0.3 * mean


def test_a_tenants_completed_requests_inform_its_later_ones(rng):
    """A tenant unseen in training is predicted by its recent outputs, once it has any."""
    requests = habits(rng)
    predictor = LengthPredictor.train(requests, cut_s=CUT_S)
    n = 200
    new = table(
        arrival_s=np.linspace(5000, 6000, n), service=["chat"] * n, tenant=["new"] * n, tier=["batch"] * n,
        region=["us"] * n, input_tokens=[400] * n, output_tokens=[600] * n, done_s=np.linspace(5000, 6000, n) + 13,
    )  # fmt: skip
    known = predictor.predict(new)
    short = predictor.predict(new.with_columns(output_tokens=pl.lit(60, pl.UInt32)))
    assert known[0] == short[0]
    assert known[-1] > 1.5 * short[-1]


# --- form ---


@pytest.mark.parametrize("n", [0, 1, MIN_BINS - 1, MIN_BINS, MIN_TREES - 1, MIN_TREES, 3 * MIN_TREES])
def test_predictions_are_aligned_finite_and_at_least_one(n, rng):
    requests = habits(rng, rate=1.0)
    late = requests.filter(pl.col("arrival_s") >= CUT_S)
    predictor = LengthPredictor.train(pl.concat([requests.head(n), late]), cut_s=CUT_S)
    guess = predictor.predict(late)
    assert guess.dtype == np.float64
    assert guess.shape == (late.height,)
    assert (guess >= 1).all()
    assert np.isfinite(guess).all()
    order = rng.permutation(late.height)
    np.testing.assert_array_equal(predictor.predict(late[order]), guess[order])
    assert predictor.predict(late.clear()).shape == (0,)
    assert (predictor.note is None) == (n >= MIN_TREES)


def test_fallbacks_are_what_they_say(rng):
    requests = habits(rng)
    late = requests.filter(pl.col("arrival_s") >= CUT_S)

    def trained(n):
        return LengthPredictor.train(pl.concat([requests.head(n), late]), cut_s=CUT_S)

    assert set(trained(0).predict(late)) == {PRIOR_OUTPUT_TOKENS}
    few = requests.head(MIN_BINS - 1)
    assert set(trained(MIN_BINS - 1).predict(late)) == {few["output_tokens"].median()}
    some = requests.head(MIN_TREES - 1)
    octave = pl.col("input_tokens").cast(pl.Float64).log(2).mul(2).floor()
    bins = some.group_by("service", octave.alias("bin")).agg(pl.len(), pl.mean("output_tokens"))
    best = bins.sort("len").row(-1, named=True)
    of = (late["service"] == best["service"]) & (late.select(octave).to_series() == best["bin"])
    np.testing.assert_allclose(trained(MIN_TREES - 1).predict(late.filter(of)), best["output_tokens"])


def test_what_training_never_saw_is_predicted_all_the_same(rng):
    predictor = LengthPredictor.train(habits(rng), cut_s=CUT_S)
    strange = table(
        arrival_s=[0.0, 1e9], service=["<script>", "new"], region=["mars", None], tenant=[None, "x"],
        input_tokens=[None, 4_000_000_000], output_tokens=[None, None], done_s=[None, None],
    )  # fmt: skip
    assert np.isfinite(predictor.predict(strange)).all()
    at_arrival = strange.drop("output_tokens", "done_s")
    np.testing.assert_array_equal(predictor.predict(at_arrival), predictor.predict(strange))


def test_the_same_seed_trains_the_same_predictor(rng):
    requests = habits(rng, rate=0.5)
    late = requests.filter(pl.col("arrival_s") >= CUT_S)
    first, second = (LengthPredictor.train(requests, cut_s=CUT_S, seed=5).predict(late) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    categorical = requests.with_columns(pl.col("service", "tier", "region", "tenant").cast(pl.Categorical))
    np.testing.assert_array_equal(LengthPredictor.train(categorical, cut_s=CUT_S, seed=5).predict(late), first)


@settings(deadline=None, max_examples=25)
@given(small_tables(), st.floats(0, 25))
def test_any_few_requests_train_something(requests, cut_s):
    predictor = LengthPredictor.train(requests, cut_s=cut_s)
    assert (predictor.predict(requests) >= 1).all()
    found = compared(requests, cut_s)
    expected = requests.filter(pl.col("arrival_s") >= cut_s)
    if expected.height:
        assert every(found, "median", "n") == expected.height
    else:
        assert found.is_empty()


def test_scores_are_their_definitions_and_never_in_sample(rng):
    requests = habits(rng)
    predictor = LengthPredictor.train(requests, cut_s=CUT_S)
    late = requests.filter(pl.col("arrival_s") >= CUT_S)
    error = predictor.predict(requests)[-late.height :] - late["output_tokens"].to_numpy()
    found = compared(requests)
    assert every(found, "trees", "n") == late.height
    assert every(found, "trees", "mae_tokens") == pytest.approx(np.abs(error).mean())
    assert every(found, "trees", "acc_100") == pytest.approx((np.abs(error) <= 100).mean())
    assert every(found, "trees", "bias_tokens") == pytest.approx(error.mean())
    assert every(found, "median", "bias_tokens") == pytest.approx(
        requests.filter(pl.col("done_s") < CUT_S)["output_tokens"].median() - late["output_tokens"].mean()
    )
    parts = found.filter(pl.col("service").is_not_null() & (pl.col("predictor") == "trees"))
    assert parts["n"].sum() == late.height


def test_the_hour_is_a_feature_only_once_every_hour_was_seen_twice(rng):
    for days, expected in ((1.0, False), (1.9, False), (2.0, True), (4.0, True)):
        numbers = Features.learn(habits(rng, hours=24 * days, rate=0.01)).numbers
        assert ("hour_sin" in numbers) == expected


def test_recent_outputs_are_those_done_before_arrival(rng):
    """The feature against its definition: plain Python over the rows."""
    requests = habits(rng, rate=0.1, hours=1)
    features = Features.learn(requests.head(300))
    later = requests[300:]
    column = features.matrix(later)[:, features.names.index("recent")]
    remembered = features.history.to_dicts()
    rows = later.to_dicts()
    for row, got in zip(rows, column, strict=True):
        before = [
            (r["done_s"], r["output_tokens"]) for r in [*remembered, *rows]
            if (r["service"], r["tenant"]) == (row["service"], row["tenant"]) and r["done_s"] < row["arrival_s"]
        ]  # fmt: skip
        recent = [tokens for _, tokens in sorted(before)[-RECENT:]]
        assert got == pytest.approx(np.log1p(np.mean(recent)), rel=1e-5)


# --- no look-ahead ---


def sees_the_future(predict, requests, t):
    """Whether predictions for arrivals before t change with what happens from t on."""
    before = requests["arrival_s"].to_numpy() < t
    n = int(before.sum())
    guess = predict(requests)[before]
    assert n > 500
    changed = [predict(scramble(requests, t, np.random.default_rng(seed)))[:n] for seed in range(2)]
    return not all(np.array_equal(c, guess) for c in changed)


def learned(requests):
    return LengthPredictor.train(requests, cut_s=CUT_S).predict(requests)


@pytest.mark.parametrize("t", [CUT_S, CUT_S + 500.25])
def test_never_looks_ahead(t, rng):
    assert not sees_the_future(learned, habits(rng, rate=1.0), t)


@pytest.mark.parametrize("t", [CUT_S, CUT_S + 500.25])
def test_a_tenants_history_without_the_completion_lag_is_caught(t, rng):
    def cheat(requests):
        known_at_once = requests.with_columns(done_s=pl.col("arrival_s"))
        return LengthPredictor.train(requests, cut_s=CUT_S).predict(known_at_once)

    assert sees_the_future(cheat, habits(rng, rate=1.0), t)


def test_training_on_what_was_still_running_at_the_cut_is_caught(rng):
    def cheat(requests):
        return LengthPredictor.train(requests.with_columns(done_s=pl.col("arrival_s")), cut_s=CUT_S).predict(requests)

    assert sees_the_future(cheat, habits(rng, rate=1.0), CUT_S)


def test_a_request_done_as_it_arrives_does_not_see_its_own_answer(rng):
    requests = habits(rng)
    predictor = LengthPredictor.train(requests, cut_s=CUT_S)
    instant = requests.filter(pl.col("arrival_s") >= CUT_S).with_columns(done_s=pl.col("arrival_s"))
    last = pl.arange(pl.len()) == pl.len() - 1
    other = instant.with_columns(output_tokens=pl.when(last).then(40_000).otherwise("output_tokens").cast(pl.UInt32))
    np.testing.assert_array_equal(predictor.predict(other), predictor.predict(instant))


def test_an_answer_planted_in_a_later_row_is_no_gain(rng):
    """Each request's output is announced, by another of its tenant that is done just after it arrived."""
    n = 4000
    t = np.sort(rng.random(n) * 2 * CUT_S)
    tenant, output = [f"t{i}" for i in range(n)], np.exp(rng.normal(5, 1, n)).astype(int) + 1
    real = table(arrival_s=t, tenant=tenant, output_tokens=output, done_s=t + 100)
    announced = real.with_columns(arrival_s=pl.col("arrival_s") + 1e-3, done_s=pl.col("arrival_s") + 2e-3)
    both = pl.concat([real, announced]).sort("arrival_s", maintain_order=True)
    error = np.abs(learned(both) - both["output_tokens"].to_numpy())
    first = (both["done_s"] > both["arrival_s"] + 1).to_numpy() & (both["arrival_s"] >= CUT_S).to_numpy()
    assert error[first].mean() > 0.8 * np.abs(output - output.mean()).mean()


# --- what outlived predictions grow by ---


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3000)), max_size=60))
@settings(deadline=None, max_examples=50)
def test_the_residual_table_is_its_definition(rows):
    training = pl.DataFrame(
        rows, schema=["service", "output_tokens"], orient="row", schema_overrides={"output_tokens": pl.UInt32}
    )
    grid, tokens = residual_table(training, ["a", "b", "c"])
    assert tokens.shape == (3, len(grid))
    assert grid[0] == 0
    assert (np.diff(grid) > 0).all()
    assert (tokens >= 1).all()
    for s, service in enumerate(["a", "b", "c"]):
        own = [o for name, o in rows if name == service]
        known = np.array(own if len(own) >= 10 else [o for _, o in rows], dtype=float)
        last = PRIOR_OUTPUT_TOKENS
        for g, got in zip(grid, tokens[s], strict=True):
            beyond = known[known > g]
            if len(known) and len(beyond) >= min(10, len(known)):
                last = max((beyond - g).mean(), 1.0)
            assert got == pytest.approx(last)


def test_a_memoryless_length_expects_its_mean_again(rng):
    lengths = rng.geometric(1 / 300, 200_000)
    grid, tokens = residual_table(table(arrival_s=np.zeros(200_000), output_tokens=lengths), ["chat"])
    np.testing.assert_allclose(tokens[0][grid < 1000], 300, rtol=0.05)


def test_the_tables_of_real_traffic_reach_its_longest_output(rng):
    requests = traffic(rng, hours=24)
    grid, _ = residual_table(requests, ["chat", "code"])
    assert grid[-1] >= requests["output_tokens"].max() / 2**0.5


def test_the_rest_by_predicted_bucket_is_its_definition(rng):
    requests = habits(rng, rate=0.2)
    services, edges = ["chat", "<code>", "unseen"], [100.0, 400.0, 1e9]
    predicted = np.exp(rng.normal(5, 1, requests.height))
    grid, tokens = residual_by_bucket(requests, predicted, edges, services)
    same, by_service = residual_table(requests, services)
    np.testing.assert_array_equal(grid, same)
    assert tokens.shape == (3, 4, len(grid))
    for s, service in enumerate(services):
        for bucket, (low, high) in enumerate([(0, 100), (100, 400), (400, 1e9), (1e9, np.inf)]):
            own = requests.filter(pl.Series((predicted > low) & (predicted <= high)) & (pl.col("service") == service))
            one = residual_table(own, [service])[1][0] if own.height >= 10 else by_service[s]
            n = min(len(one), len(grid)) - 2
            np.testing.assert_allclose(tokens[s, bucket][:n], one[:n])


def test_a_short_answer_that_goes_on_is_not_as_long_as_a_long_one(rng):
    """Two kinds of request in one service: what outlives a short prediction is expected to end soon."""
    long = rng.random(20_000) < 0.5
    lengths = rng.geometric(np.where(long, 1 / 1000, 1 / 50))
    requests = table(arrival_s=np.arange(20_000.0), output_tokens=lengths)
    grid, tokens = residual_by_bucket(requests, np.where(long, 1000.0, 50.0), [500.0], ["chat"])
    at = np.searchsorted(grid, 50) - 1
    assert tokens[0, 0, at] == pytest.approx(50, rel=0.1)
    assert tokens[0, 1, at] == pytest.approx(1000, rel=0.1)
    assert residual_table(requests, ["chat"])[1][0, at] > 500
