"""CSV and JSON whose lines and rows do not go together: nothing is lost, and what is kept is what was meant."""

import gzip
import json
from datetime import date

import polars as pl
import pytest
from trace_data import accounted, rejects

from lmaas.analysis.errors import UserError

HEAD = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
DATED = {"created_at": "2026-01-01T00:00:00Z", "native_tokens_prompt": 4, "native_tokens_completion": 6}
MAPPED = {"arrival_s": "ts", "input_tokens": "in", "output_tokens": "out"}


def test_too_many_fields_are_told_though_the_last_columns_are_not_read(read):
    trace = read(HEAD + "5,Chat,GPT,472,18,490,log\n6,x,1,2,3,log\n7,x,4,472,18,22,log\n8,x\n", name="t.csv")
    assert trace.meta.rows_set_aside == {"input_tokens missing": 1, "too many fields": 2}
    assert [row for row, _, _ in rejects(trace)] == [0, 2, 3]
    assert trace.table("arrival_s", "input_tokens", "output_tokens").rows() == [(6, 1, 2)]


def test_a_quote_in_the_header_swallows_no_rows(read):
    text = 'a"b,ts,in,out\nx,1,2,3\nx,2,3,4\nx",3,4,5\nx,4,5,6\n'
    trace = read(text, name="t.csv", mapping=MAPPED, time_unit="s")
    assert accounted(trace) == 4 and trace.meta.rows_kept == 4


def test_rows_whose_fields_span_lines_are_kept_beside_a_broken_one(read):
    rows = [f'{at},{at},{at},"Tell me, please\n\nof ""{at}"" and\nthe sea"\n' for at in range(1, 4)]
    text = "ts,in,out,notes\n" + rows[0] + 'x,"never closed\n' + "".join(rows[1:])
    trace = read(text, name="t.csv", mapping=MAPPED, time_unit="s")
    assert trace.meta.rows_set_aside == {"malformed line": 1}
    assert trace.table("arrival_s", "input_tokens", "source_row").rows() == [(1, 1, 0), (2, 2, 2), (3, 3, 3)]


def test_pieces_of_a_prompt_are_not_stored(read):
    text = 'prompt,ts,in,out\n"all well",1,2,3\n"broken\nswordfish is, my secret\nand swordfish again",1,2,3,4\n'
    trace = read(text, name="t.csv", mapping=MAPPED, time_unit="s")
    assert trace.meta.rows_kept == 1 and accounted(trace) == 4
    assert "swordfish" not in str(rejects(trace))


def test_objects_on_lines_of_their_own_within_a_document_are_its_parts(read):
    listed = ",\n".join(json.dumps({"id": f"g{at}", **DATED}) for at in range(3))
    trace = read('{"data": [\n' + listed + "\n]}\n", name="t.json")
    assert (trace.meta.format, trace.meta.rows_kept, trace.meta.rows_set_aside) == ("openrouter", 3, {})


def test_a_broken_first_line_is_set_aside_alone(read):
    good = json.dumps({"arrival_s": 1, "input_tokens": 2, "output_tokens": 3})
    trace = read(good[:20] + "\n" + good + "\n", name="t.jsonl")
    assert trace.meta.rows_set_aside == {"malformed line": 1} and trace.meta.rows_kept == 1


@pytest.mark.parametrize("name", ["*", "^in.*$"])
def test_a_column_called_like_a_pattern_is_refused_where_it_is_meant(read, name):
    line = json.dumps({"ts": 1, "in": 2, "inner": 7, "out": 3, name: 4})
    with pytest.raises(UserError, match="called like a pattern of names; rename it"):
        read(line, mapping={**MAPPED, "input_tokens": name}, time_unit="s")
    assert read(line, mapping=MAPPED, time_unit="s").table("input_tokens").rows() == [(2,)]


def test_what_is_no_time_is_told_with_the_files_name(tmp_path, read):
    days = pl.DataFrame({"ts": [date(2026, 1, 1)], "in": [1], "out": [2]})
    days.write_parquet(tmp_path / "days.parquet")
    with pytest.raises(UserError, match=r"days\.parquet: column ts is Date"):
        read(tmp_path / "days.parquet", mapping=MAPPED, time_unit="datetime")


@pytest.mark.parametrize("packed", [False, True])
def test_a_key_that_is_there_twice_means_the_same_beside_a_broken_line(read, packed):
    lines = '{"arrival_s": 1, "arrival_s": 2, "input_tokens": 3, "input_tokens": 4, "output_tokens": 5}\n' * 3
    for at, text in enumerate((lines, lines + "{broken\n")):
        content = gzip.compress(text.encode()) if packed else text.encode()
        assert set(read(content, name=f"{at}.jsonl").table("arrival_s", "input_tokens").rows()) == {(1, 3)}
