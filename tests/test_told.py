"""Whose word policies take: checked names, errors as large as asked, the truth marked, no future seen by others."""

import json

import numpy as np
import polars as pl
import pytest
from three_hours import HOURS, PROFILE, decisions, rows, scrambled, stored

from lmaas.analysis.errors import UserError
from lmaas.analysis.forecasting.forecaster import FORECASTERS
from lmaas.policies import evaluate
from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.told import LENGTHS, demand_off, off, sigma_of

CUT = 0.5 * HOURS * 3600
FAIR = [f"preserve(forecaster={name})" for name in FORECASTERS] + [f"preserve(lengths={name})" for name in LENGTHS]
TOLD = (
    "preserve(forecaster=truth)",
    "preserve(lengths=true)",
    "preserve(forecaster=truth, demand_error=0.2)",
    "preserve(lengths=true, length_error=0.3)",
)
ASK = {"baselines": ["none"], "window_s": 300.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "profile.json").write_text(json.dumps(PROFILE))
    return home


def run(home, table, name, policies):
    return evaluate(stored(home, table, name), policies, profile=str(home / "profile.json"), **ASK)


@pytest.fixture(scope="module")
def result(home):
    return run(home, rows(), "plain", [*FAIR, *TOLD, "preserve", "oracle"])


@pytest.fixture(scope="module")
def inputs(home):
    trace = stored(home, rows(), "plain")
    ready = prepare(
        trace, slos=(), attain=0.99, profile=str(home / "profile.json"), fleet=None, train_fraction=0.5, warmup_s=600.0,
        window_s=300.0, load=1.0, seed=0,
    )  # fmt: skip
    return Inputs(ready)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("preserve(forecaster=auot)", "forecaster is 'auot'; did you mean 'auto'?"),
        ("preserve(forecaster=3)", "forecaster is 3; there are auto"),
        ("preserve(forecaster=[])", "forecaster is []"),
        ("preserve(forecaster=None)", "forecaster is None"),
        ("preserve(lengths=medain)", "did you mean 'median'?"),
        ("preserve(lengths=True)", "lengths is True"),
        ("preserve(lengths='true\\x1b[31m')", "did you mean 'true'?"),
        ("preserve(demand_error=0.1)", "write forecaster=truth, demand_error=0.1"),
        ("preserve(lengths=true, demand_error=0.1)", "write forecaster=truth"),
        ("preserve(length_error=0.1)", "write lengths=true, length_error=0.1"),
        ("oracle(demand_error=0.6)", "a share from 0 to 0.5"),
        ("oracle(demand_error=-0.1)", "a share from 0 to 0.5"),
        ("oracle(demand_error=nan)", "a share from 0 to 0.5"),
        ("oracle(demand_error=1e999)", "a share from 0 to 0.5"),
        ("oracle(length_error=True)", "a share from 0 to 0.5"),
        ("oracle(length_error=tenth)", "a share from 0 to 0.5"),
        ("preserve(forecaster=auto-)", "NAME(PARAMETER=VALUE"),
        ("preserve(forecaster=__import__('os'))", "not a plain value"),
        ("preserve(forecaster=a-b())", "not a plain value"),
        ("preserve(forecaster=a.b)", "not a plain value"),
    ],
)
def test_what_is_wrong_is_said(text, says):
    with pytest.raises(UserError) as error:
        parse_policy(text)
    assert says in str(error.value)
    assert error.value.code == 2


def test_names_need_no_quotes():
    assert (
        parse_policy("preserve(forecaster=last-value)").policy
        == parse_policy("preserve(forecaster='last-value')").policy
    )
    assert parse_policy("preserve(lengths=input-bin)").policy.lengths == "input-bin"


@pytest.mark.parametrize("text", [*FAIR, *TOLD, "oracle(forecaster=auto, lengths=median)", "last-value(lengths=true)"])
def test_foresight_is_what_the_policy_is_told(text):
    policy = parse_policy(text).policy
    assert policy.foresight == (policy.forecaster == "truth" or policy.lengths == "true" or text.startswith("oracle"))


def test_foresight_is_marked_by_policy_not_by_class(result):
    marked = dict(result.scores.select("policy", "foresight").iter_rows())
    assert marked == {name: name in (*TOLD, "oracle") for name in marked}
    (note,) = [note for note in result.notes if note.startswith("foresight")]
    assert all(name in note for name in (*TOLD, "oracle"))


@pytest.mark.parametrize("error", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_sigma_gives_the_error_asked_for(error):
    z = np.random.default_rng(3).standard_normal(1_000_000)
    assert np.abs(np.exp(sigma_of(error) * z) - 1).mean() == pytest.approx(error, rel=0.01)


def test_preserves_error_has_the_papers_sigma():
    assert sigma_of(0.0617) == pytest.approx(0.0772, abs=5e-5)
    assert sigma_of(0.0) < 1e-9


@pytest.mark.parametrize("error", [0.0617, 0.2, 0.5])
def test_demand_is_off_as_asked(inputs, error):
    truth, told = inputs.demand("truth", 60.0), inputs.demand("truth", 60.0, error)
    keys = ["start_s", "service", "origin", "metric"]
    both = truth.join(told, on=keys, suffix="_told").filter(pl.col("value") > 0)
    assert both.height == truth.filter(pl.col("value") > 0).height
    ape = (pl.col("value_told") / pl.col("value") - 1).abs().mean()
    single = both.filter(pl.col("metric") != "total_tokens")
    assert single.select(ape).item() == pytest.approx(error, rel=0.15)  # 432 draws
    sums = told.filter(pl.col("metric") != "requests").pivot("metric", index=keys[:3], values="value")
    assert (sums["total_tokens"] - sums["prompt_tokens"] - sums["output_tokens"]).abs().max() < 1e-6


def test_lengths_are_off_as_asked(inputs):
    true = inputs.lengths("true")
    for error in (0.1, 0.3, 0.5):
        told = inputs.lengths("true", error)
        assert np.abs(told / true - 1).mean() == pytest.approx(error, rel=0.02)
        assert (told >= 1).all()
    first, second = (np.log(inputs.lengths("true", e) / true)[true > 20] for e in (0.1, 0.2))
    assert np.corrcoef(first, second)[0, 1] > 0.999  # the same draws


def test_no_error_is_the_truth(home, inputs):
    assert inputs.demand("truth", 60.0, 0.0).equals(inputs.demand("truth", 0.0))
    assert (inputs.lengths("true", 0.0) == inputs.ready.replayed["output_tokens"].to_numpy()).all()
    assert np.asarray(off(np.arange(5.0), 1e-12, 0)) == pytest.approx(np.arange(5.0))
    found = run(home, rows(), "plain", ["oracle", "oracle(demand_error=0, length_error=0.0)"])
    first, second = (row | {"policy": ""} for row in found.scores.to_dicts())
    assert first == second


def test_draws_do_not_depend_on_the_order_of_rows(inputs):
    truth = inputs.demand("truth", 0.0)
    assert demand_off(truth.reverse(), 0.2, 0).equals(demand_off(truth, 0.2, 0))
    assert not demand_off(truth, 0.2, 1).equals(demand_off(truth, 0.2, 0))


def test_each_word_leads_to_decisions_of_its_own(result):
    """Else the contract below would hold for parameters without effect."""
    of = {name: decisions(result, name, 1e9) for name in ("preserve", *TOLD[:2], *FAIR)}
    plans = [of[name][0] for name in ("preserve", "preserve(forecaster=last-value)", TOLD[0])]
    routes = [of[name][1] for name in ("preserve", "preserve(lengths=input-bin)", "preserve(lengths=median)", TOLD[1])]
    for told in (plans, routes):
        assert not any(a.equals(b) for k, a in enumerate(told) for b in told[:k])
    assert of["preserve"][0].equals(of["preserve(forecaster=auto)"][0])
    assert of["preserve"][1].equals(of["preserve(lengths=trees)"][1])


@pytest.fixture(scope="module")
def other_future(home):
    """From the middle of the evaluated part on, everything is otherwise."""
    after = 0.75 * HOURS * 3600
    return after, run(home, scrambled(rows(), after), "scrambled", [*FAIR, *TOLD[:2]])


@pytest.mark.parametrize("policy", FAIR)
def test_never_looks_ahead(result, other_future, policy):
    until, other = other_future
    for mine, theirs in zip(decisions(result, policy, until), decisions(other, policy, until), strict=True):
        assert mine.height > 20
        assert mine.equals(theirs)


@pytest.mark.parametrize(("policy", "what"), [(TOLD[0], 0), (TOLD[1], 1)])
def test_the_look_ahead_test_can_fail(result, other_future, policy, what):
    until, other = other_future
    mine, theirs = (decisions(found, policy, until + 600)[what] for found in (result, other))
    assert not mine.equals(theirs)


def test_the_truth_begins_with_the_common_fleet(result):
    """Only what comes after the cut tells it from the others."""
    first = pl.col("active").first()
    begin = result.timeline.group_by("policy", "service", "region", maintain_order=True).agg(first)
    of = {name: begin.filter(pl.col("policy") == name)["active"].to_list() for name in ("preserve", TOLD[1])}
    assert of["preserve"] == of[TOLD[1]]
