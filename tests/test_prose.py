"""Prompts and answers are not stored, not even with what is set aside."""

import json

import polars as pl
import pytest

from lmaas.analysis.formats.prose import has_prose, without_prose
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace

SECRET = "the launch code is swordfish"


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "prompt": SECRET},
        {"messages": [{"role": "user", "content": SECRET}], "n": 2},
        {"span": {"attributes": [{"key": "gen_ai.prompt.0.content", "value": {"stringValue": SECRET}}]}},
        {"span": {"attributes": {"gen_ai.input.messages": SECRET}}},
        {"data": [{"request_inputs": {"payload": json.dumps({"prompt": SECRET})}}]},
        {"Content": [SECRET, [SECRET]]},
        {"request": {"prompt": [SECRET]}},
        {"input": {"question": SECRET}},
        {"a": json.dumps({"messages": [SECRET]})},
        {"a": json.dumps({"messages": [SECRET]})[:-3], "n": 1},
        {"user_prompt": SECRET, "systemPrompt": SECRET, "question": SECRET, "raw_response": SECRET},
        {"span": {"attributes": [{"key": "gen_ai.system_instructions", "value": {"stringValue": SECRET}}]}},
        {"attributes": {"gen_ai.tool.call.arguments": SECRET, "gen_ai.tool.call.result": SECRET}},
    ],
)
def test_text_becomes_its_length(value):
    kept = without_prose(json.dumps(value))
    assert "swordfish" not in kept and " characters)" in kept
    assert json.loads(kept).keys() == value.keys()


@pytest.mark.parametrize(
    "line",
    ['{"id": "r1", "usage": {"input": 5, "output": -1}}', '{"a": 1', "", "[1]", '{"key": "x"}',
     '{"request": {"model": "m", "input_tokens": 3}}', '{"texture": "wood"}', '{"gen_ai.request.model": "m"}',
     '{"request.path": "/v1/embeddings", "prompt_name": "a"}', '{"output": "18", "input": "-"}', "INFO: begun"],
)  # fmt: skip
def test_other_lines_stand_as_they_are(line):
    assert without_prose(line) == line


def test_a_broken_line_ends_before_its_text():
    line = '{"id": 7, "prompt": "' + SECRET
    assert without_prose(line) == f'{{"id": 7, … ({len(line)} characters)'


def test_a_piece_of_text_is_no_line():
    assert without_prose(SECRET + '"}', torn=True) == f"… ({len(SECRET) + 2} characters)"
    assert without_prose('{"a": 1', torn=True) == '{"a": 1'


def test_columns_of_text_are_known_by_name():
    assert has_prose(["a", "Prompt"]) and has_prose(["gen_ai.prompt"])
    assert has_prose(["user_prompt"]) and has_prose(["question"])
    assert not has_prose(["prompt_tokens", "input_tokens", "output_length", "request_id", "completion_start_time"])


@pytest.mark.parametrize("form", ["csv", "jsonl", "broken"])
def test_nothing_stored_holds_it(tmp_path, form):
    good, bad = {"arrival_s": 1, "input_tokens": 2, "output_tokens": 3}, {"arrival_s": -1}
    rows = [{**good, "prompt": SECRET}, {**good, **bad, "prompt": SECRET}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if form == "csv":
        text = "".join(",".join(map(str, row)) + "\n" for row in [rows[0], *(row.values() for row in rows)])
    if form == "broken":
        text += json.dumps(rows[1])[:-1] + "\n"
    (tmp_path / "t").write_text(text)
    trace = ingest(tmp_path / "t", Workspace.open(tmp_path / "home"), say=lambda _: None)
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet"))
    assert rejects["text"].null_count() == 0 and len(rejects) == (2 if form == "broken" else 1)
    for path in (tmp_path / "home").rglob("*.parquet"):
        assert "swordfish" not in str(pl.read_parquet(path).rows())
    assert all(b"swordfish" not in path.read_bytes() for path in (tmp_path / "home").rglob("*.json"))
