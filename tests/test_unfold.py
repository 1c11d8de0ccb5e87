"""JSON that is not one request a line: arrays, documents over several lines, values that hold several requests."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from lmaas.analysis.errors import UserError
from lmaas.analysis.formats import jsontext
from lmaas.analysis.formats.base import Reading
from lmaas.analysis.formats.source import Source
from lmaas.analysis.formats.unfold import Nested, Record, unfolded
from lmaas.analysis.ingest import ingest
from lmaas.analysis.ingest_write import write_rows
from lmaas.analysis.workspace import Workspace

ROWS = [
    {"arrival_s": 1.5, "input_tokens": 3, "output_tokens": 4, "block_hashes": [2**64 - 1, 7]},
    {"arrival_s": 2, "input_tokens": 5, "output_tokens": 6, "block_hashes": []},
]


class Sessions:
    """{"calls": [{"at", "tokens"}]}: a session a line; a call without tokens is a tool's."""

    name = "sessions"
    kinds = ("jsonl",)
    required = ("calls",)
    fields = ("at", "given", "made", "hashes")

    def recognises(self, source):
        return "calls" in source.columns

    def read(self, source):
        columns = {"input_tokens": "given", "output_tokens": "made", "block_hashes": "hashes"}
        return Reading("at", "s", columns)

    def unfold(self, value):
        for call in value["calls"]:
            if "tool" in call:
                yield Record(call, aside="a tool's, no request")
            else:
                yield Record(call, {"at": call["at"], "given": call["n"][0], "made": call["n"][1], "hashes": [1, 2]})


@pytest.fixture
def trace_of(tmp_path):
    def _trace(text, **options):
        path = tmp_path / "trace.json"
        path.write_text(text)
        return ingest(path, Workspace.open(tmp_path / "home"), say=lambda _: None, **options)

    return _trace


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        "\n\n  " + json.dumps(ROWS[0], indent=1) + json.dumps(ROWS[1]) + "\n ",
        "\n".join(map(json.dumps, ROWS)),
    ],
)
def test_json_in_any_layout_is_the_same_trace(trace_of, text):
    trace = trace_of(text)
    assert trace.meta.rows_read == 2 and not trace.meta.rows_set_aside
    assert trace.table("arrival_s")["arrival_s"].to_list() == [1.5, 2.0]
    assert trace.table("block_hashes")["block_hashes"].to_list() == [[2**64 - 1, 7], []]


def test_an_element_that_is_no_request_is_set_aside_with_its_text(trace_of):
    trace = trace_of(json.dumps([ROWS[0], 5, {"arrival_s": -1, "input_tokens": 1, "output_tokens": 1}]))
    assert trace.meta.rows_read == 3
    assert trace.meta.rows_set_aside == {"arrival_s negative": 1, "malformed line": 1}
    rejects = pl.read_parquet(trace.path.with_name("rejects.parquet")).sort("source_row")
    assert rejects["text"].to_list() == ["5", '{"arrival_s": -1, "input_tokens": 1, "output_tokens": 1}']


def nested(tmp_path, lines):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(lines))
    source = unfolded(Source.open(path), Sessions())
    folder = tmp_path / "out"
    folder.mkdir()
    written = write_rows(source, Sessions().read(source), folder)
    return written, pl.read_parquet(folder / "trace.parquet"), pl.read_parquet(folder / "rejects.parquet")


def test_a_value_is_as_many_rows_as_it_holds_and_every_part_is_accounted_for(tmp_path):
    calls = [{"at": 1, "n": [10, 20]}, {"tool": "ls"}, {"at": 3, "n": [30, 40]}]
    lines = [json.dumps({"calls": calls}), "{broken", json.dumps({"calls": [{"at": 2, "n": [1, 2]}, {"at": 9}]}), "7"]
    written, kept, rejects = nested(tmp_path, lines)
    assert isinstance(Sessions(), Nested)
    assert kept["arrival_s"].to_list() == [1.0, 2.0, 3.0]
    assert kept["input_tokens"].to_list() == [10, 1, 30]
    assert kept["block_hashes"].to_list() == [[1, 2]] * 3
    assert kept["source_row"].to_list() == [0, 4, 2]
    assert written.rows_read == 7
    assert written.set_aside == {"malformed line": 2, "a tool's, no request": 1, "malformed record": 1}
    assert dict(rejects.sort("source_row").select("source_row", "text").rows()) == {
        1: '{"tool": "ls"}', 3: "{broken", 5: lines[2], 6: "7",
    }  # fmt: skip


def test_text_that_is_legal_json_and_no_text_is_kept_as_it_was_escaped(tmp_path):
    lines = [r'{"calls": [{"at": 1, "n": [10, 20]}, {"tool": "\ud800"}]}', r'{"calls": ["\udfff"]}']
    written, _, rejects = nested(tmp_path, lines)
    assert written.rows_read == 3
    assert sorted(rejects["text"]) == [r'{"calls": ["\udfff"]}', r'{"tool": "\ud800"}']


def test_a_users_key_cannot_set_rows_aside(trace_of):
    rows = [*ROWS * 60, {**ROWS[0], "lmaas:malformed": "x"}]  # beyond the lines whose keys are looked at
    assert trace_of("\n".join(map(json.dumps, rows))).meta.rows_kept == 121


@pytest.mark.parametrize(
    ("unit", "text", "second", "after_s"),
    [
        ("epoch-s", "1787267980.25", 1787267980, 0.25),
        ("epoch-s", "1787267980", 1787267980, 0.0),
        ("epoch-ms", "1779163048815", 1779163048, 0.815),
        ("epoch-us", "1760428585732722", 1760428585, 0.732722),
        ("epoch-ns", "1759813207532900363", 1759813207, 0.532900363),
    ],
)
def test_numbers_since_1970_are_instants_to_the_last_digit(trace_of, unit, text, second, after_s):
    mapping = {"arrival_s": "t", "input_tokens": "a", "output_tokens": "b"}
    trace = trace_of(f"t,a,b\n{text},1,2\nx,1,2\n", mapping=mapping, time_unit=unit)
    assert trace.meta.epoch == datetime.fromtimestamp(second, UTC) and trace.meta.epoch_kind == "known"
    assert trace.table("arrival_s")["arrival_s"].to_list() == [after_s]
    assert trace.meta.rows_set_aside == {"arrival_s not a number since 1970": 1}


def test_numbers_since_1970_of_a_parquet_file(tmp_path):
    path = tmp_path / "t.parquet"
    times = pl.Series([1787267980.5, 1787267981.0, float("inf"), 1e300, None])
    pl.DataFrame({"t": times, "a": [1] * 5, "b": [1] * 5}).write_parquet(path)
    mapping = {"arrival_s": "t", "input_tokens": "a", "output_tokens": "b"}
    trace = ingest(path, Workspace.open(tmp_path / "home"), mapping=mapping, time_unit="epoch-s", say=lambda _: None)
    assert trace.table("arrival_s")["arrival_s"].to_list() == [0.5, 1.0]
    assert trace.meta.rows_read == 5 and sum(trace.meta.rows_set_aside.values()) == 3


def test_json_too_large_to_be_read_whole_is_refused(trace_of, monkeypatch):
    monkeypatch.setattr("lmaas.analysis.formats.source.DOCUMENT_LIMIT", 100)
    with pytest.raises(UserError, match="one object a line: jq -c"):
        trace_of(json.dumps(ROWS * 10))


def test_values_are_what_json_says():
    assert jsontext.values(' [1, 2]\n{"a": 1} 3 ') == [1, 2, {"a": 1}, 3]
    assert jsontext.loads("9" * 39) == int("9" * 39) and jsontext.loads("9" * 5000) == "9" * 5000
    assert jsontext.objects(["{", "[1]", '{"a": 1}']) == ({"a": 1},)
