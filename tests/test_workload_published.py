"""Golden numbers of `analyze` on published traces."""

import polars as pl
import pytest
from trace_data import storer, table

from lmaas.analysis import analyze


@pytest.fixture
def store(tmp_path):
    return storer(tmp_path)


def azure(path) -> pl.DataFrame:
    raw = pl.read_csv(path, infer_schema=False)
    at = raw["TIMESTAMP"].str.strip_chars().str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
    return table(
        arrival_s=(at - at[0]).dt.total_microseconds() / 1e6,
        input_tokens=raw["ContextTokens"].cast(pl.Int64),
        output_tokens=raw["GeneratedTokens"].str.strip_chars().cast(pl.Int64),
    )


@pytest.mark.parametrize(
    ("kind", "rows", "span", "rps", "peak", "dispersion", "cv", "input_tokens", "output_tokens"),
    [
        ("code", 8819, 3435.9, 2.57, 67, (13.2, 160.5), 13.15, (2047.8, 1469, 7436, 7437), (27.9, 13, 252, 1899)),
        ("conv", 19366, 3501.7, 5.53, 16, (1.39, 20.6), 1.09, (1154.7, 1020, 4142, 14050), (211.1, 129, 601, 1000)),
    ],
)
def test_azure_2023(shared, store, kind, rows, span, rps, peak, dispersion, cv, input_tokens, output_tokens):
    trace = store(azure(shared / "traces" / "azure-llm-2023" / f"AzureLLMInferenceTrace_{kind}.csv"))
    result = analyze(trace)
    found = result.tables
    o = found["overview"].row(0, named=True)
    assert o["rows"] == rows
    assert (o["span_s"], o["mean_rps"]) == (pytest.approx(span, abs=0.05), pytest.approx(rps, abs=0.005))
    second = found["scales"].row(0, named=True)
    assert (second["window_s"], second["peak_rps"]) == (1.0, peak)
    assert second["dispersion"] == pytest.approx(dispersion[0], abs=0.05)
    # published over all minutes, the last one cut short; `scales` is of whole ones, its variance divided by n - 1
    minutes = found["load"]["requests"]
    assert found["load"]["length_s"][0] == 60
    assert minutes.var(ddof=0) / minutes.mean() == pytest.approx(dispersion[1], abs=0.05)
    minute = found["scales"].row(by_predicate=pl.col("window_s") == 60, named=True)
    assert minute["dispersion"] == pytest.approx(minutes[:-1].var() / minutes[:-1].mean())
    assert found["gaps"]["cv"].item() == pytest.approx(cv, abs=0.005)
    assert found["gap_fits"]["family"][0] == {"code": "weibull", "conv": "gamma"}[kind]
    assert ("bursts" in found) == (kind == "code")
    assert any("none is close, a Weibull" in f for f in result.findings) == (kind == "code")
    for metric, want in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        row = found["lengths"].filter(by="all", metric=metric).row(0, named=True)
        assert [row[c] for c in ("mean", "p50", "p99", "max")] == pytest.approx(want, abs=0.6)


def test_mooncake_prefix_reuse_and_lengths(shared, store):
    raw = pl.read_ndjson(
        shared / "traces" / "mooncake" / "conversation_trace.jsonl", schema_overrides={"hash_ids": pl.List(pl.UInt64)}
    )
    rows = table(
        arrival_s=raw["timestamp"] / 1000,
        input_tokens=raw["input_length"],
        output_tokens=raw["output_length"],
        block_hashes=raw["hash_ids"],
    )
    result = analyze(store(rows, quantum_s=3.0, block_size=512))
    reuse = result.tables["prefix"].filter(by="all").row(0, named=True)
    assert reuse["requests"] == 12_031 and reuse["block_reuse"] == pytest.approx(0.366, abs=0.0005)
    for metric, want in (("input_tokens", (12035.1, 6909, 85401, 126195)), ("output_tokens", (342.6, 350, 1120, 2000))):
        row = result.tables["lengths"].filter(by="all", metric=metric).row(0, named=True)
        assert [row[c] for c in ("mean", "p50", "p99", "max")] == pytest.approx(want, rel=0.002)
    assert any("36.6%" in f for f in result.findings)
    gaps = result.tables["gaps"].row(0, named=True)
    assert gaps["cv"] == pytest.approx(3.03, abs=0.005) and not gaps["resolvable"]  # an artefact of the 3 s clock
    assert "gap_fits" not in result.tables


@pytest.mark.parametrize(("name", "cv"), [("1_first400", 4.57), ("3_first62", 1.66)])
def test_burstgpt_times_between_arrivals(shared, store, name, cv):
    raw = pl.read_csv(shared / "traces" / "burstgpt" / f"burstgpt_{name}_rows.csv")
    found = analyze(store(table(arrival_s=raw["Timestamp"].cast(pl.Float64)), quantum_s=1.0)).tables
    assert found["gaps"]["cv"].item() == pytest.approx(cv, abs=0.005)
    assert "long_memory" not in found and "changes" not in found  # a request or two a minute
