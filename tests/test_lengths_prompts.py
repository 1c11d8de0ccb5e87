"""Hashed words of prompts as features of output lengths: worth, choice, and nothing learned from the future."""

import numpy as np
import polars as pl
import pytest
from requests_data import habits, scramble

from lmaas.analysis.grams import BITS, bits_of, hashed
from lmaas.analysis.lengths import LengthPredictor
from lmaas.analysis.lengths.modelfile import load, save
from lmaas.analysis.lengths.modelform import Facts
from lmaas.analysis.lengths.prompts import LEAST_T, MOST, telling

CUT_S = 3600.0
FILLER = [f"word{i}" for i in range(2000)]
ASKS = {"list": 6.0, "briefly": 0.3, "prove": 3.0, "translate": 1.0}  # word -> how much longer the answer is


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def asked(rng, requests: pl.DataFrame, *, telling_words=True) -> pl.DataFrame:
    """`requests` with prompts of ten words, one of which says how long the answer will be, or seems to."""
    n = requests.height
    words = rng.choice(list(ASKS), n)
    filler = rng.choice(FILLER, (n, 9))
    grams = hashed(pl.Series([f"{word} {' '.join(some)}" for word, some in zip(words, filler, strict=True)]))
    longer = np.array([ASKS[word] for word in (words if telling_words else rng.choice(list(ASKS), n))])
    output = np.ceil(requests["output_tokens"].to_numpy() * longer)
    return requests.with_columns(prompt_grams=grams, output_tokens=pl.Series(output, dtype=pl.UInt32))


def learned(requests):
    return LengthPredictor.train(requests, cut_s=CUT_S).predict(requests)


def error(requests, *without):
    late = (requests["arrival_s"] >= CUT_S).to_numpy()
    guess = learned(requests.drop(*without))
    return np.abs(guess - requests["output_tokens"].to_numpy())[late].mean()


def test_words_that_say_how_long_the_answer_is_are_found(rng):
    requests = asked(rng, habits(rng))
    assert error(requests) < 0.7 * error(requests, "prompt_grams")


def test_the_chosen_bits_are_those_of_the_words(rng):
    requests = asked(rng, habits(rng))
    chosen = telling(requests)
    assert 0 < len(chosen) <= MOST
    of_words = {f"gram_{bit}" for bit in bits_of(hashed(pl.Series(list(ASKS)))).any(axis=0).nonzero()[0]}
    assert len(of_words & chosen) >= 3


def test_the_choice_is_by_its_definition(rng):
    """Within a service: Student's t of the difference that a bit makes."""
    requests = asked(rng, habits(rng, rate=0.3))
    log = np.log(requests["output_tokens"].to_numpy())
    service = requests["service"].to_numpy()
    log = log - np.array([log[service == s].mean() for s in service])
    bits = bits_of(requests["prompt_grams"])
    n, clear = len(log), set()
    for bit in range(BITS):
        r = np.corrcoef(bits[:, bit], log)[0, 1]
        if abs(r) * np.sqrt(n / (1 - r**2)) >= LEAST_T:
            clear.add(f"gram_{bit}")
    assert telling(requests) == clear and 0 < len(clear) < MOST


def test_words_that_say_nothing_become_no_features(rng):
    assert len(telling(asked(rng, habits(rng), telling_words=False))) <= 1


@pytest.mark.parametrize("grams", [None, "all null", "one value", "no rows", "equal outputs"])
def test_prompts_that_cannot_tell_are_left_out(rng, grams):
    requests = habits(rng, rate=0.3)
    value = None if grams == "all null" else "0" * 31 + "1"
    requests = requests if grams is None else requests.with_columns(prompt_grams=pl.lit(value, pl.String))
    if grams == "equal outputs":
        requests = asked(rng, requests).with_columns(output_tokens=pl.lit(7, pl.UInt32))
    assert telling(requests.clear() if grams == "no rows" else requests) == set()


def test_traces_without_prompts_are_predicted_as_before(rng):
    """Nothing but nulls changes no prediction to the bit; nor does a trace without prompts need them later."""
    requests = habits(rng, rate=0.5)
    bare = LengthPredictor.train(requests, cut_s=CUT_S)
    empty = requests.with_columns(prompt_grams=pl.lit(None, pl.String))
    nulls = LengthPredictor.train(empty, cut_s=CUT_S)
    assert bare.features.names == nulls.features.names
    np.testing.assert_array_equal(nulls.predict(empty), bare.predict(requests))
    told = LengthPredictor.train(asked(rng, requests), cut_s=CUT_S)
    np.testing.assert_array_equal(told.predict(empty), told.predict(requests))


def test_a_stored_model_predicts_by_prompts_to_the_bit(rng, tmp_path):
    requests = asked(rng, habits(rng, rate=0.5))
    predictor = LengthPredictor.train(requests, cut_s=CUT_S, intervals=True)
    facts = Facts(trace_id="t", trace_name="t", epoch=None, from_s=0.0, to_s=CUT_S, cut_s=CUT_S, rows=9, kind="trees",
                  seed=0, note=None, sketch=[])  # fmt: skip
    save(predictor, facts, tmp_path / "m.json")
    read, _ = load(tmp_path / "m.json")
    assert any(name.startswith("gram_") for name in read.features.names)
    np.testing.assert_array_equal(read.predict(requests), predictor.predict(requests))
    np.testing.assert_array_equal(read.quantiles(requests), predictor.quantiles(requests))


# --- no look-ahead ---


def reworded(requests, t, rng):
    """`scramble`, and the prompts of what arrives from t on drawn anew."""
    requests = scramble(requests, t, rng)
    shuffled = requests["prompt_grams"].sample(fraction=1, shuffle=True, seed=int(rng.integers(1000)))
    return requests.with_columns(
        prompt_grams=pl.when(pl.col("arrival_s") >= t).then(shuffled).otherwise("prompt_grams")
    )


def changes(predict, requests, t):
    before = int((requests["arrival_s"] < t).sum())
    other = reworded(requests, t, np.random.default_rng(5))
    return not np.array_equal(predict(other)[:before], predict(requests)[:before])


@pytest.mark.parametrize("t", [CUT_S, CUT_S + 500.25])
def test_later_prompts_and_answers_change_no_earlier_prediction(t, rng):
    assert not changes(learned, asked(rng, habits(rng, rate=1.0)), t)


def test_choosing_bits_by_later_answers_is_caught(rng):
    def cheat(requests):
        everything = requests.with_columns(done_s=pl.lit(0.0))
        return LengthPredictor.train(everything, cut_s=CUT_S + 600).predict(requests)

    assert changes(cheat, asked(rng, habits(rng, rate=1.0)), CUT_S)


def test_words_that_tell_only_from_the_cut_on_are_no_gain(rng):
    """The answer is planted in the prompts of the future: what was learned before cannot read it."""
    requests = asked(rng, habits(rng, rate=1.0), telling_words=False)
    lengths = pl.Series([f"n{int(np.log2(x))}" for x in requests["output_tokens"]])
    planted = pl.when(pl.col("arrival_s") >= CUT_S).then(hashed(lengths)).otherwise("prompt_grams")
    assert error(requests.with_columns(prompt_grams=planted)) > 0.97 * error(requests, "prompt_grams")
