"""`--compare`: a planted change is found and named, chance is not, and odd traces give no traceback."""

import json
import math
import re
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from trace_data import ODD, storer, table

from lmaas.analysis.comparison import blocks as cutting
from lmaas.analysis.comparison.against import Against, compare
from lmaas.analysis.comparison.tables import COLUMNS
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.instants import Period
from lmaas.cli.main import main

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
ROWS = 6000


@pytest.fixture
def store(tmp_path):
    def make(rows, name="a", **meta):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return storer(folder)(rows, **meta)

    return make


def drawn(seed, n=ROWS, rate=2.0, prompt=800, answer=200, chat=0.3, ttft=0.5) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return table(
        arrival_s=np.sort(rng.random(n)) * n / rate,
        input_tokens=np.ceil(rng.lognormal(math.log(prompt), 0.8, n)),
        output_tokens=np.ceil(rng.lognormal(math.log(answer), 0.6, n)),
        service=np.where(rng.random(n) < chat, "chat", "code"),
        tenant=[f"t{k}" for k in rng.integers(0, 40, n)],
        ttft_s=rng.exponential(ttft, n),
        e2e_s=2 + rng.exponential(5, n),
    )


def row(found, measure):
    return found.tables["compare"].row(by_predicate=pl.col("measure") == measure, named=True)


def test_a_trace_is_not_different_from_itself(store):
    trace = store(drawn(1))
    found = compare(trace, trace)
    table = found.tables["compare"]
    assert table["effect"].to_list() == [0.0] * len(table)
    assert not table["beyond_noise"].any()
    assert set(table["size"]) == {"negligible"}
    assert found.tables["compare_mix"]["change"].abs().max() == 0
    assert found.findings[0].startswith("No change beyond noise in ")
    assert (found.before, found.after) == ("before", "after")


def test_another_draw_of_the_same_is_no_change_beyond_noise(store):
    found = compare(store(drawn(1), "a"), store(drawn(2), "b"))
    told = found.tables["compare"].filter("beyond_noise", pl.col("size") != "negligible")
    assert told.is_empty()
    assert len(found.findings) == 1
    assert "No change beyond noise" in found.findings[0] or "Only negligible changes" in found.findings[0]


def test_a_planted_change_is_found_and_named(store):
    before, after = drawn(1), drawn(2, prompt=1200, chat=0.5, rate=4.0, ttft=1.0)
    found = compare(store(before, "a"), store(after, "b"))
    said = " ".join(found.findings)
    medians = [r["input_tokens"].median() for r in (before, after)]
    assert f"Prompts became longer: the median rose from {medians[0]:,.0f} to {medians[1]:,.0f} tokens" in said
    assert re.search(r"The mix by service changed: (chat rose|code fell) from \d\d\.\d% to \d\d\.\d%", said)
    assert "TTFT became slower" in said
    assert 2 <= len(found.findings) <= 4
    rate = row(found, "requests per second")
    assert rate["change"] == pytest.approx(1.0, abs=0.02)
    assert (rate["effect"], rate["size"], rate["beyond_noise"]) == (pytest.approx(1 / 3, abs=0.01), "medium", True) or (
        rate["size"] == "large"
    )
    mix = row(found, "mix of service")
    assert mix["effect"] == pytest.approx(0.2, abs=0.03)
    assert mix["mover"] in ("chat", "code")
    for same in ("output_tokens, median", "e2e_s, median", "mix of tenant", "rank correlation of the lengths"):
        assert row(found, same)["size"] == "negligible"


def test_effects_are_those_of_the_rows(store):
    before, after = drawn(1, n=400), drawn(2, n=300, prompt=1000)
    found = compare(store(before, "a"), store(after, "b"))
    pair = [r["input_tokens"].to_numpy() for r in (before, after)]
    signs = np.sign(pair[1][None, :].astype(float) - pair[0][:, None]).mean()
    median = row(found, "input_tokens, median")
    assert median["effect"] == pytest.approx(signs, abs=0.01)  # buckets of 1 %
    assert (median["before"], median["after"]) == (np.median(pair[0]), np.median(pair[1]))
    assert row(found, "input_tokens, p99")["after"] == pytest.approx(np.quantile(pair[1], 0.99))
    values = found.tables["compare_values"].filter(metric="input_tokens")
    assert values["p99"].to_list() == pytest.approx([np.quantile(p, 0.99) for p in pair])
    assert values["n"].to_list() == [400, 300]
    cdf = found.tables["compare_cdf"].filter(pl.col("share") == 0.5, metric="input_tokens")
    assert cdf["after"].item() == np.median(pair[1])


def test_intervals_hold_the_truth(store):
    """Of 10 draws of one model, at least 8 have its median in their 95 % interval."""
    inside = 0
    for seed in range(5):
        found = compare(store(drawn(seed, n=800), "a"), store(drawn(100 + seed, n=800), "b"))
        values = found.tables["compare_values"].filter(metric="input_tokens")
        inside += values.filter(pl.col("p50_low") <= 800, pl.col("p50_high") >= 800).height
    assert inside >= 8


def test_the_same_traces_give_the_same_numbers(store):
    pair = store(drawn(1), "a"), store(drawn(2), "b")
    first, second = compare(*pair), compare(*pair)
    assert all(first.tables[name].equals(second.tables[name]) for name in COLUMNS)


def test_every_column_is_documented(store):
    found = compare(store(drawn(1), "a"), store(drawn(2), "b"))
    assert {name: t.columns for name, t in found.tables.items()} == {n: list(c) for n, c in COLUMNS.items()}


def test_reuse_is_compared_where_both_have_hashes(store):
    n = 200
    fresh = table(arrival_s=np.arange(n) * 1.0, block_hashes=[[k, k + n] for k in range(n)], input_tokens=[40] * n)
    again = table(arrival_s=np.arange(n) * 1.0, block_hashes=[[1, 2]] * n, input_tokens=[40] * n)
    found = compare(store(fresh, "a", block_size=16), store(again, "b", block_size=16))
    reuse = row(found, "prefix reuse")
    assert reuse["before"] == 0
    assert reuse["after"] == pytest.approx(32 / 40, abs=0.01)
    assert reuse["beyond_noise"] is None


ODDITIES = ODD | {
    "constant": table(arrival_s=np.arange(500.0)),
    "bursts": table(arrival_s=np.repeat(np.arange(10.0) * 60, 50)),
    "ordinary": drawn(5, n=1000),
}


@pytest.mark.parametrize("after", ODDITIES)
@pytest.mark.parametrize("before", ["one row", "all failed", "ordinary"])
def test_odd_traces_are_compared_without_a_traceback(store, before, after):
    found = compare(store(ODDITIES[before], "a"), store(ODDITIES[after], "b"))
    numbers = found.tables["compare"].select(pl.col(pl.Float64))
    assert not numbers.select(pl.any_horizontal(pl.all().is_nan().any() | pl.all().is_infinite().any())).item()
    assert found.findings and not any(re.search(r"\b(nan|None|inf)\b", f) for f in found.findings)


def test_times_in_steps_are_cut_in_steps(store):
    cut = cutting.Cut.choose([3600.0, 3600.0], 3.0)
    assert cut.window_s >= 3
    assert cut.block_s % cut.window_s == 0
    assert cutting.Cut.choose([60.0, 864_000.0], 0.001).count(864_000.0) <= cutting.MOST_BLOCKS
    assert cutting.Cut.choose([0.0, 0.0], 0.001).count(0.0) == 1


def test_large_traces_are_read_from_histograms(store, monkeypatch):
    exact = compare(store(drawn(1), "a"), store(drawn(2, prompt=1200), "b"))
    monkeypatch.setattr(cutting, "IN_MEMORY_ROWS", 10)
    near = compare(store(drawn(1), "a"), store(drawn(2, prompt=1200), "b"))
    assert not near.tables["compare_values"]["exact"].any()
    for p in ("p50", "p99"):
        ratio = near.tables["compare_values"][p] / exact.tables["compare_values"][p]
        assert ratio.is_between(0.99, 1.01).all()


# --- what to compare with


def test_periods_and_lengths_of_time_are_told_from_traces(store):
    opened = []
    assert Against.parse("2026-11-02..2026-11-03", opened.append).period.until == datetime(2026, 11, 3, tzinfo=UTC)
    assert Against.parse("1d", opened.append).earlier_s == 86_400
    assert opened == []
    Against.parse("../other.parquet", opened.append)
    Against.parse("last week", opened.append)
    assert opened == ["../other.parquet", "last week"]


def test_a_length_of_time_before_is_a_period_as_long(store):
    trace = store(drawn(1), epoch=MONDAY)
    first, last = trace.table("arrival_s")["arrival_s"].item(0), trace.table("arrival_s")["arrival_s"].item(-1)
    same, period = Against(earlier_s=600.0).side(trace, Period(1000.0, 1500.0))
    assert same is trace
    assert (period.since.arrival_s, period.until.arrival_s) == (pytest.approx(first + 400), pytest.approx(first + 900))
    period = Against(earlier_s=600.0).side(trace, Period(-600.0, None))[1]
    assert (period.since.arrival_s, period.until.arrival_s) == (pytest.approx(last - 1200), pytest.approx(last - 600))
    with pytest.raises(UserError, match="say which with --since") as caught:
        Against(earlier_s=600.0).side(trace, Period())
    assert caught.value.code == Exit.USAGE


# --- the command


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    drawn(1).drop("source_row").write_parquet("old.parquet")
    drawn(2, prompt=1600).drop("source_row").write_parquet("new.parquet")


def test_compare_with_another_trace(files, tmp_path, capsys):
    assert main(["analyze", "new.parquet", "--compare", "old.parquet", "--out", "run"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "What changed Prompts became longer: the median rose from" in out
    assert "new against old, largest effect first" in out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_bytes())
    assert (metrics["comparison"]["before"], metrics["comparison"]["after"]) == ("old", "new")
    assert metrics["tables"]["compare"][0]["measure"] == "input_tokens, median"
    report = json.loads((tmp_path / "run" / "report.json").read_bytes())
    section = next(s for s in report["sections"] if s["anchor"] == "compare")
    assert [f["table"]["rows_total"] for f in section["figures"]] == [103] * 5
    assert {p.name for p in (tmp_path / "run").glob("compare*.parquet")} == {f"{name}.parquet" for name in COLUMNS}
    assert main(["analyze", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"]["name"] == "new", "the trace analysed is the current one"


def test_compare_two_periods_of_one_trace(files, tmp_path, capsys):
    line = [
        "analyze",
        "new.parquet",
        "--since",
        "30m",
        "--compare",
        "..30m",
        "--where",
        "service = 'code'",
        "--out",
        "run",
    ]
    assert main([*line, "-q"]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_bytes())
    assert found["comparison"]["before"] == "before 30 min after its start"
    assert found["comparison"]["trace"]["selection"]["where"] == "service = 'code'"
    whole = pl.read_parquet("new.parquet").filter(service="code").height
    assert found["trace"]["rows_kept"] + found["comparison"]["trace"]["rows_kept"] == whole
    assert "mix of service" not in {r["measure"] for r in found["tables"]["compare"]}
    assert main(["analyze", "new.parquet", "--since", "-10m", "--compare", "10m", "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["comparison"]["trace"]["span_s"] == pytest.approx(
        600, abs=9
    )


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--compare", "1d"], Exit.USAGE, "say which with --since"),
        (["--since", "10m", "--compare", "0s"], Exit.USAGE, "longer ago than 0 s"),
        (["--since", "10m", "--compare", "3w"], Exit.USAGE, "it covers"),
        (["--compare", "2026-01-01..2026-01-02"], Exit.USAGE, "no dates"),
        (["--compare", "nowhere.parquet"], Exit.INPUT, "no file and no stored trace named"),
    ],
)
def test_what_cannot_be_compared_is_said(files, options, code, said, capsys):
    assert main(["analyze", "new.parquet", *options]) == code
    assert said in capsys.readouterr().err
