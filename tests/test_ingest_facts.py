"""What is known of a trace beside its rows: clock steps, quality, and the published statistics of real files."""

import random
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_data import HEADER, accounted

from lmaas.analysis import ingest_facts, prepared
from lmaas.analysis.account import Account
from lmaas.analysis.progress import silent
from lmaas.analysis.quality import assess
from lmaas.analysis.trace import SCHEMA


@given(st.integers(1, 2000), st.integers(2, 200), st.integers(0, 6))
def test_the_step_of_a_clock_is_found(gap, rows, decimals):
    """Times k · step for a decimal step are never said to be coarser than they are."""
    rng = np.random.default_rng(gap)
    ticks = np.cumsum(rng.integers(1, gap + 2, rows))
    step, batched = ingest_facts.time_step(ticks / 10.0**decimals)
    assert not batched
    assert np.allclose(ticks / 10.0**decimals / step, np.rint(ticks / 10.0**decimals / step), atol=1e-6)


def test_batches_are_told_from_clock_steps():
    rng = np.random.default_rng(1)
    batches = np.cumsum(rng.integers(2997, 3004, 500)) / 1000
    step, batched = ingest_facts.time_step(np.repeat(batches, 8))
    assert batched
    assert 2.99 < step < 3.01
    assert ingest_facts.time_step(np.sort(rng.uniform(0, 100, 5000))) == (1e-6, False)
    assert ingest_facts.time_step(np.arange(0, 6000, 60.0)) == (60.0, False)
    assert ingest_facts.time_step(np.array([5.0])) == (1e-6, False)


def test_quality_counts_what_it_says(read):
    rows = [f"{i},{i % 900 + 50},{10 if i % 10 else 0},a" for i in range(2000)]
    bad = ["x,1,1,a"] * 300
    quality = assess(read(HEADER + "\n".join(rows + bad)))
    assert quality.verdict == "POOR"
    assert quality.findings[0] == "300 of 2,300 rows (13.04%) set aside: 300 arrival_s not a number"
    assert any("200 requests with 0 output tokens" in finding for finding in quality.findings)


def test_a_clean_long_trace_is_good(read):
    rng = np.random.default_rng(0)
    arrivals = np.sort(rng.uniform(0, 15 * 86_400, 3000))
    rows = [
        f"{a:.6f},{int(n)},{int(m)},a"
        for a, n, m in zip(arrivals, *np.exp(rng.normal(6, 1, (2, 3000))) + 1, strict=True)
    ]
    quality = assess(read(HEADER + "\n".join(rows)))
    assert (quality.verdict, quality.findings) == ("GOOD", ("times are relative: no date, and no known hour of day",))


GOLDEN = {  # traces/README.md, section 1: rows, span, input and output mean / p50 / p99 / max
    "azure-llm-2023/AzureLLMInferenceTrace_code.csv": (8819, 3435.9, (2047.8, 1469, 7436, 7437), (27.9, 13, 252, 1899)),
    "azure-llm-2023/AzureLLMInferenceTrace_conv.csv": (
        19366,
        3501.7,
        (1154.7, 1020, 4142, 14050),
        (211.1, 129, 601, 1000),
    ),
    "mooncake/conversation_trace.jsonl": (12031, 3537.0, (12035.1, 6909, 85401, 126195), (342.6, 350, 1120, 2000)),
    "dynamo/mooncake_trace_1000.jsonl": (1000, 177.1, (9792.0, 6559, 77792, 121290), (199.1, 34, 831, 2000)),
    "burstgpt/burstgpt_1_first400_rows.csv": (400, 37269, (520.5, 320, 1958, 2126), (276.5, 230, 1421, 2019)),
    "burstgpt/burstgpt_3_first62_rows.csv": (62, 17294, (686.1, 264, 5805, 5866), (255.7, 163, 862, 879)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_real_files_have_their_published_statistics(read, shared, name):
    rows, span, *lengths = GOLDEN[name]
    trace = read(shared / "traces" / name)
    assert accounted(trace) == rows == trace.meta.rows_kept
    assert trace.meta.span_s == pytest.approx(span, abs=0.051)
    for column, (mean, p50, p99, top) in zip(("input_tokens", "output_tokens"), lengths, strict=True):
        # the published figures count a failure as 0 tokens; the table says unknown
        values = np.sort(trace.table(column)[column].fill_null(0).to_numpy())
        assert values.mean() == pytest.approx(mean, abs=0.051)
        assert values.max() == top
        for share, value in ((0.5, p50), (0.99, p99)):
            around = values[int(share * (rows - 1)) : int(share * (rows - 1)) + 2]
            assert around.min() - 1 <= value <= around.max() + 1


def test_real_oddities_are_found(read, shared):
    mooncake = read(shared / "traces/mooncake/conversation_trace.jsonl")
    assert any(note.startswith("1 rows repeat") for note in mooncake.meta.notes)
    assert mooncake.meta.quantum_s == pytest.approx(3.0, abs=0.005)
    burst = read(shared / "traces/burstgpt/burstgpt_1_first400_rows.csv")
    assert (burst.table("status")["status"] == "failed").sum() == 17
    assert set(SCHEMA) == set(burst.table().columns)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.integers(1, 7), st.randoms())
def test_order_is_counted_over_batches_in_any_order(arrivals, batch, rng: random.Random):
    account = Account(folder=None)
    rows = pl.DataFrame({"source_row": range(len(arrivals)), "arrival_s": [float(a) for a in arrivals]})
    parts = [rows[at : at + batch] for at in range(0, len(arrivals), batch)]
    rng.shuffle(parts)
    for part in parts:
        account.keep(part, 0)
    assert account.order() == (sum(b < a for a, b in pairwise(arrivals)), min(arrivals))


def test_every_byte_of_every_segment_is_in_the_id(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "SEGMENT", 3)
    ids, file = set(), tmp_path / "trace"
    for content in (b"abcdefgh", b"abcdefg", b"abcdefgH", b"Abcdefgh", b"abcfedgh", b"defabcgh", b""):
        file.write_bytes(content)
        ids.add(prepared._identify([file], ["3:x"], silent))
    assert len(ids) == 7
