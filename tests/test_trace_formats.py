"""Published trace files beside the first four: what becomes of their columns, on hand-written rows."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from trace_data import accounted, rejects

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats import FORMATS
from lmaas.analysis.formats.source import Source

FIXTURES = Path(__file__).parent / "fixtures"
PACKED = {"aibrix", "azure_lmm", "bailian", "mooncake_sessions", "sageserve", "splitwise", "vidur", "weka"}


def values(trace, name):
    return trace.table(name)[name].to_list()


def test_each_fixture_is_claimed_by_one_format():
    for path in FIXTURES.iterdir():
        if path.stem in PACKED:
            source, formats = Source.open(path), [FORMATS.load(name) for name in FORMATS]
            claimed = [known.name for known in formats if source.kind in known.kinds and known().recognises(source)]
            assert len(claimed) == 1, path.name


def test_azure_lmm_has_a_column_of_images_in_the_middle(read):
    trace = read(FIXTURES / "azure_lmm.csv")
    assert (trace.meta.format, trace.meta.epoch) == ("azure", datetime(2024, 10, 15, 12, tzinfo=UTC))
    assert values(trace, "arrival_s") == [0.269, 0.5, 3.0]
    assert values(trace, "input_tokens") == [770, 2114, 1301]
    assert values(trace, "output_tokens") == [491, 87, 0]
    assert accounted(trace) == 4
    assert rejects(trace) == [(3, "input_tokens missing", "2024-10-15T12:00:03.004Z,1,,12")]
    assert [note.split(":")[0] for note in trace.meta.notes] == ["NumImages is not kept", "not read"]


def test_mooncake_turns_arrive_a_delay_after_the_turn_before(read):
    trace = read(FIXTURES / "mooncake_sessions.jsonl")
    rows = trace.table("session_id", "turn", "arrival_s", "think_s", "input_tokens", "source_row").sort("source_row")
    assert rows.rows() == [
        ("a", 1, 0.0, None, 600, 0),
        ("b", 1, 0.2505, None, 100, 1),
        ("a", 2, 0.3, 0.3, 1100, 2),
        ("a", 3, 2.0005, 1.7005, 1200, 4),
        (None, None, 0.9, None, 10, 5),
        ("b", 3, 3.2505, 1.0, 160, 6),
        ("a", 4, 9.0, 0.04, 1300, 8),
        ("a", 5, 9.5, 0.5, 1400, 9),
    ]
    assert values(trace, "priority") == [None, 2.0, *[None] * 6]
    assert trace.meta.rows_set_aside == {"arrival_s missing": 1, "input_tokens missing": 1}
    assert accounted(trace) == 10
    assert any(note.startswith("turns with a delay and no timestamp arrive here") for note in trace.meta.notes)


def test_mooncake_without_hashes_or_with_a_time_that_is_none(read):
    row = '{"session_id": "s", "timestamp": %s, "delay": %s, "input_length": 5, "output_length": 1}\n'
    trace = read("".join(row % pair for pair in [("0", "null"), ('"x"', "3"), ("null", '"y"'), ("null", "70")]))
    assert values(trace, "arrival_s") == [0.0, 0.073]
    assert trace.meta.rows_set_aside == {"arrival_s missing": 1, "arrival_s not a number": 1}


def test_a_time_and_two_lengths_alone_are_not_taken_for_milliseconds(read):
    row = '{"timestamp": 1700000000, "input_length": 5, "output_length": 1}\n'
    with pytest.raises(UserError, match="say --format mooncake if it is that, or name its columns"):
        read(row)
    assert values(read(row, format="mooncake"), "arrival_s") == [1_700_000.0]


def test_mooncake_of_prompts_alone_is_refused(read):
    with pytest.raises(UserError, match="no token counts"):
        read('{"timestamp": 0, "text_input": "hello", "output_length": 20}\n')


def test_dynamos_copy_of_mooncake(shared, read):
    trace = read(shared / "traces" / "dynamo" / "mooncake_trace_1000.jsonl")
    assert (trace.meta.format, trace.meta.rows_kept, trace.meta.rows_set_aside) == ("mooncake", 1000, {})
    assert (trace.table("input_tokens").sum().item(), round(trace.meta.span_s, 1)) == (9_792_030, 177.1)


def test_aibrix_has_the_requests_of_an_instant_on_a_line(read):
    trace = read(FIXTURES / "aibrix.jsonl")
    rows = trace.table("arrival_s", "session_id", "input_tokens", "output_tokens", "source_row").rows()
    assert rows == [(0.0, "0", 101, 7, 0), (1.019, None, 909, 22, 3)]
    assert trace.meta.rows_set_aside == {
        "instant without requests": 1,
        "malformed record": 1,
        "output_tokens missing": 1,
    }
    assert accounted(trace) == 5
    assert (trace.meta.format, trace.meta.time_unit) == ("aibrix", "ms")


def test_bailian_chats_are_sessions_by_their_first_turn(read):
    trace = read(FIXTURES / "bailian.jsonl")
    rows = trace.table("request_id", "session_id", "parent_id", "turn", "arrival_s", "input_tokens", "output_tokens")
    assert rows.rows() == [
        ("7", "7", None, 1, 0.5, 40, 9),
        ("8", "7", "7", 2, 4.0, 48, 2),
        ("9", "7", "8", 3, 9.25, 60, 4),
        ("159", "159", "55", 2, 61.114, 21, 132),  # its parent is not in the file
    ]
    assert values(trace, "block_hashes")[0] == [3, 4, 5]
    assert (trace.meta.block_size, trace.meta.time_unit) == (16, "s")
    assert trace.meta.rows_set_aside == {"output_tokens negative": 1}
    assert accounted(trace) == 5
    assert "not read: type" in trace.meta.notes


def test_bailian_chats_that_follow_each_other_in_a_circle_and_lines_that_are_none(read):
    row = '{"chat_id": %s, "parent_chat_id": %s, "timestamp": %d, "input_length": 5, "output_length": 1}\n'
    chats = [("1", "2"), ("2", "1"), ('"x"', '"x"'), ("null", "3"), ("3", "null"), ("4", "3"), ("4", "1")]
    trace = read("".join(row % (*pair, at) for at, pair in enumerate(chats)) + "{broken\n")
    assert values(trace, "session_id")[2:] == ["x", None, "3", "3", "3"]
    assert trace.meta.rows_set_aside == {"malformed line": 1}
    assert accounted(trace) == 8


def test_a_long_bailian_chat_is_one_session(read):
    row = '{"chat_id": %d, "parent_chat_id": %d, "timestamp": %d, "input_length": 5, "output_length": 1}'
    trace = read("\n".join(row % (n, n - 1, n) for n in range(1000)))
    assert set(values(trace, "session_id")) == {"0"}


def test_splitwise_applications_are_services(read):
    trace = read(FIXTURES / "splitwise.csv")
    rows = trace.table("request_id", "service", "arrival_s", "input_tokens", "output_tokens").rows()
    assert rows == [("2", "1", 0.25, 33, 700), ("0", "0", 1.0, 4096, 32), ("1", "0", 1.4375, 512, 1)]
    assert (trace.meta.format, trace.meta.rows_set_aside) == ("splitwise", {"arrival_s missing": 1})
    assert accounted(trace) == 4
    assert "not read: request_type, batch_size" in trace.meta.notes


def test_sageserve_regions_are_text_and_no_deadline_is_none(read):
    trace = read(FIXTURES / "sageserve.csv")
    assert trace.table("request_id", "service", "region", "tenant", "tier", "deadline_s", "priority").rows() == [
        ("0", "A", "012", "2", "interactive-fast", 10.0, 3.0),
        ("1", "B", "201", "0", "interactive-normal", 3600.0, 2.0),
        ("2", "A", "210", "1", "batch", 86400.0, 1.0),
        ("2", "A", "210", "1", "batch", 86400.0, 1.0),
        ("3", "D", "021", "1", None, None, 0.0),
    ]
    assert values(trace, "input_tokens") == [700, 90, 11, 13, 15]
    assert values(trace, "output_tokens") == [20, 400, 12, 14, 16]
    assert (trace.meta.format, trace.meta.rows_set_aside) == ("sageserve", {"deadline_s not a number": 1})
    assert accounted(trace) == 6


def test_vidur_counts_seconds(read):
    trace = read(FIXTURES / "vidur.csv")
    assert trace.table("arrival_s", "input_tokens", "output_tokens").rows() == [(0.0, 396, 109), (4.314579, 879, 55)]
    assert (trace.meta.format, trace.meta.rows_set_aside) == ("vidur", {"input_tokens not whole": 1})
    assert accounted(trace) == 3


def test_vidurs_lengths_alone_are_refused_with_what_they_lack(read):
    with pytest.raises(UserError, match=r"not when they come.*add a column arrived_at") as refused:
        read("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n396,109,505,3.63\n")
    assert refused.value.code == Exit.INPUT


def test_baseten_hashes_are_the_same_bits_and_prompts_are_not_kept(read):
    trace = read(FIXTURES / "baseten.parquet")
    assert values(trace, "block_hashes") == [[10, 2**64 - 2], [10, 2**64 - 2, 12], [7]]
    assert trace.table("session_id", "service", "tenant", "cached_tokens", "status").rows() == [
        ("A", "m", "o1", 0, "ok"),
        ("A", "m", "o1", 128, "ok"),
        ("2", "n", "o2", None, "cancelled"),
    ]
    latencies = trace.table("arrival_s", "ttft_s", "e2e_s").rows()
    assert latencies == [(0.25, 0.12, 0.8), (1.0, 0.11025, 0.7005), (2.5, None, None)]
    assert (trace.meta.format, trace.meta.block_size, trace.meta.epoch_kind) == ("baseten", 64, "known")
    assert trace.meta.rows_set_aside == {"output_tokens negative": 1} and accounted(trace) == 4
    assert b"secret" not in b"".join(path.read_bytes() for path in trace.path.parent.iterdir())


def test_baseten_blocks_of_two_sizes_are_told_and_not_read(read, tmp_path):
    rows = pl.read_parquet(FIXTURES / "baseten.parquet").with_columns(block_size=pl.Series([16, 16, 64, None]))
    rows.select("timestamp_start_unix_ms", "input_tokens", "output_tokens", "total_hashes", "block_size").write_parquet(
        tmp_path / "two.parquet"
    )
    trace = read(tmp_path / "two.parquet")
    assert values(trace, "block_hashes") == [None] * 3 and trace.meta.block_size is None
    assert trace.meta.notes[0] == "hashes of blocks of 2 sizes are not read"


@pytest.mark.parametrize(
    "name",
    sorted(
        path.name for kind in ("csv", "json", "jsonl") for path in FIXTURES.glob(f"*.{kind}") if path.stem in PACKED
    ),
)
def test_packed_they_are_the_same(read, name):
    plain = read(FIXTURES / name)
    packed = read(gzip.compress((FIXTURES / name).read_bytes()), "packed")
    assert packed.table().equals(plain.table()) and packed.meta.rows_set_aside == plain.meta.rows_set_aside
