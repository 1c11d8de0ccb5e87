"""What outlived predictions grow by: by the bucket of the prediction at arrival, in the kernel and as policies ask."""

import json

import numpy as np
import polars as pl
import pytest
from three_hours import PROFILE, rows, stored

from lmaas.analysis.lengths import known_by, residual_by_bucket, residual_table
from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import prepare
from lmaas.replay.engine import NEVER, Extension, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile

N = 400
LATENCY = Latency(base=0.01, token_knots=(0,), token_slopes=(1e-4,), attn_pair=1e-8, decode_seq=1e-4, decode_kv=1e-6)
POOL = Pool("s", "r", Profile(name="p", latency=LATENCY, kv_tokens=20_000, max_batch_tokens=512, max_seqs=16))
GRID = np.array([0, 8, 32, 128])


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def played(requests, extension):
    outcome = Replay(requests, Fleet((POOL,)), [4], "least-outstanding", NEVER, extension).run(True)
    return outcome.done_s, outcome.record


def requests(rng, **changes):
    columns = {
        "arrival_s": np.sort(rng.random(N) * 20), "pool": np.zeros(N, np.int64),
        "input_tokens": rng.integers(1, 400, N), "output_tokens": rng.geometric(1 / 80, N),
        "predicted_tokens": rng.choice([5.0, 20.0, 20.4, 60.0, 200.0], N), "kind": rng.integers(0, 2, N),
    }  # fmt: skip
    return Requests(**(columns | changes))


def test_rows_by_bucket_are_rows_of_their_own(rng):
    """The same table with a kind for each pair of kind and bucket gives the same replay, and another one another."""
    edges, tokens = np.array([5, 20, 60]), rng.integers(1, 300, (2 * 4, len(GRID)))
    given = requests(rng)
    bucket = np.searchsorted(edges, np.rint(given.predicted_tokens))
    same = played(given, Extension(GRID, tokens, edges))
    apart = Requests(**{f: getattr(given, f) for f in ("arrival_s", "pool", "input_tokens", "output_tokens")},
                     predicted_tokens=given.predicted_tokens, kind=given.kind * 4 + bucket)  # fmt: skip
    for one, other in zip(same, played(apart, Extension(GRID, tokens)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(same[1], played(given, Extension(GRID, tokens[:2]))[1])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    ready = prepare(
        stored(home, rows(), "plain"), slos=(), attain=0.99, profile=str(home / "profile.json"), fleet=None,
        train_fraction=0.5, warmup_s=600.0, window_s=300.0, load=1.0, seed=0,
    )  # fmt: skip
    return Inputs(ready)


@pytest.mark.parametrize("kind", ["trees", "buckets", "input-bin"])
def test_predictors_that_tell_requests_apart_extend_by_bucket(inputs, kind):
    ready, predictor = inputs.ready, inputs.predictor(kind)
    known = known_by(ready.requests, ready.cut_s)
    edges = np.array(predictor.edges)
    grid, tokens = residual_by_bucket(known, predictor.predict(known), edges, ready.services)
    made = inputs.extension(kind)
    np.testing.assert_array_equal(made.generated, grid)
    np.testing.assert_array_equal(made.tokens, np.maximum(np.rint(tokens.reshape(-1, len(grid))), 1))
    assert len(made.tokens) == len(ready.services) * (len(edges) + 1) and len(edges) > 2
    # a prediction, rounded as in the replay, falls on the same side of the floored edge
    whole = np.arange(1, 3000)
    np.testing.assert_array_equal(np.searchsorted(made.edges, whole), np.searchsorted(edges, whole))


@pytest.mark.parametrize(("kind", "error"), [(None, 0.0), ("median", 0.0), ("true", 0.2)])
def test_others_extend_by_service(inputs, kind, error):
    ready = inputs.ready
    known = ready.requests.filter(pl.col("done_s") < ready.cut_s)
    grid, tokens = residual_table(known, ready.services)
    made = inputs.extension(kind, error)
    np.testing.assert_array_equal(made.tokens, np.maximum(np.rint(tokens), 1))
    assert len(made.edges) == 0 and len(made.generated) == len(grid)


@pytest.mark.parametrize("kind", ["trees", "buckets", "input-bin", "median"])
def test_no_prediction_in_the_replay_is_above_max_tokens(kind, tmp_path):
    (tmp_path / "profile.json").write_text(json.dumps(PROFILE))
    table = rows(n=4_000)
    limit = pl.Series(np.random.default_rng(1).choice([0, 5, 60, 4000], table.height), dtype=pl.UInt32)
    limited = pl.min_horizontal("output_tokens", pl.when(limit > 0).then(limit))
    read = stored(tmp_path, table.with_columns(max_tokens=limit, output_tokens=limited), "limited")
    ready = prepare(
        read, slos=(), attain=0.99, profile=str(tmp_path / "profile.json"), fleet=None, train_fraction=0.5,
        warmup_s=600.0, window_s=300.0, load=1.0, seed=0,
    )  # fmt: skip
    asked, told = ready.replayed["max_tokens"].to_numpy(), Inputs(ready).lengths(kind)
    assert (told >= 1).all() and (told[asked > 0] <= asked[asked > 0]).all()
    assert (told[asked == 5] == 5).mean() > 0.5 and (told[~(asked > 0)] > 20).mean() > 0.5
