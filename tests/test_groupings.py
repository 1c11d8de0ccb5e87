"""`--by`: what the tables of an analysis are broken down by."""

import json

import numpy as np
import polars as pl
import pytest
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.workload import given as limits
from lmaas.cli.main import main

N = 6000


@pytest.fixture
def trace(tmp_path):
    rng = np.random.default_rng(0)
    return storer(tmp_path)(
        table(
            arrival_s=np.sort(rng.random(N) * 1e4),
            service=rng.choice(["a", "b"], N),
            region=rng.choice(["eu", "us"], N),
            tenant=rng.choice([f"t{i}" for i in range(30)], N),
            input_tokens=rng.integers(1, 2000, N),
            output_tokens=rng.integers(1, 200, N),
            ttft_s=rng.random(N),
        )
    )


def groups(found, name):
    return set(found.tables[name]["by"])


def test_tables_are_broken_down_by_what_is_asked(trace):
    whole = analyze(trace)
    assert groups(whole, "lengths") == {"all", "service", "region", "tier"}
    found = analyze(trace, by=["tenant", "service", "tenant"])
    for name in ("lengths", "latency", "correlation"):
        assert groups(found, name) == {"all", "service", "tenant"}, name
        same = whole.tables[name].filter(pl.col("by").is_in(["all", "service"]))
        assert found.tables[name].filter(pl.col("by") != "tenant").equals(same), name
    assert groups(found, "shares") == {"service", "tenant"}
    assert found.findings == whole.findings
    tenants = found.tables["lengths"].filter(by="tenant", metric="input_tokens")
    assert len(tenants) == 21 and tenants["n"].sum() == N  # the 20 largest, and the others together
    one = trace.table().filter(pl.col("tenant").cast(pl.String) == "t7")["input_tokens"]
    (row,) = tenants.filter(name="t7").iter_rows(named=True)
    assert (row["n"], row["p50"]) == (len(one), pytest.approx(np.median(one)))


def test_large_traces_are_broken_down_by_tenant_too(trace, monkeypatch):
    exact = analyze(trace, by=["tenant"]).tables
    monkeypatch.setattr(limits, "IN_MEMORY_ROWS", 0)
    found = analyze(trace, by=["tenant"]).tables
    for name in ("lengths", "latency"):
        a, b = exact[name], found[name]
        assert a.select("by", "name", "metric", "n").equals(b.select("by", "name", "metric", "n")), name
        assert b["p90"].to_list() == pytest.approx(a["p90"].to_list(), rel=0.012, abs=1.5)


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ([""], "--by '': must be of service, region, tier, tenant"),
        (["model"], "--by 'model': must be of service, region, tier, tenant"),
        (["tier"], "the trace names no tier; it has"),
    ],
)
def test_what_the_trace_cannot_be_broken_down_by_is_refused(trace, by, said):
    with pytest.raises(UserError, match=said) as error:
        analyze(trace, by=by)
    assert error.value.code == Exit.USAGE


def test_the_command_breaks_down_by_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LMAAS_HOME", str(tmp_path / "home"))
    rows = "".join(f"{i},10,5,m{i % 2},u{i % 3}\n" for i in range(300))
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,service,tenant\n" + rows)
    assert main(["analyze", str(path), "--by", "service, tenant", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert {r["by"] for r in metrics["tables"]["lengths"]} == {"all", "service", "tenant"}
    assert main(["analyze", str(path), "--by", "colour"]) == Exit.USAGE
    assert "must be of service, region, tier, tenant" in capsys.readouterr().err
