"""Profiles fitted to measured step times: coefficients come back, wrong rows are named, the error is held out."""

import json

import numpy as np
import polars as pl
import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.cli.main import main
from lmaas.replay.calibration.stepfit import fit_steps
from lmaas.replay.calibration.steptable import read_steps
from lmaas.replay.profile import Latency, Profile, find_profile

TRUTH = Latency(
    base=0.01, token_knots=(0, 256), token_slopes=(2e-5, 5e-5), attn_pair=2e-9, decode_seq=2e-5, decode_kv=1e-7
)


def step_s(lat: Latency, n: int, pairs: float = 0, decodes: float = 0, context: float = 0) -> float:
    return lat.base + lat.token_s(n)[n] + lat.attn_pair * pairs + lat.decode_seq * decodes + lat.decode_kv * context


def batches(lat: Latency = TRUTH, noise: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """As a benchmark would write them: every configuration three times."""
    rng, rows = np.random.default_rng(seed), []
    for prompt in (128, 256, 512, 1024, 2048, 4096):
        for batch in (1, 2, 4, 8, 16, 32, 64):
            if prompt * batch <= 16384:
                prefill = step_s(lat, prompt * batch, batch * prompt * (prompt + 1) / 2)
                decode = step_s(lat, batch, 0, batch, batch * (prompt + 64))
                times = 1e3 * np.array([prefill, decode]) * (1 + noise * rng.standard_normal((3, 2)))
                rows += [(prompt, batch, 128, *pair) for pair in times]
    names = ("prompt_size", "batch_size", "token_size", "prompt_time", "token_time")
    return pl.DataFrame(rows, schema=names, orient="row")


def written(tmp_path, table, name="steps.csv"):
    path = tmp_path / name
    table.write_parquet(path) if name.endswith("parquet") else table.write_csv(path)
    return path


def predicted(lat: Latency, n, pairs, decodes, context):
    return [step_s(lat, int(a), b, c, d) for a, b, c, d in zip(n, pairs, decodes, context, strict=True)]


@pytest.mark.parametrize("name", ["steps.csv", "steps.parquet"])
def test_exact_times_give_the_step_times_back(tmp_path, name):
    steps = read_steps(written(tmp_path, batches(), name))
    found = fit_steps(steps)
    at = (steps.n, steps.pairs, steps.decodes, steps.context)
    assert predicted(found.latency, *at) == pytest.approx(predicted(TRUTH, *at), rel=0.01)
    assert found.latency.decode_kv == pytest.approx(TRUTH.decode_kv, rel=0.05)
    assert found.error["mape"] < 0.01
    assert len(found.outliers) == 0


def test_the_share_that_is_fitted_rises_to_all_of_it(tmp_path):
    shares = []
    fit_steps(read_steps(written(tmp_path, batches())), shares.append)
    assert shares == sorted(set(shares)) and shares[0] == 0 and shares[-1] == 1
    assert len(shares) == 7 and {share.unit for share in shares} == {"steps"}  # five folds, and all of it


def test_noise_is_what_the_held_out_error_shows(tmp_path):
    """Medians of three runs with 5 % noise are off by about 3 %; the error says so, and is not smaller than that."""
    steps = read_steps(written(tmp_path, batches(noise=0.05)))
    found = fit_steps(steps)
    assert 0.015 < found.error["mape"] < 0.06
    at = (steps.n, steps.pairs, steps.decodes, steps.context)
    off = np.array(predicted(found.latency, *at)) / np.array(predicted(TRUTH, *at)) - 1
    assert np.abs(off).mean() < found.error["mape"]


def test_a_configuration_that_went_wrong_is_named_and_sways_nothing(tmp_path):
    wrong = (pl.col("prompt_size") == 512) & (pl.col("batch_size") == 8)
    table = batches().with_columns(prompt_time=pl.when(wrong).then(1.0).otherwise("prompt_time"))
    steps = read_steps(written(tmp_path, table))
    found = fit_steps(steps)
    assert [(steps.n[i], steps.decodes[i]) for i in found.outliers] == [(4096, 0)]
    others = np.setdiff1d(np.arange(len(steps)), found.outliers)
    at = [column[others] for column in (steps.n, steps.pairs, steps.decodes, steps.context)]
    assert predicted(found.latency, *at) == pytest.approx(predicted(TRUTH, *at), rel=0.05)


def test_steps_of_any_mix_are_read_too(tmp_path):
    rng = np.random.default_rng(3)
    prefill, decodes = rng.integers(0, 4096, 200), rng.integers(1, 128, 200)
    context, prefix = decodes * rng.integers(100, 4000, 200), rng.integers(0, 2, 200) * 1000
    pairs = prefill * prefix + prefill * (prefill + 1) / 2
    times = [
        step_s(TRUTH, int(n), p, b, k) for n, p, b, k in zip(prefill + decodes, pairs, decodes, context, strict=True)
    ]
    names = {"prefill_tokens": prefill, "prefix_tokens": prefix, "decode_seqs": decodes, "decode_context": context}
    steps = read_steps(written(tmp_path, pl.DataFrame({**names, "time_s": times})))
    assert len(steps) == 200
    assert steps.pairs == pytest.approx(pairs)
    assert fit_steps(steps).error["p95"] < 0.02


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("a,b\n1,2\n", Exit.INPUT, "no columns of measured steps"),
        ("", Exit.INPUT, "not a table"),
        ("prompt_size,batch_size,token_size,prompt_time,token_time\n1,1,1,1,1\n", Exit.INPUT, "at least 4"),
        ("prompt_size,batch_size,token_size,prompt_time,token_time\nx,nan,inf,-1,\n", Exit.INPUT, "0 different steps"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, code, says):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        read_steps(path)
    assert error.value.code == code


def test_several_combinations_must_be_told_apart(tmp_path):
    both = pl.concat([batches().with_columns(model=pl.lit(name)) for name in ("one", "two")])
    path = written(tmp_path, both)
    with pytest.raises(UserError, match="--model must name one of its models: one, two"):
        read_steps(path)
    assert len(read_steps(path, model="ONE")) == len(read_steps(written(tmp_path, batches())))


def test_the_command_writes_a_profile_that_evaluate_takes(tmp_path, capsys, home):
    out = tmp_path / "mine.json"
    asked = ["profile", "fit", str(written(tmp_path, batches(noise=0.02))), "--kv-tokens", "100000", "--out", str(out)]
    assert main([*asked, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    profile = find_profile(str(out))
    assert Profile.model_validate(printed["profile"]) == profile
    assert (profile.provenance, profile.kv_tokens) == ("fitted", 100_000)
    assert profile.error is not None and 0 < profile.error["mape"] < 0.05


def test_published_step_times_are_fitted_as_well_as_the_study_found(shared):
    """splitwise-sim's measurements, configurations held out: docs/profiles.md."""
    path = shared / "profiles" / "splitwise_step_times.csv"
    for model, gpu, tp in (
        ("llama2-70b", "h100-80gb", 8),
        ("bloom-176b", "h100-80gb", 8),
        ("bloom-176b", "a100-80gb", 8),
    ):
        steps = read_steps(path, model, gpu, tp)
        assert np.median(np.abs(fit_steps(steps).held_out)) < 0.04, (model, gpu)
    broken = fit_steps(read_steps(path, "llama2-70b", "h100-80gb", 2))
    assert len(broken.outliers) == 1
