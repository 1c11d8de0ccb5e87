"""Every format: its signature, its columns, and the oddities found in real files, on hand-written rows."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_data import rejects

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats import FORMATS, times
from lmaas.analysis.formats.source import Source
from lmaas.analysis.recognition import recognise
from lmaas.analysis.trace import SCHEMA, Trace

FIXTURES = Path(__file__).parent / "fixtures"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"


def column(trace: Trace, name: str) -> list:
    return trace.table(name)[name].to_list()


def test_every_format_is_recognised_by_its_fixture_and_by_no_other():
    for name in FORMATS:
        source = Source.open(next(FIXTURES.glob(f"{name}.*")))
        claimed = [
            known
            for known in FORMATS
            if source.kind in FORMATS.load(known).kinds and FORMATS.load(known)().recognises(source)
        ]
        assert claimed == [name]
        assert FORMATS.load(name).name == name


def test_every_trace_has_the_documented_columns_and_types(read):
    for name in FORMATS:
        trace = read(next(FIXTURES.glob(f"{name}.*")))
        assert dict(trace.scan().collect_schema()) == SCHEMA
        assert trace.meta.format == name


def test_azure_2023_keeps_the_last_row_and_all_digits(read):
    trace = read(FIXTURES / "azure.csv")  # CRLF, no final newline, seven digits, no zone
    assert trace.meta.epoch == datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)
    assert trace.meta.epoch_kind == "assumed"
    assert trace.meta.time_unit == "datetime"
    assert column(trace, "arrival_s") == [0.97996, 1.03196, 1.078149]
    assert column(trace, "input_tokens") == [4808, 3180, 110]
    assert column(trace, "output_tokens") == [10, 8, 27]
    assert column(trace, "service") == ["default"] * 3
    assert column(trace, "request_id") == ["0", "1", "2"]
    assert any("time zone" in note for note in trace.meta.notes)


def test_azure_2024_mixes_fractions_in_one_file(read):
    rows = "2024-05-12 00:00:00+00:00,1,2\r\n2024-05-12 00:00:00.001163+00:00,3,4\r\n2024-05-12T00:00:01Z,5,6\r\n"
    trace = read(AZURE + rows)
    assert column(trace, "arrival_s") == [0.0, 0.001163, 1.0]
    assert trace.meta.epoch_kind == "known"
    assert trace.meta.notes == []


def test_zones_count_and_rows_without_one_are_told(read):
    rows = "2024-05-12 02:00:00+02:00,1,2\r\n2024-05-12 00:00:01,3,4\r\n2024-05-11T20:00:02.5-0400,5,6\r\n"
    trace = read(AZURE + rows)
    assert column(trace, "arrival_s") == [0.0, 1.0, 2.5]
    assert trace.meta.epoch_kind == "assumed"
    assert any(note.startswith("1 of 3 times carry no time zone") for note in trace.meta.notes)


def test_nanoseconds_survive(read):
    trace = read(AZURE + "2024-05-12 00:00:00.000000001Z,1,2\r\n2024-05-12 00:00:00.123456789Z,1,2\r\n")
    assert column(trace, "arrival_s") == [1e-9, 0.123456789]


def test_dates_outside_64_bit_nanoseconds_are_set_aside_and_do_not_wrap(read):
    trace = read(AZURE + "2024-05-12 00:00:00Z,1,2\r\n3000-01-01 00:00:00Z,1,2\r\n0001-01-01 00:00:00Z,1,2\r\n")
    assert trace.meta.rows_set_aside == {"arrival_s not a date": 2}
    assert rejects(trace)[0] == (1, "arrival_s not a date", "3000-01-01 00:00:00Z,1,2")


def test_burstgpt_1_knows_failures_from_zeros(read):
    trace = read(FIXTURES / "burstgpt.csv")
    assert column(trace, "arrival_s") == [5.0, 45.0, 118.0, 185.0]
    assert column(trace, "service") == ["ChatGPT", "ChatGPT", "GPT-4", "ChatGPT"]
    assert column(trace, "status") == ["ok", "failed", "ok", "failed"]
    assert column(trace, "input_tokens") == [472, None, 417, 12]
    assert column(trace, "output_tokens") == [18, None, 276, None]
    assert trace.meta.rows_kept == 4
    assert (trace.meta.epoch, trace.meta.epoch_kind, trace.meta.quantum_s) == (None, "relative", 1.0)
    assert "not read: Total tokens, Log Type" in trace.meta.notes


def test_burstgpt_3_has_its_new_columns_in_the_middle(read):
    trace = read(FIXTURES / "burstgpt_v3.csv")
    assert column(trace, "arrival_s") == [19440110.0, 19454781.0, 19454790.0]
    assert column(trace, "session_id") == ["1722ac82-0a46-4bf0-aa08-89794e7a2b3f", None, None]
    assert column(trace, "e2e_s") == [43.0, 21.0, 0.0]
    assert column(trace, "input_tokens") == [906, 264, 7]


def test_mooncake_pins_its_hashes_to_64_unsigned_bits(read):
    trace = read(FIXTURES / "mooncake.jsonl")
    assert column(trace, "arrival_s") == [0.0, 0.0, 3.001]
    assert column(trace, "block_hashes") == [[0, 1], [18446744073709551615], None]
    assert trace.meta.block_size == 512
    assert trace.meta.time_unit == "ms"
    assert trace.scan().collect_schema()["block_hashes"] == pl.List(pl.UInt64)


@pytest.mark.parametrize(
    ("hashes", "reason"),
    [
        ("[1, 2, 3]", "block_hashes not one per 512 input tokens"),
        ("[]", "block_hashes not one per 512 input tokens"),
        ("[1, -2]", "block_hashes not unsigned 64-bit integers"),
        ("[1, 2.0]", "block_hashes not unsigned 64-bit integers"),
        ("[1, 18446744073709551616]", "block_hashes not unsigned 64-bit integers"),
        ("[1, null]", "block_hashes not unsigned 64-bit integers"),
        ("5", "block_hashes not unsigned 64-bit integers"),
    ],
)
def test_mooncake_hashes_that_do_not_fit_are_set_aside(read, hashes, reason):
    good = '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]}\n'
    bad = f'{{"timestamp": 5, "input_length": 600, "output_length": 1, "hash_ids": {hashes}}}\n'
    trace = read(good + bad)
    assert trace.meta.rows_set_aside == {reason: 1}
    assert rejects(trace) == [(1, reason, bad.strip())]


def test_mooncake_is_not_bailian_whose_timestamp_is_in_seconds(read):
    row = {
        "chat_id": 1,
        "parent_chat_id": -1,
        "timestamp": 61.1,
        "input_length": 5,
        "output_length": 1,
        "hash_ids": [1],
    }
    trace = read(json.dumps(row) + "\n")
    assert (trace.meta.format, column(trace, "arrival_s")) == ("bailian", [61.1])


def test_canonical_needs_three_columns_and_reads_client_as_tenant(read):
    trace = read(FIXTURES / "canonical.csv")
    assert column(trace, "tenant") == ["c-1", "c-2"]
    assert column(trace, "arrival_s") == [0.5, 1.25]
    assert trace.meta.columns == [
        "request_id",
        "arrival_s",
        "service",
        "tenant",
        "input_tokens",
        "output_tokens",
        "status",
        "source_row",
    ]


def test_canonical_parquet_is_cast_and_keeps_its_epoch(read, tmp_path):
    epoch = "2026-11-02T01:00:00+01:00"
    rows = pl.DataFrame(
        {
            "arrival_s": pl.Series([1, 2], dtype=pl.Int32),
            "input_tokens": pl.Series([10.0, 20.0]),
            "output_tokens": pl.Series(["3", "4"]),
            "request_id": [7, 8],
            "tier": pl.Series(["batch", None], dtype=pl.Categorical),
            "block_hashes": pl.Series([[1, 2], None], dtype=pl.List(pl.Int64)),
            "ttft_s": [0.25, float("nan")],
        }
    )
    path = tmp_path / "t.parquet"
    rows.write_parquet(path, metadata={"lmaas.epoch": epoch, "lmaas.block_size": "16"})
    trace = read(path)
    assert trace.meta.epoch == datetime(2026, 11, 2, tzinfo=UTC)
    assert (trace.meta.epoch_kind, trace.meta.block_size) == ("known", 16)
    assert column(trace, "request_id") == ["7", "8"]
    assert column(trace, "tier") == ["batch", None]
    assert column(trace, "block_hashes") == [[1, 2], None]
    assert column(trace, "ttft_s") == [0.25, None]


def test_a_stored_trace_ingested_again_is_the_same_table(read):
    first = read(FIXTURES / "mooncake.jsonl")
    again = read(first.path)
    assert again.meta.format == "canonical"
    assert again.table().equals(first.table())
    assert (again.meta.block_size, again.meta.epoch) == (first.meta.block_size, first.meta.epoch)
    dated = read(FIXTURES / "azure.csv")
    assert read(dated.path).meta.epoch == dated.meta.epoch


@pytest.mark.parametrize(
    ("unit", "texts"),
    [
        ("s", ["1.5", "2"]),
        ("ms", ["1500", "2000"]),
        ("us", ["1500000", "2e6"]),
        ("ns", ["1500000000", "2000000000"]),
        ("datetime", ["1970-01-01T00:00:01.5Z", "1970-01-01 00:00:02"]),
    ],
)
def test_mapped_columns_with_every_unit(read, unit, texts):
    rows = "".join(f"{text};{i};7;m\n" for i, text in enumerate(texts))
    trace = read(
        "when;in;out;service\n" + rows,
        mapping={"arrival_s": "when", "input_tokens": "in", "output_tokens": "out"},
        time_unit=unit,
    )
    assert trace.meta.format == "mapped"
    assert trace.meta.time_unit == unit
    start = 1.0 if unit == "datetime" else 0.0
    assert column(trace, "arrival_s") == [1.5 - start, 2.0 - start]
    assert column(trace, "input_tokens") == [0, 1]
    assert column(trace, "service") == ["m", "m"]


def test_mapped_dates_of_a_parquet_file_need_no_unit(read, tmp_path):
    dates = pl.Series([datetime(2026, 1, 1, 1), datetime(2026, 1, 1)]).dt.replace_time_zone("Europe/Berlin")
    pl.DataFrame({"at": dates, "p": [1, 2], "c": [3, 4]}).write_parquet(tmp_path / "t.parquet")
    mapping = {"arrival_s": "at", "input_tokens": "p", "output_tokens": "c"}
    trace = read(tmp_path / "t.parquet", mapping=mapping)
    assert trace.meta.epoch == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert column(trace, "arrival_s") == [0.0, 3600.0]
    assert column(trace, "input_tokens") == [2, 1]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"mapping": {"input_token": "in"}}, Exit.USAGE, "did you mean 'input_tokens'"),
        ({"mapping": {"nonsense": "in"}}, Exit.USAGE, "there are request_id"),
        ({"time_unit": "minutes"}, Exit.USAGE, "s, ms, us, ns, datetime"),
        ({"mapping": {"arrival_s": "when", "input_tokens": "in", "output_tokens": "out"}}, Exit.USAGE, "--time-unit"),
        ({"mapping": {"arrival_s": "wenn", "input_tokens": "in", "output_tokens": "out"}}, Exit.INPUT, "is when meant"),
        ({"mapping": {"arrival_s": "when"}}, Exit.INPUT, "missing columns input_tokens, output_tokens"),
        ({"format": "azur"}, Exit.USAGE, "did you mean 'azure'"),
        ({"format": "azure"}, Exit.INPUT, "missing columns TIMESTAMP, ContextTokens, GeneratedTokens"),
        ({"format": "mooncake"}, Exit.INPUT, "is csv; format mooncake is jsonl"),
        ({"format": "azure", "mapping": {"input_tokens": "in"}}, Exit.USAGE, "leave out --format"),
        ({}, Exit.INPUT, "--map arrival_s=when --map input_tokens=in --map output_tokens=out --time-unit"),
    ],
)
def test_options_that_cannot_work_say_what_would(read, options, code, words):
    with pytest.raises(UserError, match=words.replace("|", r"\|")) as caught:
        read("when,in,out\n1,2,3\n", **options)
    assert caught.value.code == code


def test_a_format_keeps_its_time_unit(tmp_path):
    with pytest.raises(UserError, match="has its times in datetime, not ms"):
        recognise(Source.open(FIXTURES / "azure.csv"), None, {}, "ms")


def test_numbers_never_tell_the_format_or_the_unit(read):
    """The same rows times a million are the same format in the same unit."""
    small = read("arrival_s,input_tokens,output_tokens\n1,2,3\n2,2,3\n")
    large = read("arrival_s,input_tokens,output_tokens\n1000000,2,3\n2000000,2,3\n")
    assert column(large, "arrival_s") == [1e6 * t for t in column(small, "arrival_s")]


@pytest.mark.parametrize("pack", [gzip.compress, lambda b: pa.compress(b, codec="zstd", asbytes=True)])
@pytest.mark.parametrize("name", ["azure.csv", "mooncake.jsonl"])
def test_packed_text_is_read_as_it_is(read, pack, name):
    content = (FIXTURES / name).read_bytes()
    assert read(pack(content), "packed").table().equals(read(FIXTURES / name).table())


def test_a_byte_order_mark_a_tab_and_quotes_are_no_trouble(read):
    trace = read('\ufeffarrival_s\t"input_tokens"\toutput_tokens\tservice\n1\t2\t"3"\t"a\tb ""c"""\n')
    assert trace.table("input_tokens", "output_tokens", "service").rows() == [(2, 3, 'a\tb "c"')]


def iso_dates():
    zones = st.sampled_from(["", "Z", "+00:00", "+0530", "-08", "+23:59", "-12:30", " UTC", " +01:00"])
    fractions = st.text("0123456789", max_size=9).map(lambda digits: f".{digits}" if digits else "")
    moments = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)).map(lambda d: d.replace(microsecond=0))
    parts = st.tuples(moments, st.sampled_from(" T"), fractions, zones)
    return parts.map(lambda p: p[0].isoformat(p[1]) + p[2] + p[3])


@given(st.lists(iso_dates() | st.sampled_from(["", "2024-02-30 00:00:00", "x", "24-1-1", "2024-01-01 25:00:00Z"])))
def test_a_date_means_the_same_whatever_its_neighbours(texts):
    together = (
        pl.DataFrame({"t": texts}, schema={"t": pl.String}).select(times.parse(pl.col("t"))).to_series().to_list()
    )
    alone = [pl.DataFrame({"t": [t]}).select(times.parse(pl.col("t"))).to_series().to_list()[0] for t in texts]
    assert together == alone


@given(iso_dates())
def test_dates_agree_with_the_standard_library(text):
    digits = text.replace(" UTC", "Z").replace(" +", "+")
    head, _, tail = digits.partition(".")
    fraction = "".join(c for c in tail[:9] if c.isdigit()) if tail else ""
    fraction = tail[: next((i for i, c in enumerate(tail) if not c.isdigit()), len(tail))] if tail else ""
    moment = datetime.fromisoformat(head + tail[len(fraction) :])
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    whole = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    expected = whole * 10**9 + int(fraction.ljust(9, "0") or 0)
    got = pl.DataFrame({"t": [text]}).select(times.parse(pl.col("t"))).to_series().to_list()[0]
    assert got["ns"] == expected
    assert got["naive"] == (not any(mark in digits[10:] for mark in "Z+-"))


def test_the_docs_name_every_format_and_every_column():
    docs = Path(__file__).parent.parent / "docs"
    formats, table = (docs / "formats.md").read_text(), (docs / "trace-table.md").read_text()
    assert all(f"| `{name}` |" in formats and f"\n## {name}\n" in formats for name in FORMATS)
    assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == list(SCHEMA)
