"""Several files as one trace: one clock, columns that differ, every row still told back to its file."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from trace_data import accounted

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.base import Reading
from lmaas.analysis.formats.merged import merge
from lmaas.analysis.formats.source import Source
from lmaas.analysis.ingest import ingest, open_trace
from lmaas.analysis.ingest_write import write_rows
from lmaas.analysis.sources import common_name
from lmaas.analysis.workspace import Workspace

FIXTURES = Path(__file__).parent / "fixtures"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
CANONICAL = "arrival_s,input_tokens,output_tokens\n"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def read(tmp_path, said):
    """Write files (name -> content) into a folder and ingest what is named there."""

    def _read(files: dict[str, str | bytes], *named: str, **options):
        for name, content in files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        sources = [str(tmp_path / "in" / name) for name in named or files]
        return ingest(sources, Workspace.open(tmp_path / "home"), say=said.append, **options)

    return _read


def files_of(trace) -> list[tuple]:
    return pl.read_parquet(trace.path.with_name("files.parquet")).rows()


def test_dates_of_several_files_share_one_epoch_and_ties_keep_the_order_of_the_files(read):
    code = AZURE + "2024-05-12 00:00:05Z,1,1\n2024-05-12 00:00:10Z,2,1\n"
    conv = AZURE + "2024-05-12 00:00:03Z,3,1\n2024-05-12 00:00:05Z,4,1\n"
    trace = read({"code.csv": code, "conv.csv": conv})
    assert trace.meta.epoch == datetime(2024, 5, 12, 0, 0, 3, tzinfo=UTC)
    assert trace.table("arrival_s", "input_tokens").rows() == [(0.0, 3), (2.0, 1), (2.0, 4), (7.0, 2)]
    assert trace.table("source_row", "request_id").rows() == [(2, "2"), (0, "0"), (3, "3"), (1, "1")]
    assert files_of(trace) == [("code.csv", 0, 2), ("conv.csv", 2, 2)]
    assert trace.meta.notes[0] == "from 2 files, rows numbered through them: code.csv (2 rows), conv.csv (2 rows)"
    assert accounted(trace) == 4


def test_a_column_that_one_file_lacks_is_null_there(read):
    old, new = (FIXTURES / "burstgpt.csv").read_bytes(), (FIXTURES / "burstgpt_v3.csv").read_bytes()
    trace = read({"v1.csv": old, "v3.csv": new})
    rows = trace.table("input_tokens", "status", "session_id", "e2e_s").rows()
    assert rows == [
        (472, "ok", None, None),
        (None, "failed", None, None),
        (417, "ok", None, None),
        (12, "failed", None, None),
        (906, "ok", "1722ac82-0a46-4bf0-aa08-89794e7a2b3f", 43.0),
        (264, "ok", None, 21.0),
        (7, "ok", None, 0.0),
    ]
    assert "times are relative: each of the 2 files counts from a zero of its own" in trace.meta.notes
    assert accounted(trace) == 7


def test_rejects_name_their_file_and_keep_their_text(read):
    bad = {"a.csv": CANONICAL + "0,1,1\n1,x,1\n", "b/a.csv": CANONICAL + "0,1,1\n3\n2,1,-1\n"}
    trace = read(bad)
    kept = pl.read_parquet(trace.path.with_name("rejects.parquet")).sort("source_row")
    assert kept.columns == ["source_row", "file", "reason", "text"]
    assert kept.rows() == [
        (1, "a.csv", "input_tokens not a number", "1,x,1"),
        (3, "b/a.csv", "input_tokens missing", "3"),
        (4, "b/a.csv", "output_tokens negative", "2,1,-1"),
    ]
    assert accounted(trace) == 5


def test_a_line_that_cannot_be_taken_apart_does_not_cost_the_other_files(read):
    trace = read({"a.csv": CANONICAL + '0,1,1\n"1,2\n', "b.csv": CANONICAL + "5,7,1\n"})
    assert trace.meta.rows_set_aside == {"malformed line": 1}
    assert trace.table("input_tokens")["input_tokens"].to_list() == [1, 7]
    assert accounted(trace) == 3


def test_files_may_be_packed_each_in_its_own_way(read):
    line = '{"timestamp": %d, "input_length": 1, "output_length": 1, "hash_ids": [%d]}\n'
    trace = read({"a.jsonl": line % (0, 2**64 - 1), "b.jsonl.gz": gzip.compress((line % (9, 7)).encode())})
    assert trace.table("block_hashes")["block_hashes"].to_list() == [[2**64 - 1], [7]]
    assert trace.meta.block_size == 512


def test_an_empty_file_among_others_has_no_rows(read):
    trace = read({"a.csv": CANONICAL, "b.csv": CANONICAL + "5,7,1\n"})
    assert files_of(trace) == [("a.csv", 0, 0), ("b.csv", 0, 1)]


def test_parquet_types_that_differ_meet_in_one_that_holds_both(read, tmp_path):
    (tmp_path / "in").mkdir()
    small = pl.DataFrame({"arrival_s": [1], "input_tokens": [3], "output_tokens": [1]})
    small.with_columns(pl.all().cast(pl.Int16)).write_parquet(tmp_path / "in" / "a.parquet")
    large = small.with_columns(arrival_s=0.5, input_tokens=pl.lit(2**31), tenant=pl.lit("t"))
    large.write_parquet(tmp_path / "in" / "b.parquet")
    trace = read({}, "a.parquet", "b.parquet")
    assert trace.table("arrival_s", "input_tokens", "tenant").rows() == [(0.5, 2**31, "t"), (1.0, 3, None)]


def test_the_service_may_be_the_file_where_the_format_has_none(read):
    azure = {"code.csv": AZURE + "2024-05-12 00:00:00Z,1,1\n", "conv.csv": AZURE + "2024-05-12 00:00:01Z,2,1\n"}
    assert read(azure, service_per_file=True).table("service")["service"].to_list() == ["code", "conv"]
    assert read(azure).table("service")["service"].to_list() == ["default", "default"]
    assert read(azure, "code.csv", service_per_file=True).table("service")["service"].to_list() == ["code"]
    own = {"a.csv": "service," + CANONICAL + "m,0,1,1\n", "b.csv": CANONICAL + "1,1,1\n"}
    assert read(own, service_per_file=True).table("service")["service"].to_list() == ["m", "b"]


def test_folders_and_patterns_pass_over_hidden_files_and_say_so(read, said, tmp_path):
    rows = {"day1/a.csv": CANONICAL + "0,1,1\n", "day2/a.csv": CANONICAL + "1,2,1\n", "day2/._a.csv": b"\x00\x05\x16"}
    trace = read(rows, "")
    assert trace.meta.name == "in"
    assert [name for name, _, _ in files_of(trace)] == ["day1/a.csv", "day2/a.csv"]
    assert any("1 hidden passed over" in line and "._a.csv" in line for line in said)
    same = read({}, "day*/*.csv")
    assert same.meta.trace_id == trace.meta.trace_id
    opened = open_trace(str(tmp_path / "in" / "day?" / "a.csv"), Workspace.open(tmp_path / "home"), say=said.append)
    assert opened.meta.trace_id == trace.meta.trace_id


def test_a_file_named_twice_is_read_once(read, said):
    trace = read({"a.csv": CANONICAL + "0,1,1\n"}, "a.csv", "*.csv")
    assert trace.meta.rows_read == 1
    assert any("each file is read once" in line for line in said)


def test_the_id_is_of_all_content_in_order(read):
    one, two = CANONICAL + "0,1,1\n", CANONICAL + "0,2,1\n"
    ids = {
        read({"a.csv": a, "b.csv": b}, *names).meta.trace_id
        for a, b in ((one, two), (two, one))
        for names in (("a.csv",), ("a.csv", "b.csv"))
    }
    assert len(ids) == 4
    assert read({"c.csv": two, "d.csv": one}).meta.trace_id in ids


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"a.csv": AZURE + "2024-05-12 00:00:00Z,1,1\n", "b.csv": CANONICAL + "0,1,1\n"},
            r"different formats make no one trace \(azure: a.csv; canonical: b.csv\)",
        ),
        (
            {"a.csv": CANONICAL + "0,1,1\n", "b.jsonl": '{"arrival_s": 0, "input_tokens": 1, "output_tokens": 1}\n'},
            r"different kinds of file make no one trace \(csv: a.csv; jsonl: b.jsonl\)",
        ),
        (
            {"a.csv": CANONICAL + "0,1,1\n", "README.md": "# a\n"},
            r"README.md: in no format of traces.*a.csv is canonical.*2 files, none",
        ),
        (
            {"a.csv": CANONICAL + "0,1,1\n", "b.csv.gz": gzip.compress(CANONICAL.encode() * 9)[:-9]},
            "b.csv.gz: cannot be",
        ),
        ({"a.csv": CANONICAL, "b.csv": CANONICAL}, "a.csv and 1 more file: has a header and no rows"),
    ],
)
def test_files_that_make_no_one_trace_are_refused_by_name(read, files, words):
    with pytest.raises(UserError, match=words) as caught:
        read(files)
    assert caught.value.code == Exit.INPUT


def test_nothing_to_read_is_an_input_error(read):
    for named, words in (("none*.csv", "no file"), ("", "no file that could be a trace"), ("x.csv", "no such file")):
        with pytest.raises(UserError, match=words):
            read({".hidden": "x"}, named)


def test_many_files_are_one_trace(read):
    """More than a system usually lets one process hold open."""
    parts = {f"{k:04}.csv": CANONICAL + f"{k},{k},1\n" for k in range(1100)}
    trace = read(parts, "")
    assert trace.table("input_tokens", "source_row").rows() == [(k, k) for k in range(1100)]


def test_the_real_azure_hour_merges_to_both_services(shared, tmp_path):
    folder = shared / "traces" / "azure-llm-2023"
    if not folder.is_dir():
        pytest.skip("no Azure trace beside the checkout")
    trace = ingest(str(folder / "*.csv"), Workspace.open(tmp_path), service_per_file=True, say=lambda _: None)
    assert accounted(trace) == 8819 + 19366
    counted = dict(trace.table("service")["service"].cast(pl.String).value_counts().rows())
    assert sorted(counted.values()) == [8819, 19366]


def test_columns_of_other_names_are_read_as_each_file_has_them(tmp_path):
    """Two variants of one format: its readings differ, its rows do not."""
    paths = [tmp_path / "old.csv", tmp_path / "new.csv"]
    paths[0].write_text("at,n,m,state\n1,2,3,bad\n")
    paths[1].write_text("when,n,out\n0,5,6\n")
    status = pl.when(pl.col("state") == "bad").then(pl.lit("failed")).otherwise(pl.lit("incomplete"))
    readings = [
        Reading("at", "s", {"input_tokens": "n", "output_tokens": "m", "status": status}),
        Reading("when", "s", {"input_tokens": "n", "output_tokens": pl.col("out")}),
    ]
    found = [("f", Source.open(path), reading) for path, reading in zip(paths, readings, strict=True)]
    _, source, reading = merge(found, service_per_file=False)
    write_rows(source, reading, tmp_path)
    rows = pl.read_parquet(tmp_path / "trace.parquet").select("arrival_s", "input_tokens", "output_tokens", "status")
    assert rows.rows() == [(0.0, 5, 6, "ok"), (1.0, 2, 3, "failed")]


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (("Trace_code.csv", "Trace_conv.csv"), "Trace"),
        (("log-2026-01.csv.gz", "log-2026-02.csv.gz"), "log-2026"),
        (("trace_0021.json", "trace_0032.json"), "trace"),
        (("log.csv", "log.csv.1"), "log"),
        (("a.csv", "b.csv"), "home"),
    ],
)
def test_the_name_is_what_the_names_share(names, called):
    paths = [Path("/home") / name for name in names]
    assert common_name(paths, paths) == called
