"""Folders with more than traces in them, and files that count from different epochs."""

from datetime import UTC, datetime

import polars as pl
import pytest
from trace_data import accounted

from lmaas.analysis.errors import UserError
from lmaas.analysis.ingest import ingest, open_trace
from lmaas.analysis.workspace import Workspace

LINE = '{"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": [1]}\n'
CANONICAL = "arrival_s,input_tokens,output_tokens\n"


def put(folder, **files):
    """Files by name, `__` for the point."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def store(paths, tmp_path, said=lambda _: None, **options):
    return ingest(paths, Workspace.open(tmp_path / "home"), say=said, **options)


def test_prose_in_a_folder_is_passed_over_and_said_so(tmp_path):
    prose = {"README__md": "# a\n", "LICENSE": "MIT\n", "SHA256SUMS__txt": "ab  a.jsonl\n", "paper__pdf": "%PDF"}
    folder, said = put(tmp_path / ("long" * 20), a__jsonl=LINE, _b__jsonl=LINE, __hidden="x", **prose), []
    assert accounted(store(folder, tmp_path, said.append)) == 2
    assert any("4 of text beside the traces passed over" in line and "LICENSE" in line for line in said)
    assert any("1 hidden passed over" in line for line in said)
    assert open_trace(str(folder), Workspace.open(tmp_path / "home"), say=said.append).meta.rows_read == 2


def test_prose_that_is_named_is_read(tmp_path):
    put(tmp_path / "in", README__md=CANONICAL + "0,1,1\n")
    assert store(tmp_path / "in" / "README.md", tmp_path).meta.rows_kept == 1
    assert store(tmp_path / "in" / "*.md", tmp_path).meta.rows_kept == 1
    with pytest.raises(UserError, match="no file that could be a trace"):
        store(tmp_path / "in", tmp_path)


@pytest.mark.parametrize("name", ["meta.json", "manifest.json", "A.json"])
@pytest.mark.parametrize("content", ['{"name": "x", "model": "m"}', '{"files": ["a.jsonl"], "created": "2026-01-01"}'])
def test_what_is_no_trace_is_named_with_what_the_others_are(tmp_path, name, content):
    folder = put(tmp_path / "in", a__jsonl=LINE, b__jsonl=LINE, **{name.replace(".", "__"): content})
    with pytest.raises(UserError) as caught:
        store(folder, tmp_path)
    told = str(caught.value)
    assert told == (
        f"{name}: in no format of traces, nor has it columns of any (a.jsonl and others are mooncake). "
        "Of 3 files, none is ingested; name those that are meant, by a pattern: '*.jsonl'"
    )
    assert store(folder / "*.jsonl", tmp_path).meta.rows_kept == 2


def test_what_could_have_been_a_trace_keeps_what_is_wrong_with_it(tmp_path):
    folder = put(tmp_path / "in", a__csv=CANONICAL + "0,1,1\n", b__csv="arrival_s,input_tokens\n0,1\n", c__csv="")
    with pytest.raises(UserError, match=r"b.csv: missing column output_tokens.*3 files, .* or move it elsewhere"):
        store(folder, tmp_path)
    with pytest.raises(UserError, match=r"c.csv: is empty.* 2 files, none is ingested"):
        store([folder / "a.csv", folder / "c.csv"], tmp_path)


def test_a_lone_stranger_is_not_held_against_a_format_that_shares_a_common_key(tmp_path):
    folder = put(tmp_path / "in", meta__json='{"model": "m", "files": 3}')
    with pytest.raises(UserError, match=r"missing columns arrival_s, input_tokens, output_tokens"):
        store(folder / "meta.json", tmp_path)


# --- epochs


def stated(path, epoch, arrivals, dtype=pl.Float64):
    rows = pl.DataFrame({"arrival_s": pl.Series(arrivals, dtype=dtype), "input_tokens": 3, "output_tokens": 1})
    rows.write_parquet(path, metadata={"lmaas.epoch": epoch} if epoch else None)
    return path


def test_files_with_epochs_of_their_own_move_to_the_earliest_exactly(tmp_path):
    late = stated(tmp_path / "1.parquet", "2026-01-02T00:00:00.000001+00:00", [0.1, 0.3, 86_400.7])
    early = stated(tmp_path / "2.parquet", "2026-01-01T00:00:00+00:00", [0.1, 5e-7, 172_800.5])
    trace = store([late, early], tmp_path)
    assert trace.meta.epoch == datetime(2026, 1, 1, tzinfo=UTC)
    assert trace.meta.epoch_kind == "known"
    moved = [5e-7, 0.1, 86_400.100001, 86_400.300001, 172_800.5, 172_800.700001]  # as decimals, not as sums of doubles
    assert trace.table("arrival_s")["arrival_s"].to_list() == moved
    assert any("moved to the earliest, 2026-01-01 00:00:00 UTC" in note for note in trace.meta.notes)
    assert accounted(trace) == 6


def test_traces_that_lmaas_has_stored_merge_to_what_their_sources_make(tmp_path):
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    put(tmp_path / "in", a__csv=azure + "2026-03-01 10:00:00.1000000,5,1\n2026-03-01 10:00:00.3333333,6,1\n")
    put(tmp_path / "in", b__csv=azure + "2026-03-01 09:59:58.7000001,7,1\n2026-03-02 09:00:01.2000000,8,1\n")
    whole = store(tmp_path / "in", tmp_path)
    parts = [store(tmp_path / "in" / name, tmp_path).path for name in ("a.csv", "b.csv")]
    again = store(parts, tmp_path)
    assert again.meta.epoch == whole.meta.epoch
    columns = ("arrival_s", "input_tokens", "output_tokens")
    assert again.table(*columns).equals(whole.table(*columns))


def test_bad_times_are_set_aside_as_in_one_file_whatever_the_epoch(tmp_path):
    bad = [-1.0, float("nan"), float("inf"), None, 9.1e9, 9e9, 4.0]
    late = stated(tmp_path / "1.parquet", "2046-01-02T00:00:00+00:00", bad)
    words = stated(tmp_path / "2.parquet", "2026-01-02T00:00:00+00:00", ["x", "5", "-3"], pl.String)
    trace = store([words, late], tmp_path, mapping=None)
    assert trace.table("arrival_s")["arrival_s"].to_list() == [5.0, 20 * 365.25 * 86_400 + 4.0]
    assert trace.meta.rows_set_aside == {
        "arrival_s missing": 2, "arrival_s negative": 2, "arrival_s too large": 2,
        "arrival_s not a number": 1, "arrival_s not finite": 1,
    }  # fmt: skip


def test_an_epoch_beside_none_or_too_far_from_others_is_refused(tmp_path):
    day = stated(tmp_path / "1.parquet", "2026-01-01T00:00:00+00:00", [1.0])
    none = stated(tmp_path / "2.parquet", None, [1.0])
    with pytest.raises(UserError, match=r"2.parquet: times in s from an unknown start, but 1.parquet in s since 2026-"):
        store([day, none], tmp_path)
    with pytest.raises(UserError, match="too far apart for one trace"):
        store([day, stated(tmp_path / "3.parquet", "9026-01-01T00:00:00+00:00", [1.0])], tmp_path)
