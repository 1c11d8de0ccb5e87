"""CSV as people export it: spaces beside separators, lines before the header, other line ends; and odd packing."""

import gzip
import json
import random
import shlex
import struct
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from trace_data import accounted

from lmaas.analysis.errors import UserError

HEAD = "arrival_s,input_tokens,output_tokens,service\n"
ROWS = [(0.0, 10, 5, "a"), (1.5, 20, 6, "b c")]
PLAIN = HEAD + "0,10,5,a\n1.5,20,6,b c\n"


def rows(trace):
    assert accounted(trace) == trace.meta.rows_kept
    return trace.table("arrival_s", "input_tokens", "output_tokens", "service").rows()


@pytest.mark.parametrize(
    "text",
    [
        "sep=,\n" + PLAIN,
        "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
        '"sep=,"\n' + PLAIN,
        "\ufeffsep=,\n" + PLAIN,
        "# exported by hand, 2026\n#\n\n" + PLAIN,
        "#" + PLAIN,
        "# by hand\n#" + PLAIN,
        "\n \n" + PLAIN,
        HEAD + "0, 10, 5,a\n 1.5 ,20 ,6,b c\n",
    ],
)
def test_lines_before_the_header_and_spaces_around_numbers(read, text):
    if "#arrival" in text:
        trace = read(text, mapping={"arrival_s": "#arrival_s"}, time_unit="s")
        assert rows(trace) == ROWS
    else:
        assert rows(read(text)) == ROWS


def test_what_stands_before_the_header_is_passed_over_by_the_careful_reader_too(read):
    trace = read("# one\n# two\n" + PLAIN + '2,1,1,a,too,many\n"broken\n')
    assert trace.meta.rows_kept == 2 and trace.meta.rows_set_aside == {"malformed line": 1, "too many fields": 1}
    assert trace.table("source_row")["source_row"].to_list() == [0, 1]


def test_spaces_around_dates_are_none_of_theirs_and_those_of_names_stay(read):
    text = "TIMESTAMP, ContextTokens, GeneratedTokens\n 2024-05-10 00:00:01 , 5, 6\n2024-05-10 00:00:02, 7, 8\n"
    trace = read(text)
    assert trace.table("arrival_s", "input_tokens", "output_tokens").rows() == [(0, 5, 6), (1, 7, 8)]
    assert rows(read(HEAD + "0, 10, 5, a\n", name="b.csv")) == [(0, 10, 5, " a")]


def test_a_zero_behind_a_space_is_a_failure_as_without_it(read):
    text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT,3, 0,3,API log\n"
    assert read(text).table("status", "output_tokens").rows() == [("failed", None)]


def test_a_field_of_spaces_is_an_unknown_value(read):
    trace = read("arrival_s,input_tokens,output_tokens,ttft_s\n0,1,2,  \n1,1,2, 0.5\n")
    assert trace.table("ttft_s")["ttft_s"].to_list() == [None, 0.5]


@pytest.mark.parametrize("dated", [False, True])
def test_rows_are_the_same_however_their_numbers_are_written(read, dated):
    rng = random.Random(0)
    columns = "TIMESTAMP,ContextTokens,GeneratedTokens\n" if dated else "arrival_s,input_tokens,output_tokens\n"
    odd = ["{}.0", "{}e0", " {}", "{} ", "+{}", "000{}", "{}"]
    plain, written = [columns], [columns]
    for k in range(5000):
        date = f"2024-05-10 {k // 3600:02}:{k // 60 % 60:02}:{k % 60:02}"
        time = [date, f"{date}Z", f" {date}.000 ", date.replace(" ", "T")] if dated else [f"{k}", f" {k}", f"{k}.0"]
        numbers = [rng.randrange(1, 1 << 32), rng.randrange(1, 5000)]
        spelled = [rng.choice(odd if rng.random() < 0.3 else ["{}"]).format(number) for number in numbers]
        plain.append(",".join(map(str, [time[0], *numbers])) + "\n")
        bad = f"{time[0]},{rng.choice(['-1', 'x', ' ', '1.5'])},1\n" if rng.random() < 0.1 else None
        written.append(",".join([rng.choice(time), *spelled]) + "\n")
        written += [bad] if bad else []
    one, other = read("".join(plain)), read("".join(written), name="odd.csv")
    assert accounted(other) - accounted(one) == sum(other.meta.rows_set_aside.values()) > 0
    wanted = ["arrival_s", "input_tokens", "output_tokens", "status"]
    assert other.table(*wanted).equals(one.table(*wanted))


def test_line_ends_of_old_macs_are_told_with_what_would_work(read):
    with pytest.raises(UserError, match=r"trace\.txt: its lines end with CR alone; .* tr "):
        read(PLAIN.replace("\n", "\r"))


def test_comments_alone_are_no_trace(read):
    with pytest.raises(UserError, match=r"missing columns .*; found # nothing"):
        read("# nothing\n# else\n")


@pytest.mark.parametrize(
    "content", [PLAIN, "".join(json.dumps(dict(zip(HEAD.strip().split(","), r, strict=True))) + "\n" for r in ROWS)]
)
def test_zstd_that_begins_with_a_frame_to_skip(read, content):
    whole = b"".join(_skippable(part) + pa.compress(part, codec="zstd", asbytes=True) for part in _halves(content))
    assert rows(read(whole, name="t.zst")) == ROWS


def _halves(content: str) -> tuple[bytes, bytes]:
    return content[:60].encode(), content[60:].encode()


def _skippable(part: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + struct.pack("<II", 4, len(part))


def test_hashes_in_lists_of_a_fixed_size(tmp_path: Path, read):
    lists = pl.Series("block_hashes", [[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2))
    table = pl.DataFrame({"arrival_s": [0.0, 1.0], "input_tokens": [900, 1000], "output_tokens": [1, 2]})
    table.with_columns(lists).write_parquet(tmp_path / "fixed.parquet")
    trace = read(tmp_path / "fixed.parquet")
    assert trace.table("block_hashes")["block_hashes"].to_list() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_texts_that_differ_in_a_lone_surrogate_stay_apart(read, parts):
    ids = ["a\ud800", "a\ud801", "a?", "\udfff"]
    lines = [{"arrival_s": at, "input_tokens": 1, "output_tokens": 1, "session_id": x} for at, x in enumerate(ids)]
    text = "\n".join(map(json.dumps, lines[:parts]))
    for content in (text.encode(), gzip.compress(text.encode())):
        found = read(content, name=f"{len(content)}.jsonl").table("session_id")["session_id"].to_list()
        assert found == ["a\\ud800", "a\\ud801", "a?", "\\udfff"][:parts]


def test_what_is_to_be_pasted_into_a_shell_is_one_word_there(read):
    with pytest.raises(UserError) as caught:
        read("time,$(touch x) prompt,a completion\n1,2,3\n")
    pasted = shlex.split(str(caught.value).partition("Map them: ")[2])
    assert pasted[:6:2] == ["--map"] * 3
    assert pasted[1:6:2] == ["arrival_s=time", "input_tokens=$(touch x) prompt", "output_tokens=a completion"]


def test_damaged_packing_is_told_as_such_however_short_the_file(read):
    whole = gzip.compress(PLAIN.encode())
    for content in (whole[:-12], whole + b"more"):
        with pytest.raises(UserError, match="its gzip data is damaged or cut short; copy it again"):
            read(content, name="t.csv.gz")


def test_parquet_within_gzip_is_told(tmp_path, read):
    pl.DataFrame({"arrival_s": [0.0]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="Parquet, packed once more"):
        read(gzip.compress((tmp_path / "t.parquet").read_bytes()), name="t.parquet.gz")


def test_minus_one_everywhere_is_told_with_what_to_write(read):
    with pytest.raises(UserError, match=r"2 ttft_s negative .if -1 stands for unknown, write nothing there"):
        read("arrival_s,input_tokens,output_tokens,ttft_s\n0,1,2,-1\n1,2,3,-1\n")


def test_an_object_without_keys_has_no_columns(read):
    with pytest.raises(UserError, match=r"found none\. Map them"):
        read("{}\n")


@pytest.mark.parametrize("more", ["", "3,1,1\n"])
def test_quotes_behind_a_space_are_quotes(read, more):
    head, rows_ = HEAD.replace(",", ', "').replace("\n", '"\n', 1).replace(', "', '", "')[:-1], ROWS
    head = '"' + head + "\n"
    text = head + '0, "10", "5", "a"\n1.5, "20", "6" , "b c"\n'
    assert read(text + more).table("arrival_s", "input_tokens", "output_tokens", "service").rows()[:2] == rows_


def test_a_comma_within_quotes_behind_a_space_parts_nothing(read):
    trace = read(HEAD + '0, 10, 5, "a, b"\n1, 20, 6, "say ""x"", y"\n')
    assert trace.meta.rows_set_aside == {}
    assert trace.table("service")["service"].to_list() == ["a, b", 'say "x", y']
