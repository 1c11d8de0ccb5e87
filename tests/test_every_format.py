"""Every format, plain and packed, on hand-written rows and on the real files that there are: no row is lost."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from trace_data import accounted

from lmaas.analysis.formats import FORMATS

FIXTURES = Path(__file__).parent / "fixtures"
KINDS = (".csv", ".json", ".jsonl", ".parquet")
TRACES = sorted(path for path in FIXTURES.iterdir() if path.suffix in KINDS and "llama" not in path.name)
REAL = {
    "azure-llm-2023/AzureLLMInferenceTrace_code.csv": ("azure", 8819),
    "azure-llm-2023/AzureLLMInferenceTrace_conv.csv": ("azure", 19366),
    "burstgpt/burstgpt_1_first400_rows.csv": ("burstgpt", 400),
    "burstgpt/burstgpt_3_first62_rows.csv": ("burstgpt", 62),
    "mooncake/conversation_trace.jsonl": ("mooncake", 12031),
    "dynamo/mooncake_trace_1000.jsonl": ("mooncake", 1000),
    "dynamo/pi_request_trace.jsonl.gz": ("dynamo", 61),
    "vllm-measured/RTXPRO6000_Llama-3.1-8B/requests.jsonl": ("vllm-requests", 300),
    "weka-claude-code/raw": ("weka", None),
}


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name)
def test_rows_read_are_rows_kept_and_set_aside_however_packed(read, path):
    plain = read(path)
    assert accounted(plain) > 0
    if path.suffix == ".parquet":
        return
    content = path.read_bytes()
    for packed in (gzip.compress(content), pa.compress(content, codec="zstd", asbytes=True)):
        trace = read(packed, "packed")
        assert accounted(trace) == plain.meta.rows_read
        assert trace.table().equals(plain.table())
        assert trace.meta.rows_set_aside == plain.meta.rows_set_aside


def test_every_format_is_among_them(read):
    assert {read(path).meta.format for path in TRACES} == set(FORMATS)


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared, read, name):
    path, (format_name, rows) = shared / "traces" / name, REAL[name]
    if not path.exists():
        pytest.skip(f"not beside the checkout (../shared/traces/{name})")
    trace = read(path)
    assert trace.meta.format == format_name
    assert accounted(trace) == (rows or trace.meta.rows_read)
