"""A lost replica, a lost region: policies that divide GPUs, buy a mix or pack workers have what they had again."""

import json

import polars as pl
import pytest
from test_oserve_runs import FLEET, LARGE, SMALL, rows
from three_hours import stored

from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import play

LOST_S, DOWN_S, UP_S = 900.0, 1150.0, 1210.0  # within the evaluated part, 600 to 1500 s
FAULTS = f"""
faults:
  - {{at: {LOST_S:g}, pool: chat/eu, replica: 0}}
  - {{at: {DOWN_S:g}, region: eu, for: {UP_S - DOWN_S:g}s}}
"""
TOLD = "lengths=input-bin"
DIVIDES = [
    f"oserve(forecaster=last-value, {TOLD})",
    f"oserve(forecaster=last-value, {TOLD}, switching=none)",
    f"oserve(forecaster=last-value, {TOLD}, switching=reload)",
    f"homogeneous({TOLD})",
    f"homogeneous({TOLD}, reload=true, period_s=300)",
]
SCALES = [
    f"melange({TOLD})",
    f"aladdin(forecaster=last-value, {TOLD})",
    f"aladdin(forecaster=last-value, {TOLD}, ahead=false)",
]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A few requests a second, so that three of four GPUs would do: nobody comes back for what it serves more."""
    home = tmp_path_factory.mktemp("home")
    priced = {"usd_per_gpu_hour": 2.0}
    (home / "small.json").write_text(json.dumps(SMALL | priced))
    (home / "large.json").write_text(json.dumps(LARGE | priced))
    (home / "fleet.yaml").write_text(FLEET.replace("PATH", str(home / "large.json")) + FAULTS)
    table = rows().filter((pl.col("arrival_s") <= 1500) & (pl.int_range(pl.len()) % 8 == 0))
    return prepare(
        stored(home, table, "few"), slos=(), attain=0.99, profile=str(home / "small.json"), fleet=home / "fleet.yaml",
        train_fraction=0.4, warmup_s=60.0, window_s=60.0, load=1.0, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def inputs(ready):
    return Inputs(ready)


def played(text, ready, inputs):
    return play(parse_policy(text), ready, inputs, lambda share: None, check=True).outcome


def active(outcome, t):
    """Active replicas by profile at t."""
    there = outcome.spans.filter((pl.col("state") == "active") & (pl.col("from_s") <= t) & (t < pl.col("to_s")))
    shapes = there.join(outcome.replicas, on=["pool", "replica"])["profile"].to_list()
    return {shape: shapes.count(shape) for shape in set(shapes)}


@pytest.mark.parametrize("text", [*DIVIDES, SCALES[0]])
def test_what_a_fault_took_is_there_again_as_it_was(ready, inputs, text):
    """A start lasts 80 or 90 s on average, drawn; a replica's weights come from its neighbours in less than one."""
    outcome = played(text, ready, inputs)
    before = active(outcome, LOST_S - 1)
    assert before and active(outcome, LOST_S) != before
    assert active(outcome, DOWN_S - 1) == before
    assert active(outcome, UP_S - 1) == {}
    assert active(outcome, 1499.0) == before
    assert (outcome.status == 1).all()


@pytest.mark.parametrize("text", SCALES[1:])
def test_who_packs_opens_workers_again(ready, inputs, text):
    outcome = played(text, ready, inputs)
    assert active(outcome, UP_S - 1) == {}
    assert active(outcome, 1499.0)
    assert (outcome.status == 1).all()
    late = outcome.arrival_s > 1450
    assert (outcome.first_s[late] - outcome.arrival_s[late] < 2).mean() > 0.9
