"""docs/reproduction.md's one command: all four systems and their baselines on one trace, a row of one table each."""

import json
import re
import shlex
from itertools import pairwise

import numpy as np
import polars as pl
from conftest import ROOT
from three_hours import PROFILE

from lmaas.cli.main import main
from lmaas.policies.evaluation import BASELINES

PAGE = (ROOT / "docs" / "reproduction.md").read_text()
COMMAND = re.search(r"^    lmaas (evaluate sample_traces/sample\.parquet(?:.*\\\n)*.*)", PAGE, re.MULTILINE)
SYSTEMS = ["preserve", "sageserve-lt-ua", "oserve", "aladdin"]


def asked():
    """The command's words, and the policies among them."""
    words = shlex.split(COMMAND[1].replace("\\\n", " "))
    return words, [word for before, word in pairwise(words) if before == "--policy"]


def test_all_stand_in_one_table(tmp_path, monkeypatch, capsys):
    """The same command on an hour of 2,000 requests and a small replica."""
    rng, n = np.random.default_rng(0), 2000
    pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, 3600, n)), "service": ["chat"] * n, "region": ["eu"] * n,
            "input_tokens": rng.integers(1, 2000, n), "output_tokens": rng.integers(1, 200, n),
        }
    ).write_parquet(tmp_path / "hour.parquet")  # fmt: skip
    (tmp_path / "small.json").write_text(json.dumps(PROFILE))
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "ws"))
    words, policies = asked()
    words[1:2] = [str(tmp_path / "hour.parquet"), "--profile", str(tmp_path / "small.json"), "--window", "2m"]
    assert main([*words, "--json"]) == 0
    rows = [row["policy"] for row in json.loads(capsys.readouterr().out)["results"]]
    assert set(SYSTEMS) < set(policies)
    assert sorted(rows) == sorted({*policies, *BASELINES})


def test_the_pages_table_has_a_row_for_each():
    _, policies = asked()
    table = PAGE[COMMAND.end() :].partition("\n\n- ")[0]
    rows = re.findall(r"^\| `([^`]*)`", table, re.MULTILINE)
    assert sorted(rows) == sorted({*policies, *BASELINES})
