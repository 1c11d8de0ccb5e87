"""Every length predictor there is: the same contract, and the same cheats that must not go unseen."""

import numpy as np
import polars as pl
import pytest
from requests_data import habits, scramble, table

from lmaas.analysis.errors import UserError
from lmaas.analysis.lengths import LengthPredictor, train
from lmaas.analysis.lengths.features import Features
from lmaas.analysis.lengths.history import RECENT
from lmaas.analysis.lengths.intervals import LEVELS, split
from lmaas.analysis.lengths.kinds import PREDICTORS
from lmaas.analysis.lengths.predictor import known_by
from lmaas.analysis.lengths.scores import scores

CUT_S = 3600.0
LEARNING = ("trees", "buckets")  # what looks back on completions


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture(params=PREDICTORS)
def kind(request):
    return request.param


def taught(requests, kind, **more):
    return LengthPredictor.train(requests, cut_s=CUT_S, kind=kind, intervals=True, **more)


def everything(predictor, requests):
    """All that is predicted, side by side."""
    told = predictor.told(requests).to_numpy().astype(np.float64)
    np.testing.assert_array_equal(told[:, 0], predictor.predict(requests))
    np.testing.assert_array_equal(told[:, 2:], predictor.quantiles(requests))
    return np.column_stack([told[:, 0], told[:, 2:], told[:, 1]])


# --- form ---


def test_all_of_it_is_aligned_finite_and_the_same_in_any_order(kind, rng):
    requests = habits(rng, rate=0.6)
    late = requests.filter(pl.col("arrival_s") >= CUT_S)
    predictor = taught(requests, kind)
    assert predictor.note is None
    told = everything(predictor, late)
    assert np.isfinite(told).all()
    assert (told[:, :-1] >= 1).all()
    assert (np.diff(told[:, 1:-1], axis=1) >= 0).all()
    assert set(told[:, -1]) <= set(range(len(predictor.edges) + 1))
    order = rng.permutation(late.height)
    np.testing.assert_array_equal(everything(predictor, late[order]), told[order])
    assert everything(predictor, late.clear()).shape == (0, len(LEVELS) + 2)
    np.testing.assert_array_equal(everything(taught(requests, kind), late), told)
    np.testing.assert_array_equal(train(requests, cut_s=CUT_S, kind=kind).predict(late), told[:, 0])


@pytest.mark.parametrize("n", [0, 1, 2, 19, 20, 499, 500])
def test_few_rows_are_enough_to_say_something(n, kind, rng):
    requests = habits(rng, rate=0.6)
    late = requests.filter(pl.col("arrival_s") >= CUT_S)
    predictor = taught(pl.concat([requests.head(n), late]), kind)
    assert (predictor.predict(late) >= 1).all()
    quantiles = predictor.quantiles(late)
    assert (quantiles is None) == (n == 0)
    assert (predictor.note is None) == (n >= {"median": 1, "input-bin": 20}.get(kind, 500))


def test_one_row_unknown_levels_and_null_columns(kind, rng):
    predictor = taught(habits(rng, rate=0.6), kind)
    strange = table(
        arrival_s=[-1.0, 1e9, 4000.0], service=["<script>", "new", "chat"], region=["mars", None, None],
        tenant=[None, "x", "t1"], input_tokens=[None, 4_000_000_000, 0], output_tokens=[None] * 3, done_s=[None] * 3,
    )  # fmt: skip
    assert np.isfinite(everything(predictor, strange)).all()
    bare = strange.select("arrival_s", "service", "input_tokens")
    for row in range(3):
        assert np.isfinite(everything(predictor, bare[row : row + 1])).all()


def test_nothing_but_nulls_to_learn_from(kind, rng):
    requests = habits(rng, rate=0.6).with_columns(
        *(pl.lit(None, pl.String).alias(c) for c in ("tenant", "tier", "region")),
        input_tokens=pl.lit(None, pl.UInt32),
        max_tokens=pl.lit(None, pl.UInt32),
        session_id=pl.lit(None, pl.String),
    )
    assert np.isfinite(everything(taught(requests, kind), requests)).all()


def test_an_unknown_kind_is_refused(rng):
    with pytest.raises(UserError, match="no length predictor named 'tree'; did you mean 'trees'"):
        train(habits(rng, rate=0.1), cut_s=CUT_S, kind="tree")


# --- worth ---


def test_a_constant_is_predicted_as_it_is(kind, rng):
    requests = habits(rng, rate=0.6).with_columns(output_tokens=pl.lit(300, pl.UInt32))
    told = everything(taught(requests, kind), requests.filter(pl.col("arrival_s") >= CUT_S))
    np.testing.assert_allclose(told[:, :-1], 300, rtol=1e-3)


@pytest.mark.parametrize("kind", LEARNING)
def test_a_planted_rule_is_learned(kind, rng):
    """Output = 2 x input + what the tenant adds."""
    requests = habits(rng)
    tenant = pl.col("tenant").str.slice(1).cast(pl.Int64)
    ruled = requests.with_columns(output_tokens=(2 * pl.col("input_tokens") + 300 * tenant).cast(pl.UInt32))
    found = scores({kind: taught(ruled, kind), "input-bin": taught(ruled, "input-bin")}, ruled)
    mine, bins = found.filter(pl.col("service").is_null()).to_dicts()
    late = ruled.filter(pl.col("arrival_s") >= CUT_S)["output_tokens"]
    assert mine["mae_tokens"] < {"trees": 0.06, "buckets": 0.15}[kind] * late.mean()
    assert mine["mae_tokens"] < {"trees": 0.4, "buckets": 0.65}[kind] * bins["mae_tokens"]
    assert mine["kendall_tau"] > 0.9
    assert mine["bucket_accuracy"] > 0.6


@pytest.mark.parametrize("noise", [0.3, 1.2])
def test_intervals_cover_what_they_say(kind, noise, rng):
    requests = habits(rng, noise=noise)
    found = scores({kind: taught(requests, kind)}, requests)
    for row in found.to_dicts():
        assert abs(row["coverage_80"] - 0.8) < 0.05, row
        assert abs(row["coverage_95"] - 0.95) < 0.03, row


def test_scores_are_their_definitions(kind, rng):
    requests = habits(rng, rate=0.6)
    predictor = taught(requests, kind)
    late = requests.filter(pl.col("arrival_s") >= CUT_S)
    true, told = late["output_tokens"].to_numpy().astype(float), everything(predictor, requests)[-late.height :]
    row = scores({kind: predictor}, requests).row(0, named=True)
    pairs = [(told[i, 0] - told[j, 0], true[i] - true[j]) for i in range(400) for j in range(i)]
    part = scores({kind: predictor}, pl.concat([requests.filter(pl.col("arrival_s") < CUT_S), late[:400]]))
    assert (row["service"], row["n"], row["n_tau"]) == (None, late.height, late.height)
    pinball = [np.mean([max(q * e, (q - 1) * e) for e in true - told[:, 1 + k]]) for k, q in enumerate(LEVELS)]
    assert row["pinball_tokens"] == pytest.approx(np.mean(pinball))
    assert row["coverage_80"] == pytest.approx(((told[:, 2] <= true) & (true <= told[:, 4])).mean())
    assert row["bucket_accuracy"] == pytest.approx(
        np.mean([sum(t > e for e in predictor.edges) == b for t, b in zip(true, told[:, -1], strict=True)])
    )
    signs = np.sign(pairs)
    if signs[:, 0].any():
        agree = (signs[:, 0] * signs[:, 1]).sum() / np.sqrt(np.abs(signs).sum(axis=0).prod())  # tau-b
        assert part["kendall_tau"][0] == pytest.approx(agree)
    else:
        assert part["kendall_tau"][0] is None


@pytest.mark.parametrize("name", ["code", "conv"])
def test_coverage_on_held_out_halves_of_real_traffic(name, kind, shared):
    path = shared / "traces" / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.csv"
    if not path.exists():
        pytest.skip("no Azure trace beside the checkout")
    rows = pl.read_csv(path)
    t = rows["TIMESTAMP"].str.slice(0, 26).str.to_datetime(time_unit="us").dt.epoch("us") / 1e6
    output = rows["GeneratedTokens"]
    requests = table(
        arrival_s=t - t.min(), input_tokens=rows["ContextTokens"], output_tokens=output,
        done_s=t - t.min() + 1 + 0.05 * output,
    ).filter(pl.col("output_tokens") >= 1)  # fmt: skip
    cut_s = requests["arrival_s"].max() / 2
    predictor = LengthPredictor.train(requests, cut_s=cut_s, kind=kind, intervals=True)
    row = scores({kind: predictor}, requests).row(0, named=True)
    assert abs(row["coverage_80"] - 0.8) < 0.05
    assert abs(row["coverage_95"] - 0.95) < 0.05


# --- no look-ahead ---


def sees_the_future(tell, requests, t):
    """Whether what is told of arrivals before t changes with what happens from t on."""
    before = (requests["arrival_s"] < t).to_numpy()
    assert before.sum() > 500
    told = tell(requests)[before]
    changed = (tell(scramble(requests, t, np.random.default_rng(seed)))[: before.sum()] for seed in range(2))
    return not all(np.array_equal(other, told) for other in changed)


@pytest.mark.parametrize("t", [CUT_S, CUT_S + 500.25])
def test_never_looks_ahead(kind, t, rng):
    def tell(requests):
        return everything(taught(requests, kind), requests)

    assert not sees_the_future(tell, habits(rng, rate=0.6), t)


@pytest.mark.parametrize("kind", LEARNING)
def test_history_without_the_completion_lag_is_caught(kind, rng):
    def cheat(requests):
        at_once = requests.with_columns(done_s=pl.col("arrival_s"))
        return everything(taught(requests, kind), at_once)

    assert sees_the_future(cheat, habits(rng, rate=0.6), CUT_S + 500.25)


def test_training_on_what_was_still_running_is_caught(kind, rng):
    def cheat(requests):
        return everything(taught(requests.with_columns(done_s=pl.col("arrival_s")), kind), requests)

    assert sees_the_future(cheat, habits(rng, rate=0.6), CUT_S)


def test_calibration_rows_come_after_what_the_quantiles_learned_from(rng):
    """What was not done when the calibration rows begin must not be learned from."""
    requests = habits(rng, rate=0.6)
    known = known_by(requests, CUT_S)
    early, late = (known.filter(part) for part in split(known))
    assert early["done_s"].max() < late["arrival_s"].min()
    assert late["done_s"].max() < CUT_S
    assert early.height > 3 * late.height


def test_training_rows_are_never_scored(kind, rng):
    requests = habits(rng, rate=0.6)
    predictor = LengthPredictor.train(requests, cut_s=CUT_S, kind=kind)
    assert scores({kind: predictor}, requests.filter(pl.col("arrival_s") < CUT_S)).is_empty()
    late = requests.filter(pl.col("arrival_s") >= CUT_S)
    assert scores({kind: predictor}, requests)["n"][0] == late.height
    earlier = LengthPredictor.train(requests, cut_s=CUT_S / 2, kind="median")
    assert set(scores({kind: predictor, "earlier": earlier}, requests)["n"]) == set(
        scores({kind: predictor}, requests)["n"]
    )


def test_an_answer_in_another_column_is_no_gain(kind, rng):
    """Only columns that are known at arrival are looked at."""
    requests = habits(rng, rate=0.6)
    answer = pl.col("output_tokens")
    planted = requests.with_columns(
        e2e_s=answer / 1.0, ttft_s=answer / 2.0, queue_s=answer / 3.0, cached_tokens=answer, answer=answer,
        status=pl.lit("ok"), request_id=answer.cast(pl.String), parent_id=answer.cast(pl.String), think_s=answer / 4.0,
    )  # fmt: skip
    np.testing.assert_array_equal(
        everything(taught(planted, kind), planted), everything(taught(requests, kind), requests)
    )


def test_an_answer_in_a_later_row_is_no_gain(kind, rng):
    """Each output is announced by another request of its tenant and session, done just after it arrived."""
    n = 4000
    t = np.sort(rng.random(n) * 2 * CUT_S)
    names, output = [f"t{i}" for i in range(n)], np.exp(rng.normal(5, 1, n)).astype(int) + 1
    real = table(arrival_s=t, tenant=names, output_tokens=output, done_s=t + 100).with_columns(
        session_id=pl.Series(names)
    )
    announced = real.with_columns(arrival_s=pl.col("arrival_s") + 1e-3, done_s=pl.col("arrival_s") + 2e-3)
    both = pl.concat([real, announced]).sort("arrival_s", maintain_order=True)
    error = np.abs(taught(both, kind).predict(both) - both["output_tokens"].to_numpy())
    first = (both["done_s"] > both["arrival_s"] + 1).to_numpy() & (both["arrival_s"] >= CUT_S).to_numpy()
    assert error[first].mean() > 0.8 * np.abs(output - np.median(output)).mean()


# --- sessions ---


def conversations(rng, n=1500, sessions=150):
    requests = habits(rng, rate=n / 7200)
    names = pl.Series([f"s{i}" if i else None for i in rng.integers(0, sessions, requests.height)], dtype=pl.String)
    whole = requests.with_columns(arrival_s=(pl.col("arrival_s") / 10).round() * 10, session_id=names)
    return whole.with_columns(done_s=pl.col("arrival_s") + (pl.col("output_tokens") / 40).round())


def test_what_a_session_tells_is_its_definition(rng):
    """Plain Python over the rows, among them several at one instant and some that are remembered."""
    requests = conversations(rng)
    features = Features.learn(requests[:700])
    later = requests[700:][rng.permutation(requests.height - 700)]
    matrix = dict(zip(features.names, features.matrix(later).T, strict=True))
    start = later["arrival_s"].min()
    remembered = [r for r in requests[:700].to_dicts() if r["session_id"] is not None and r["arrival_s"] < start]
    rows = later.to_dicts()
    for i, row in enumerate(rows):
        own = [r for r in [*remembered, *rows] if r["session_id"] == row["session_id"] is not None]
        before = [r for r in own if r["arrival_s"] < row["arrival_s"]]
        done = sorted(
            (r for r in own if r["done_s"] < row["arrival_s"]),
            key=lambda r: (r["done_s"], r["arrival_s"], r["output_tokens"]),
        )
        last = max(before, key=lambda r: (r["arrival_s"], r["input_tokens"]), default=None)
        expected = {
            "turn": len(before) if row["session_id"] else np.nan,
            "gap": row["arrival_s"] - last["arrival_s"] if last else np.nan,
            "previous_input": last["input_tokens"] if last else np.nan,
            "previous_output": done[-1]["output_tokens"] if done else np.nan,
            "session_recent": np.mean([r["output_tokens"] for r in done[-RECENT:]]) if done else np.nan,
        }
        for name, value in expected.items():
            assert matrix[name][i] == pytest.approx(np.log1p(value), rel=1e-5, nan_ok=True), name


def test_sessions_as_numbers_are_sessions(rng):
    requests = conversations(rng)
    number = pl.col("session_id").str.slice(1).cast(pl.Int64).fill_null(-1).alias("session")
    numbered = requests.with_columns(number).drop("session_id")
    np.testing.assert_array_equal(Features.learn(requests).matrix(requests), Features.learn(numbered).matrix(numbered))


def test_a_sessions_habit_is_found(rng):
    """Tenants and inputs say nothing; how a session's answers were says what the next will be."""
    requests = conversations(rng, n=6000, sessions=60)
    habit = requests["session_id"].fill_null("none").replace_strict(
        {s: 20 * 1.08**i for i, s in enumerate(requests["session_id"].fill_null("none").unique().sort())}
    )  # fmt: skip
    habitual = requests.with_columns(output_tokens=habit.cast(pl.UInt32), tenant=pl.lit(None, pl.String))
    errors = [
        scores({"trees": LengthPredictor.train(rows, cut_s=CUT_S)}, rows)["mae_tokens"][0]
        for rows in (habitual, habitual.drop("session_id"))
    ]
    assert errors[0] < 0.3 * errors[1]


def test_sessions_do_not_look_ahead(kind, rng):
    requests = conversations(rng)
    t = CUT_S + 500.25
    before = int((requests["arrival_s"] < t).sum())
    other = scramble(requests, t, rng).with_columns(
        session_id=pl.when(pl.col("arrival_s") >= t).then(pl.col("session_id").reverse()).otherwise("session_id")
    )
    told, changed = (everything(taught(rows, kind), rows)[:before] for rows in (requests, other))
    np.testing.assert_array_equal(told, changed)


@pytest.mark.parametrize("kind", ["trees", "buckets", "input-bin", "median"])
def test_nothing_predicted_is_above_the_limit_that_a_request_asks_for(kind):
    requests = habits(np.random.default_rng(2), rate=0.5)
    predictor = LengthPredictor.train(requests, cut_s=CUT_S, kind=kind, intervals=True)
    free = predictor.told(requests)
    limited = predictor.told(requests.with_columns(max_tokens=pl.lit(40, pl.UInt32)))
    for name in free.columns:
        if name != "bucket":
            np.testing.assert_array_equal(limited[name], np.minimum(free[name], 40.0))
    unlimited = predictor.told(requests.with_columns(max_tokens=pl.lit(None, pl.UInt32)))
    assert unlimited.equals(free) and predictor.told(requests.with_columns(max_tokens=pl.lit(0, pl.UInt32))).equals(
        free
    )


@pytest.mark.parametrize("kind", list(PREDICTORS))
def test_constant_outputs_are_off_by_nothing_and_have_no_bucket_to_hit(kind):
    requests = habits(np.random.default_rng(2), rate=0.5).with_columns(output_tokens=pl.lit(137, pl.UInt32))
    predictor = LengthPredictor.train(requests, cut_s=CUT_S, kind=kind)
    row = scores({kind: predictor}, requests).filter(pl.col("service").is_null()).row(0, named=True)
    assert (row["mae_tokens"], row["bias_tokens"], row["bucket_accuracy"], row["buckets"]) == (0.0, 0.0, None, 1)
