"""OpenRouter's generations: the API's records in both spellings, and the CSV of its activity page."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
RECORDS, ACTIVITY = FIXTURES / "openrouter.jsonl", FIXTURES / "openrouter-activity.csv"


def test_records_of_the_api(read):
    trace = read(RECORDS)
    assert trace.meta.epoch == datetime(2026, 7, 15, 23, 33, 19, tzinfo=UTC) and trace.meta.epoch_kind == "known"
    assert trace.table("request_id", "arrival_s", "service", "tenant", "status").rows() == [
        ("gen-1", 0.433273, "vendor/model-8b", "u-1", "ok"),
        ("gen-2", 1.0, "vendor/model-8b", None, "ok"),
        ("gen-3", 2.0, "vendor/model-8b", "u-1", "cancelled"),
        ("gen-4", 3.0, "vendor/model-8b", "u-1", "failed"),
    ]
    assert trace.table("input_tokens", "output_tokens", "cached_tokens", "e2e_s").rows() == [
        (12, 27, 3, 1.25),
        (12, 27, 3, None),
        (12, None, 3, None),
        (None, None, None, 0.09),
    ]
    assert (trace.meta.rows_read, trace.meta.rows_kept) == (6, 4)
    assert trace.meta.rows_set_aside == {"call that generates no text": 1, "malformed record": 1}


def test_all_answers_in_one_array_or_one_list_of_data(read):
    lines = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    expected = read(RECORDS).table()
    assert read(json.dumps(lines).encode()).table().equals(expected)
    listed = {"data": [line.get("data", line) for line in lines]}
    assert read(json.dumps(listed).encode()).table().equals(expected)
    assert read(gzip.compress(RECORDS.read_bytes())).table().equals(expected)


def test_the_activity_page(read):
    trace = read(ACTIVITY)
    assert trace.meta.epoch == datetime(2026, 7, 15, 23, 33, 19, tzinfo=UTC) and trace.meta.epoch_kind == "assumed"
    assert trace.table("request_id", "arrival_s", "tenant", "input_tokens", "output_tokens").rows() == [
        ("gen-1", 0.433, "u-1", 12, 27),
        ("gen-2", 1.5, "key-a", 10, 5),
        ("gen-3", 2.0, "u-2", None, None),
        ("gen-4", 3.0, "u-2", 7, None),
    ]
    assert trace.table("cached_tokens", "ttft_s", "e2e_s", "status").rows() == [
        (3, 0.25, None, "ok"),
        (0, None, None, "ok"),
        (0, None, None, "cancelled"),
        (0, None, None, "failed"),
    ]
    assert (trace.meta.rows_read, trace.meta.rows_set_aside) == (4, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"created_at": None}, "arrival_s missing"),
        ({"native_tokens_prompt": -1}, "input_tokens negative"),
        ({"native_tokens_completion": "many"}, "output_tokens not a number"),
        ({"latency": "long", "generation_time": None}, "e2e_s not a number"),
        ({"latency": "long"}, "malformed record"),
        ({"api_type": []}, "malformed record"),
    ],
)
def test_what_does_not_fit_is_set_aside(read, change, reason):
    good = json.loads(RECORDS.read_text().splitlines()[0])["data"]
    trace = read("\n".join(json.dumps({"data": row}) for row in (good, good | change)).encode())
    assert trace.meta.rows_set_aside == {reason: 1}
