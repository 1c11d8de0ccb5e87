"""Traces drawn from ServeGen's client statistics: same seed, same bytes; recorded rates, lengths; nothing evaluated."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import ingest
from lmaas.analysis.servegen import read_clients
from lmaas.analysis.servegen_draw import draw_clients
from lmaas.analysis.synth import synth_clients
from lmaas.analysis.workspace import Workspace
from lmaas.cli.main import main

CLIENTS = Path(__file__).parent / "fixtures" / "servegen"
LENGTHS = {"0": {"input_tokens": "{5: 1}", "output_tokens": "{6: 1}"}}


def write(folder, number, rates, lengths=LENGTHS):
    folder.mkdir(exist_ok=True)
    (folder / f"chunk-{number}-trace.csv").write_text(rates)
    (folder / f"chunk-{number}-dataset.json").write_text(lengths if isinstance(lengths, str) else json.dumps(lengths))
    return folder


def drawn(folder, seed=1, days=None, requests_per_s=None):
    return draw_clients(read_clients(folder), seed, days, requests_per_s)[0]


def test_same_seed_same_bytes_and_another_seed_differs(tmp_path):
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        synth_clients(CLIENTS, path, seed)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not pl.read_parquet(paths[0]).equals(pl.read_parquet(paths[2]))
    assert not list(tmp_path.glob(".*")), "a partial file was left behind"


def test_what_is_drawn_is_a_trace_without_a_date(tmp_path):
    synth_clients(CLIENTS, tmp_path / "t.parquet", 3)
    trace = ingest(tmp_path / "t.parquet", Workspace.open(tmp_path / "home"), say=lambda _: None)
    assert (trace.meta.format, trace.meta.epoch, trace.meta.rows_set_aside) == ("canonical", None, {})
    assert {"service", "tenant", "input_tokens", "output_tokens"} <= set(trace.meta.columns)
    assert trace.table("service")["service"].unique().to_list() == ["servegen"]


def test_every_window_has_its_rate_and_lengths():
    table = pl.concat([drawn(CLIENTS, seed) for seed in range(40)]).filter(pl.col("tenant") == "client-0")
    window = (pl.col("arrival_s") // 600).cast(pl.Int64).alias("window")
    counts = dict(table.group_by(window).len().iter_rows())
    assert set(counts) == {0, 2}
    for k, mean in ((0, 40 * 300), (2, 40 * 1200)):
        assert abs(counts[k] - mean) < 5 * mean**0.5
    shares = {k: part["input_tokens"] for (k,), part in table.group_by(window)}
    assert set(shares[0]) == {30, 100} and abs((shares[0] == 30).mean() - 0.75) < 0.02
    assert set(shares[2]) == {2000, 3000} and abs((shares[2] == 2000).mean() - 0.5) < 0.02
    late = table.filter(window == 2)["output_tokens"]
    assert set(late) == {0, 1} and abs((late == 0).mean() - 0.1) < 0.02
    assert (table.filter(window == 0)["output_tokens"] == 7).all()


def test_gaps_have_the_fitted_shape(tmp_path):
    """A window of 100,000 s with some 100,000 gaps: their coefficient of variation is the distribution's."""
    for rates, cv in (("0,1,2,Gamma,0.25,4", 2.0), ("0,1,2,Weibull,0.5,9", 5**0.5), ("0,1,1,Gamma,100,1", 0.1)):
        gaps = np.diff(drawn(write(tmp_path / "one", 0, f"{rates}\n100000,0,0,,0,0\n"))["arrival_s"].to_numpy())
        assert abs(gaps.std() / gaps.mean() / cv - 1) < 0.05
    heavy = drawn(write(tmp_path / "one", 0, "0,1,170,Weibull,0.0575,0.0005\n600,1,9,Gamma,1e-5,1\n1200,0,0,,0,0\n"))
    assert heavy["arrival_s"].is_between(0, 1200).all() and heavy["arrival_s"].is_not_nan().all()


def test_lengths_before_the_first_known_are_the_first():
    table = drawn(CLIENTS).filter(pl.col("tenant") == "client-12")
    assert table["arrival_s"].min() < 600
    assert table.select("input_tokens", "output_tokens").unique().rows() == [(5, 6)]


def test_clients_without_lengths_have_anothers_and_that_is_told(tmp_path):
    table, notes = draw_clients(read_clients(CLIENTS), 1)
    borrowed = table.filter(pl.col("tenant") == "client-3")
    assert abs(borrowed.height - 360) < 5 * 360**0.5
    assert set(borrowed["output_tokens"]) in ({7}, {6})
    # 360 of 1,500 + 120 + 360
    assert notes[1] == "clients without lengths have another client's: 1, 18.2% of the requests"
    with pytest.raises(UserError, match=r"^alone: no client has lengths"):
        drawn(write(tmp_path / "alone", 0, "0,1,1,Gamma,1,1\n", {"0": {"input_tokens": "{}", "output_tokens": "{}"}}))


def test_another_client_leaves_the_others_requests_as_they_were(tmp_path):
    shutil.copytree(CLIENTS, tmp_path / "servegen")
    write(tmp_path / "servegen", 7, "0,1,1,Gamma,1,1\n600,0,0,,0,0\n")
    more = drawn(tmp_path / "servegen")
    assert "client-7" in set(more["tenant"])
    own = pl.col("tenant").is_in(["client-0", "client-12"])  # client-3 may borrow its lengths from another now
    assert more.filter(own).equals(drawn(CLIENTS).filter(own))


def test_a_rate_that_is_asked_for_is_the_mean_of_all():
    table = drawn(CLIENTS, requests_per_s=20)
    assert abs(table.height - 20 * 2400) < 5 * (20 * 2400) ** 0.5
    half = drawn(CLIENTS, days=900 / 86_400, requests_per_s=20)  # a window is cut
    assert half["arrival_s"].max() < 900 and abs(half.height - 20 * 900) < 5 * (20 * 900) ** 0.5


def test_folders_in_a_folder_are_services(tmp_path):
    for name in ("m-large", "m-small"):
        shutil.copytree(CLIENTS, tmp_path / name)
    assert set(drawn(tmp_path)["service"]) == {"m-large", "m-small"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir('made')", "{1: 2", "[1]", "{True: 1}", "{-1: 1}", "{1.5: 1}", "{1: float('nan')}",
        "{1: -1}", "{1: 0}", "{1e99: 1}", "{1: 1e999}", "(" * 9999, "{1: 1}" + " " * (1 << 24), "{'a': 1}", "{1: {}}",
    ],
)  # fmt: skip
def test_a_distribution_that_is_none_is_refused_and_never_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "s", 0, "0,1,1,Gamma,1,1\n", {"0": {"input_tokens": text, "output_tokens": "{1: 1}"}})
    with pytest.raises(UserError, match=r"chunk-0-dataset.json: input_tokens at 0 s: no distribution") as refused:
        drawn(folder)
    assert refused.value.code == Exit.INPUT and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("rates", "lengths", "words"),
    [
        ("0,x,1,Gamma,1,1\n", LENGTHS, "chunk-0-trace.csv: .*expected rows t_s,rate"),
        ("0,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", LENGTHS, "line 2: no usable t_s"),
        ("0,-1,1,Gamma,1,1\n", LENGTHS, "line 1: no usable rate"),
        ("0,1,1,Pareto,1,1\n", LENGTHS, "line 1: no usable distribution"),
        ("0,1,1,Gamma,0,1\n", LENGTHS, "line 1: no usable shape"),
        ("", LENGTHS, "chunk-0-trace.csv: "),
        ("0,1,1,Gamma,1,1\n", "[1]", "chunk-0-dataset.json: .*expected"),
        ("0,1,1,Gamma,1,1\n", {"x": {}}, "chunk-0-dataset.json: .*expected"),
        ("0,1,1,Gamma,1,1\n", {"0": {"image_tokens": "{}"}}, "no input_tokens in it, found image_tokens"),
    ],
)
def test_statistics_that_cannot_be_used_are_named(tmp_path, rates, lengths, words):
    with pytest.raises(UserError, match=words) as refused:
        drawn(write(tmp_path / "s", 0, rates, lengths))
    assert refused.value.code == Exit.INPUT


def test_too_many_requests_and_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="change --days or --requests-per-s") as refused:
        drawn(CLIENTS, requests_per_s=1e6)
    assert refused.value.code == Exit.CONFIG
    with pytest.raises(UserError, match=r"no chunk-N-trace.csv in it"):
        drawn(tmp_path)
    write(tmp_path / "s", 0, "0,1,1,Gamma,1,1\n")
    (tmp_path / "s" / "chunk-0-dataset.json").unlink()
    with pytest.raises(UserError, match=r"chunk-0-dataset.json: cannot be read"):
        drawn(tmp_path)


def test_the_command_draws_clients(tmp_path, capsys):
    out = tmp_path / "t.parquet"
    assert main(["synth", "-o", str(out), "--servegen", str(CLIENTS), "--seed", "4", "--requests-per-s", "2"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out) and "2 requests/s on average" in said.err
    assert pl.read_parquet(out).equals(drawn(CLIENTS, 4, requests_per_s=2))
    assert main(["synth", "-o", str(out), "--requests-per-s", "2"]) == Exit.USAGE
    assert main(["synth", "-o", str(out), "--servegen", str(CLIENTS), "--spec", "x.toml"]) == Exit.USAGE


def test_recorded_rates_of_real_clients_are_kept(shared, tmp_path):
    """A day of five clients of a production service, their rates as published, drawn as often as recorded."""
    rates = pl.read_parquet(shared / "traces" / "servegen" / "client_rates.parquet")
    rates = rates.filter(pl.col("model") == "m-large", pl.col("client") < 5, pl.col("t_s") < 86_400).sort("t_s")
    for (client,), rows in rates.group_by("client"):
        text = rows.select("t_s", "rate_rps", "cv", "iat_dist", "iat_param1", "iat_param2").write_csv(
            include_header=False
        )
        write(tmp_path / "m-large", client, text)
    table, expected = drawn(tmp_path, requests_per_s=None), rates["rate_rps"].sum() * 600
    assert abs(table.height - expected) < 5 * expected**0.5
    per_client = dict(table.group_by("tenant").len().iter_rows())
    wanted = {f"client-{c}": r * 600 for c, r in rates.group_by("client").agg(pl.sum("rate_rps")).iter_rows()}
    assert all(abs(per_client.get(name, 0) - mean) < 5 * mean**0.5 + 5 for name, mean in wanted.items())
