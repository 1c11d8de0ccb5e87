"""Nothing lost: every row is kept or set aside with its reason and its text; a bad file says what it is."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_data import HEADER, accounted, rejects

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.ingest import ingest
from lmaas.analysis.quality import assess
from lmaas.analysis.workspace import Workspace

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,-2,3,a", "input_tokens negative"),
        ("1,2,-1,a", "output_tokens negative"),
        ("1,two,3,a", "input_tokens not a number"),
        ("1,2.5,3,a", "input_tokens not whole"),
        ("1,nan,3,a", "input_tokens missing"),
        ("1,inf,3,a", "input_tokens not finite"),
        ("1,4294967296,3,a", "input_tokens above 4294967295"),
        ("1,99999999999999999999999,3,a", "input_tokens above 4294967295"),
        ("1,,3,a", "input_tokens missing"),
        ("1,2,,a", "output_tokens missing"),
        ("1,2", "output_tokens missing"),
        (",2,3,a", "arrival_s missing"),
        ("nan,2,3,a", "arrival_s missing"),
        ("inf,2,3,a", "arrival_s not finite"),
        ("-inf,2,3,a", "arrival_s not finite"),
        ("-0.5,2,3,a", "arrival_s negative"),
        ("1e300,2,3,a", "arrival_s too large"),
        ("noon,2,3,a", "arrival_s not a number"),
        ("12:30,2,3,a", "arrival_s not a number"),
        ("1,2,3,a,b", "too many fields"),
        ('1,2,3,"a', "malformed line"),
        ("", "empty row"),
        (",,,", "empty row"),
        ('"=cmd()",2,3,a', "arrival_s not a number"),
        ("1;2;3;a", "arrival_s not a number"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason_and_its_text(read, row, reason):
    trace = read(HEADER + "0,1,1,x\n" + row + "\n2,1,0,y\n")
    assert accounted(trace) == 3
    assert trace.meta.rows_set_aside == {reason: 1}
    assert rejects(trace) == [(1, reason, row)]
    assert trace.table("source_row", "output_tokens").rows() == [(0, 1), (2, 0)]  # zero output is kept


def test_codes_of_http_are_read_as_the_status_they_stand_for(read):
    head = "arrival_s,input_tokens,output_tokens,status\n"
    codes = {
        "200": "ok",
        "204": "ok",
        "302": "ok",
        "429": "rejected",
        "499": "cancelled",
        "404": "failed",
        "503": "failed",
    }
    words = {"ok": "ok", "incomplete": "incomplete", "": "ok"}
    trace = read(head + "".join(f"{k},1,1,{said}\n" for k, said in enumerate([*codes, *words, "20", "done"])))
    assert trace.table("status")["status"].to_list() == [*codes.values(), *words.values()]
    assert trace.meta.rows_set_aside == {"status unknown": 2}


def test_where_no_status_is_known_those_that_are_accepted_are_named(read):
    with pytest.raises(UserError, match=r"status is one of ok, failed, .* or a code of HTTP"):
        read("arrival_s,input_tokens,output_tokens,status\n1,1,1,done\n")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"arrival_s": 1, "input_tokens": -2, "output_tokens": 3}', "input_tokens negative"),
        ('{"arrival_s": 1, "input_tokens": "2x", "output_tokens": 3}', "input_tokens not a number"),
        ('{"arrival_s": 1, "input_tokens": true, "output_tokens": 3}', "input_tokens not a number"),
        ('{"arrival_s": 1, "input_tokens": {"a": 1}, "output_tokens": 3}', "input_tokens not a number"),
        ('{"arrival_s": 1, "input_tokens": 2}', "output_tokens missing"),
        ('{"arrival_s": NaN, "input_tokens": 2, "output_tokens": 3}', "arrival_s missing"),
        ('{"arrival_s": 1e999, "input_tokens": 2, "output_tokens": 3}', "arrival_s not finite"),
        ('{"arrival_s": 1, "input_tokens": 2, "outp', "malformed line"),
        ("[1, 2, 3]", "malformed line"),
        ("null", "malformed line"),
        ("what?", "malformed line"),
        ('{"a": ' + "[" * 9999, "malformed line"),
    ],
)
def test_a_bad_json_line_is_set_aside_with_its_reason_and_its_text(read, line, reason):
    good = '{"arrival_s": 0, "input_tokens": 1, "output_tokens": 1}\n'
    trace = read(good + line + "\n\n  \n" + good)
    assert accounted(trace) == 3  # blank lines are none
    assert rejects(trace) == [(1, reason, line)]


def test_bytes_that_are_no_text_are_set_aside_as_they_are(read):
    trace = read(HEADER.encode() + b"0,1,1,x\n1,\xff\xfe,1,y\n2,1,1,caf\xe9\n")
    assert accounted(trace) == 3
    assert rejects(trace) == [(1, "input_tokens not a number", "1,\\xff\\xfe,1,y")]
    assert trace.table("service")["service"].to_list() == ["x", "caf\\xe9"]


def test_fields_that_span_lines_keep_rows_and_account_exact(read):
    trace = read(HEADER + '0,1,1,"a\nb"\n1,x,1,"c\nd"\n2,1,1,e\n')
    assert accounted(trace) == 3
    assert trace.table("service")["service"].to_list() == ["a\nb", "e"]
    assert rejects(trace) == [(1, "input_tokens not a number", '1,x,1,"c\nd"')]


def test_unsorted_rows_are_sorted_stably_and_their_inversions_counted(read):
    trace = read(HEADER + "5,1,1,a\n1,2,1,b\n5,3,1,c\n0,4,1,d\n1,5,1,e\n")
    assert trace.table("input_tokens")["input_tokens"].to_list() == [4, 2, 5, 1, 3]
    assert trace.table("source_row")["source_row"].to_list() == [3, 1, 4, 0, 2]
    assert any(note.startswith("not in order of arrival: 2 rows") for note in trace.meta.notes)
    assert trace.meta.span_s == 5.0


def test_shuffled_dates_give_the_very_table_of_sorted_ones(read):
    rng = np.random.default_rng(3)
    rows = [f"2026-03-0{1 + i // 40} 0{i % 10}:00:{i % 60:02d}.{i * 7919:09d}Z,{i},1\n" for i in rng.permutation(90)]
    head = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    shuffled, ordered = read(head + "".join(rows)), read(head + "".join(sorted(rows)))
    assert shuffled.table("arrival_s", "input_tokens").equals(ordered.table("arrival_s", "input_tokens"))
    assert shuffled.meta.epoch == ordered.meta.epoch
    assert shuffled.table("arrival_s")["arrival_s"][0] < 1


def test_duplicates_are_told_and_kept(read):
    trace = read(HEADER + "1,2,3,a\n1,2,3,b\n1,2,3,a\n1,2,3,a\n2,2,3,a\n")
    assert trace.meta.rows_kept == 5
    assert any(note.startswith("2 rows repeat another") for note in trace.meta.notes)
    with_ids = "request_id,arrival_s,input_tokens,output_tokens\n1,1,2,3\n2,1,2,3\n"
    assert read(with_ids).meta.notes == []


def test_one_row_is_a_trace(read):
    trace = read(HEADER + "7,2,3,a\n")
    assert (trace.meta.rows_kept, trace.meta.span_s) == (1, 0.0)
    assert assess(trace).verdict == "POOR"


def test_unknown_tokens_are_null_never_zero_and_only_of_requests_that_failed(read):
    head = "arrival_s,input_tokens,output_tokens,status\n"
    trace = read(head + "1,,,failed\n2,5,,cancelled\n3,5,,ok\n4,,7,\n5,1,0,ok\n6,1,1,lost\n")
    assert trace.table("input_tokens", "output_tokens").rows() == [(None, None), (5, None), (1, 0)]
    reasons = [row[1] for row in rejects(trace)]
    assert reasons == ["output_tokens missing", "input_tokens missing", "status unknown"]


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a'; DROP TABLE traces; --", "../../etc", "\x1b[31mred", "=1+1"]
)
def test_hostile_names_are_data(read, name, tmp_path):
    out = io.StringIO()
    csv.writer(out).writerow([1, 2, 3, name])
    trace = read(HEADER + out.getvalue(), name="x.csv")
    assert trace.table("service")["service"].to_list() == [name]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "x.csv"]
    assert "\x1b" not in "".join(read.said)


def test_names_of_files_and_folders_are_no_patterns(tmp_path):
    workspace = Workspace.open(tmp_path / "home[1]*")
    fixtures = Path(__file__).parent / "fixtures"
    for name, copy in (("azure.csv", "t[1].csv"), ("mooncake.jsonl", "t*?.jsonl")):
        path = tmp_path / copy
        path.write_bytes((fixtures / name).read_bytes())
        trace = ingest(path, workspace, say=lambda _: None)
        assert (trace.table().height, trace.meta.name) == (3, copy.split(".")[0])
        again = trace.path.rename(tmp_path / "again[x].parquet")
        assert ingest(again, workspace, say=lambda _: None).table().height == 3


def test_a_file_name_that_is_no_text_is_an_input_error(read, tmp_path):
    path = tmp_path / "caf\udce9.csv"
    path.write_bytes(HEADER.encode() + b"1,2,3,a\n")
    with pytest.raises(UserError, match="rename it") as caught:
        read(path)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"  \n\n", "is empty"),
        (HEADER.encode(), "a header and no rows"),
        (b"PK\x03\x04rest", "packed with zip"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "not a text file"),
        ("arrival_s,input_tokens".encode("utf-16"), "UTF-16"),
        (b'[{"a": 1}]', "missing columns arrival_s, input_tokens, output_tokens; found a"),
        (b'{\n  "a": 1\n}\n', "missing columns arrival_s, input_tokens, output_tokens; found a"),
        (b'[{"a": 1}, {"a"', "begins like JSON, but cannot be read"),
        (b"[1, 2, 3]", "one object a line"),
        (b"hello world\nthis is prose\n", "found hello world"),
        (b"arrival_s,input_tokens\n1,2\n", "missing column output_tokens"),
        (b"a,a\n1,2\n", "two columns named a"),
        (b'"a,b\n1,2\n', "no CSV header"),
        (b"lmaas:row,b\n1,2\n", "may not begin with"),
        (
            b"TIMESTAMP,ContextToken,GeneratedTokens\nx,1,2\n",
            r"missing column ContextTokens \(is ContextToken meant\?\)",
        ),
        (
            HEADER.encode() + b"x,1,1,a\ny,1,1,a\n",
            "none of its 2 rows is a request: 2 arrival_s not a number; the first is 'x,1,1,a'",
        ),
        (b"\x1f\x8b\x08\x00rubbish", "cannot be read"),
    ],
)
def test_a_file_that_is_no_trace_is_an_input_error_that_says_why(read, content, words):
    with pytest.raises(UserError, match=words) as caught:
        read(content, name="given.csv")
    assert caught.value.code == Exit.INPUT
    assert str(caught.value).startswith("given.csv: ")


def test_an_empty_folder_and_a_missing_file_are_input_errors(read, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "no file that could be a trace"), (tmp_path / "nope.csv", "no such file")):
        with pytest.raises(UserError, match=words) as caught:
            read(path)
        assert caught.value.code == Exit.INPUT


def test_a_parquet_cut_anywhere_is_an_input_error(read, tmp_path):
    rows = {
        "arrival_s": [float(i) for i in range(5000)],
        "input_tokens": list(range(5000)),
        "output_tokens": [1] * 5000,
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    for size in (4, 8, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(UserError, match="damaged") as caught:
            read(whole[:size], name="cut.parquet")
        assert caught.value.code == Exit.INPUT
    with pytest.raises(UserError, match="damaged"):
        read(whole[:40] + b"\xff" * 2000 + whole[2040:], name="rotten.parquet")


def test_a_packed_file_cut_short_is_an_input_error(read):
    import gzip

    whole = gzip.compress(b"".join([HEADER.encode()] + [b"%d,%d,1,a\n" % (i, i * 7919 % 997) for i in range(200_000)]))
    with pytest.raises(UserError, match="damaged or cut short"):
        read(whole[: len(whole) // 2], name="t.csv.gz")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pl.Series("input_tokens", [True]), "Boolean"),
        (pl.Series("input_tokens", [[1]]), "List"),
        (pl.Series("input_tokens", [b"x"]), "Binary"),
        (pl.Series("service", [{"a": 1}]), "Struct"),
    ],
)
def test_a_parquet_column_of_a_type_that_cannot_fit_is_an_input_error(read, tmp_path, column, words):
    frame = pl.DataFrame({"arrival_s": [1.0], "input_tokens": [1], "output_tokens": [1]}).with_columns(column)
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=words):
        read(tmp_path / "t.parquet")


def test_bad_values_of_a_parquet_file_are_set_aside_with_their_values(read, tmp_path):
    frame = pl.DataFrame(
        {
            "arrival_s": [0.0, float("nan"), float("inf"), None, 4.0, 5.0, 6.0],
            "input_tokens": [1, 1, 1, 1, -5, 2**40, None],
            "output_tokens": [1.0, 1, 1, 1, 1, 1, 0.5],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    trace = read(tmp_path / "t.parquet")
    assert accounted(trace) == 7
    reasons = [row[1] for row in rejects(trace)]
    assert reasons == [
        "arrival_s missing", "arrival_s not finite", "arrival_s missing", "input_tokens negative",
        "input_tokens above 4294967295", "output_tokens not whole",
    ]  # fmt: skip
    assert json.loads(rejects(trace)[3][2]) == {"arrival_s": 4.0, "input_tokens": -5, "output_tokens": 1.0}


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12)
CELL = TEXT | st.sampled_from(
    ["", "1", "2.0", "-1", "nan", "inf", "1e3", "4294967296", '"', '""', ",", '"a,b"', "\x00", "é"]
)
CSV_LINE = st.lists(CELL, min_size=1, max_size=6).map(",".join)
CSV_BYTES = CSV_LINE.map(str.encode) | st.binary(max_size=20).filter(lambda b: b"\n" not in b and b"\r" not in b)


@FUZZ
@given(lines=st.lists(CSV_BYTES, max_size=30), end=st.sampled_from([b"\n", b"\r\n"]))
def test_any_csv_lines_are_accounted_for(read, lines, end):
    content = HEADER.encode() + b"0,1,1,x\n" + end.join(lines)
    try:
        trace = read(content)
    except UserError as error:
        assert error.code == Exit.INPUT
        return
    physical = content.split(b"\n")[1:]
    rows = accounted(trace)
    if b'"' not in content:
        assert rows == len(physical) - (physical[-1] == b"")


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
KEYS = ("timestamp", "input_length", "output_length", "hash_ids", "session_id")
JSON_LINE = st.dictionaries(st.sampled_from(KEYS), JSON_VALUE).map(json.dumps) | TEXT


@FUZZ
@given(lines=st.lists(JSON_LINE, max_size=30))
def test_any_json_lines_are_accounted_for(read, lines):
    good = '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1], "session_id": "s"}'
    trace = read("\n".join([good, *lines]))
    assert accounted(trace) == 1 + sum(bool(line.strip()) for line in lines)


@FUZZ
@given(
    rows=st.lists(
        st.tuples(st.floats() | st.none(), st.integers(-10, 2**33) | st.none(), st.floats() | st.none()), min_size=1
    )
)
def test_any_parquet_rows_are_accounted_for(read, tmp_path, rows):
    schema = {"arrival_s": pl.Float64, "input_tokens": pl.Int64, "output_tokens": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame.write_parquet(tmp_path / "t.parquet")
    fits = [
        a is not None and 0 <= a <= 2**53 / 1e6 and i is not None and 0 <= i < 2**32
        and o is not None and 0 <= o < 2**32 and o == int(o)
        for a, i, o in rows
    ]  # fmt: skip
    if not any(fits):
        with pytest.raises(UserError, match="none of its"):
            read(tmp_path / "t.parquet")
        return
    trace = read(tmp_path / "t.parquet")
    assert accounted(trace) == len(rows)
    assert sorted(trace.table("source_row")["source_row"]) == [i for i, fit in enumerate(fits) if fit]
