"""Keys that only later lines of JSONL have are read as if the first had them."""

import gzip
import json

import pytest
from trace_data import accounted

EARLY = 150
LITELLM = {
    "request_id": "r", "call_type": "acompletion", "startTime": "2026-11-01 10:00:00.1",
    "endTime": "2026-11-01 10:00:00.9", "model": "m", "prompt_tokens": 5, "completion_tokens": 3,
}  # fmt: skip
MOONCAKE = {"timestamp": 1, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
ENVOY = {
    "start_time": "2026-11-01T10:00:00Z", "duration": 5, "gen_ai.usage.input_tokens": 1,
    "gen_ai.usage.output_tokens": 2,
}  # fmt: skip
LANGFUSE = {
    "id": "o", "type": "GENERATION", "trace_id": "t", "start_time": "2026-11-01 10:00:00",
    "end_time": "2026-11-01 10:00:01", "completion_start_time": None, "usage_details": {"input": 1, "output": 2},
}  # fmt: skip
BAILIAN = {"chat_id": 1, "parent_chat_id": -1, "timestamp": 1.0, "input_length": 16, "output_length": 5}
OWN = {"arrival_s": 1, "input_tokens": 2, "output_tokens": 3}


def lines(early, late):
    return "".join(json.dumps(row) + "\n" for row in [*[early] * EARLY, {**early, **late}])


@pytest.mark.parametrize(
    ("early", "late", "becomes"),
    [
        (LITELLM, {"status": "failure", "prompt_tokens": 0}, {"status": "failed", "input_tokens": None}),
        (LITELLM, {"team_id": "a", "session_id": "s"}, {"tenant": "a", "session_id": "s"}),
        (MOONCAKE, {"priority": 3, "request_id": "x"}, {"priority": 3, "request_id": "x"}),
        (MOONCAKE, {"session_id": "s", "delay": 9}, {"session_id": "s", "turn": 1}),
        (ENVOY, {"response_code": 429}, {"status": "rejected"}),
        (LANGFUSE, {"level": "ERROR"}, {"status": "failed"}),
        (BAILIAN, {"hash_ids": [7]}, {"block_hashes": [7]}),
        (OWN, {"client": "c", "ttft_s": 0.5}, {"tenant": "c", "ttft_s": 0.5}),
    ],
)
@pytest.mark.parametrize("form", ["plain", "gzip", "array"])
def test_a_late_key_is_read(read, early, late, becomes, form):
    text = lines(early, late)
    if form == "array":
        text = json.dumps([json.loads(line) for line in text.splitlines()])
    trace = read(gzip.compress(text.encode()) if form == "gzip" else text)
    assert accounted(trace) == EARLY + 1
    rows = trace.table("source_row", *becomes).sort("source_row").to_dicts()
    assert rows[-1] == {"source_row": EARLY, **becomes}
    assert {name: rows[0][name] for name in becomes} != becomes


def test_a_mapped_key_may_come_late(read):
    mapping = {"arrival_s": "ts", "input_tokens": "in", "output_tokens": "out", "tenant": "who is"}
    trace = read(lines({"ts": 1, "in": 2, "out": 3}, {"who is": "x"}), mapping=mapping, time_unit="s")
    assert trace.table("tenant").drop_nulls().rows() == [("x",)]


def test_what_no_line_has_is_no_column(read):
    assert "session_id" not in read(lines(MOONCAKE, {"note": "session_id"})).meta.columns
