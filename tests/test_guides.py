"""The tutorial and the how-tos: every command runs, one after another, on a small log of the documents' names."""

import json
import re
import shlex

import numpy as np
import polars as pl
import pytest
from conftest import ROOT

from lmaas.cli.main import main


def text_of(page):
    return (ROOT / "docs" / page).read_text()


def commands(page):
    blocks = re.findall(r"```sh\n(.*?)```", text_of(page), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("lmaas")]


@pytest.fixture
def folder(home):
    """Forty minutes of a slow load, under the documents' names."""
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 2400, 800))
    rows = pl.DataFrame(
        {"ts": (1000 * times).astype(int), "prompt": rng.integers(50, 900, 800), "gen": rng.integers(5, 90, 800)}
    )
    rows.write_csv(home.parent / "log.csv")
    rows.select(arrival_s=pl.col("ts") / 1000, input_tokens="prompt", output_tokens="gen").write_parquet(
        home.parent / "trace.parquet"
    )
    (fleet,) = re.findall(r"```yaml\n(.*?)```", text_of("howto.md"), re.DOTALL)
    (home.parent / "fleet.yaml").write_text(fleet)
    return home.parent


@pytest.mark.parametrize(("page", "count"), [("tutorial.md", 6), ("howto.md", 8)])
def test_the_commands_run_one_after_another(folder, capsys, page, count):
    found = commands(page)
    assert len(found) == count
    for command in found:
        assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr())
    if page == "howto.md":
        met = [json.loads((folder / run / "metrics.json").read_text())["results"][0] for run in ("before", "cheaper")]
        assert met[1]["cost_usd"] < met[0]["cost_usd"]  # the price of the fleet file
        assert (folder / "to_share.html").is_file()
