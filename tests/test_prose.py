"""Prompts and answers are not stored, not even with what is set aside."""

import json

import polars as pl
import pytest

from lmaas.analysis.anonymise import Anonymiser
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.prose import has_prose, without_free_text, without_prose
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


FREE = "Tell me, please, of the swordfish"


@pytest.mark.parametrize(
    "value",
    [
        {"metadata": {"note": FREE}, "tags": ["prod", FREE]},
        {"status_message": "refused: " + FREE},
        {"a": json.dumps({"note": FREE})},
        {"a": json.dumps({"note": FREE})[:-2], "n": 1},
        {"a": "swordfish" * 12},
        {"a": "剣魚のこと swordfish"},
        {FREE: 1},
        {"a": 'say "swordfish" to no one'},
        {"a": "[INST] " + FREE},
    ],
)
def test_free_text_under_any_key_becomes_its_length(value):
    kept = without_prose(json.dumps(value))
    assert "swordfish" not in kept and " characters)" in kept
    assert len(json.loads(kept)) == len(value)


@pytest.mark.parametrize(
    "value",
    ["gpt-4o-mini", "Mon, 02 Nov 2026 10:00:00 GMT", "Meta Llama 3.1 70B", "1 2 3 4 5 6", "Conversation log",
     "chatcmpl-b654b653c8714431a1096a3be88f1662", "2026-11-01 10:00:00.123", "[1, 2]", "-"],
)  # fmt: skip
def test_ids_names_and_dates_stay(value):
    line = json.dumps({"metadata": {"a": value}, "hashes": list(range(99))})
    assert without_prose(line) == line
    assert without_free_text(f"{value.replace(',', '')},1", ",", 2) == f"{value.replace(',', '')},1"


def test_of_a_broken_line_free_text_stays_out_too():
    line = '{"id": 7, "n": [1, 2, 3, 4], "note": "' + FREE
    assert without_prose(line) == f'{{"id": 7, "n": [1, 2, 3, 4], "note": "({len(FREE)} characters)'
    assert without_prose(f'{FREE}", "n": 1}}') == f'({len(FREE)} characters)", "n": 1}}'


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (f'1,"{FREE}",x', f"1,({len(FREE)} characters),x"),
        (f'1,"{FREE}', f"({len(FREE) + 3} characters)"),
        (f"1,{FREE},x", f"({len(FREE) + 4} characters)"),
        ('1,"a, b",x y', '1,"a, b",x y'),
        ('1,"{""note"": ""one two three four""}",x', '1,"{""note"": ""(18 characters)""}",x'),
    ],
)
def test_free_text_of_a_csv_becomes_its_length(line, kept):
    assert without_free_text(line, ",", 3) == kept


CSV_HEAD = "arrival_s,input_tokens,output_tokens,notes"
FORMS = {
    "jsonl": json.dumps({"arrival_s": 0, "input_tokens": 1, "output_tokens": 2}) + "\n"
    + json.dumps({"arrival_s": -1, "input_tokens": 1, "output_tokens": 2, "metadata": {"note": FREE}}) + "\n",
    "csv": f'{CSV_HEAD}\n0,1,2,x\n-1,1,2,"{FREE}"\n',
    "lines": f'{CSV_HEAD}\n0,1,2,x\n-1,1,2,"{FREE}\nand of {FREE}"\n',
    "broken": f'{CSV_HEAD}\n0,1,2,x\n-1,1,2,"{FREE}\n',
    "prompt": f'{CSV_HEAD.replace("notes", "prompt")}\n0,1,2,x\n-1,1,2,"{FREE}"\n',
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_free_text_is_stored_where_it_is_asked_for_and_nowhere_else(tmp_path, form):
    (tmp_path / "t").write_text(FORMS[form])
    stored = {}
    for keep in (False, True):
        home = Workspace.open(tmp_path / str(keep))
        trace = ingest(tmp_path / "t", home, keep_text=keep, say=lambda _: None)
        stored[keep] = pl.read_parquet(trace.path.with_name("rejects.parquet"))["text"].to_list()
        assert any("--keep-text" in note for note in trace.meta.notes) is keep
    assert "swordfish" not in str(stored[False]) and len(stored[False]) == 1
    assert stored[True] == [FORMS[form].rstrip("\n").split("\n", 1 if form == "jsonl" else 2)[-1]]


def test_parquet_is_no_exception(tmp_path):
    table = pl.DataFrame({"arrival_s": [0.0, -1.0], "input_tokens": [1, 1], "output_tokens": [2, 2]})
    table.with_columns(tenant=pl.lit(FREE)).write_parquet(tmp_path / "t.parquet")
    trace = ingest(tmp_path / "t.parquet", Workspace.open(tmp_path / "home"), say=lambda _: None)
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet"))
    assert "swordfish" not in str(rejects["text"].to_list())


def test_dropped_and_kept_is_a_contradiction(tmp_path):
    (tmp_path / "t").write_text(FORMS["csv"])
    with pytest.raises(UserError, match="choose one") as caught:
        ingest(tmp_path / "t", Workspace.open(tmp_path / "home"), keep_text=True, anonymiser=Anonymiser.of(None))
    assert caught.value.code == Exit.USAGE
