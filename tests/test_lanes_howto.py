"""What docs/fleet.md says of prefill and decode lanes can be done as it stands there; every policy runs or says why."""

import json
import re
import shlex

import numpy as np
import polars as pl
import pytest
from conftest import ROOT
from test_evaluate_lanes import PROFILE, lengths

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main
from lmaas.policies import evaluate
from lmaas.policies.registry import POLICIES

SECTION = (ROOT / "docs" / "fleet.md").read_text().partition("## Prefill and decode lanes")[2].partition("\n## ")[0]
REFUSED = SECTION.partition("These do not run")[2]
EXAMPLE = {"static": "static(replicas=2)"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An hour of the section's service and region, and a small profile."""
    home = tmp_path_factory.mktemp("howto")
    rng, n = np.random.default_rng(3), 3000
    prompts, outputs = lengths(n, rng)
    pl.DataFrame(
        {
            "arrival_s": np.cumsum(rng.exponential(1.2, n)), "service": ["agent-70b"] * n, "region": ["eu"] * n,
            "input_tokens": prompts, "output_tokens": outputs.astype(np.int64),
        }
    ).write_parquet(home / "trace.parquet")  # fmt: skip
    (home / "small.json").write_text(json.dumps(PROFILE))
    (home / "lanes.yaml").write_text(re.search(r"```yaml\n(.*?)```", SECTION, re.DOTALL)[1])
    return home


def test_the_command_runs(folder, monkeypatch, capsys):
    """Exit code 0, and both lanes are told apart."""
    command = re.search(r"^    lmaas (evaluate .*)$", SECTION, re.MULTILINE)[1]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LMAAS_HOME", str(folder / "ws"))
    assert main([*shlex.split(command), "--json", "--baseline", "none"]) == 0
    found = json.loads(capsys.readouterr().out)
    lanes = {pool.rpartition("/")[2] for pool in re.findall(r"agent-70b/eu/\w+", json.dumps(found))}
    assert lanes >= {"prefill", "decode"}


@pytest.fixture(scope="module")
def everyone(folder):
    trace = open_trace(str(folder / "trace.parquet"), Workspace.open(folder / "all"), say=lambda text: None)
    policies = [EXAMPLE.get(name, name) for name in POLICIES]
    return evaluate(
        trace, policies, baselines=["none"], slo=("ttft<2s,tpot<100ms",), profile=str(folder / "small.json"),
        fleet=folder / "lanes.yaml", window_s=120.0,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_runs_on_lanes_or_says_why_not(everyone, name):
    policy = EXAMPLE.get(name, name)
    if policy in everyone.failures:
        assert "lane" in everyone.failures[policy]
        assert f"`{name}`" in REFUSED
        return
    assert f"`{name}`" not in REFUSED
    served = everyone.requests[policy]
    assert (served["status"] == "ok").mean() > 0.9
    moved = served.filter(pl.col("output_tokens") > 1)
    assert moved["pool"].str.ends_with("/decode").mean() > 0.9
