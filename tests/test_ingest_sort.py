"""A stored trace in order of arrival: the same however many passes its lists take, in row groups that memory holds."""

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from lmaas.analysis import ingest_sort
from lmaas.analysis.ingest import ingest
from lmaas.analysis.workspace import Workspace


def written(path, rows, seed=5):
    """Rows in no order, many at equal times, with lists of hashes (some empty, some missing)."""
    rng = np.random.default_rng(seed)
    lists = [None if n == 0 else list(map(int, rng.integers(0, 2**63, n - 1))) for n in rng.integers(0, 9, rows)]
    frame = pl.DataFrame(
        {"arrival_s": rng.integers(0, rows // 4, rows) / 8, "number": np.arange(rows), "block_hashes": lists},
        schema_overrides={"block_hashes": pl.List(pl.UInt64)},
    )
    frame.write_parquet(path, row_group_size=64)
    return frame


@pytest.mark.parametrize("at_once", [1, 100, 1000, 10**9])
def test_every_number_of_passes_gives_the_stable_order(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(ingest_sort, "AT_ONCE", at_once)
    rows = written(tmp_path / "trace.parquet", 700)
    later = (pl.col("arrival_s") + 3).alias("arrival_s")
    ingest_sort.sort_rows(tmp_path / "trace.parquet", later, row_group_size=50, metadata={"lmaas.epoch": "kept"})
    wanted = rows.with_columns(later).sort("arrival_s", maintain_order=True)
    assert pl.read_parquet(tmp_path / "trace.parquet").equals(wanted)
    stored = pq.read_metadata(tmp_path / "trace.parquet")
    assert stored.metadata[b"lmaas.epoch"] == b"kept" and stored.row_group(0).num_rows <= 64
    assert [path.name for path in tmp_path.iterdir()] == ["trace.parquet"]


def test_passes_are_counted_by_hashes_and_cut_where_times_differ(tmp_path, monkeypatch):
    rows = written(tmp_path / "trace.parquet", 700)
    hashes = int(rows["block_hashes"].list.len().sum())
    monkeypatch.setattr(ingest_sort, "AT_ONCE", -(-hashes // 4))
    found = ingest_sort._hashes(tmp_path / "trace.parquet")
    assert hashes <= found <= hashes + rows.height  # an empty or missing list has an entry, too
    assert len(ingest_sort._cuts(rows.lazy(), hashes)) == 3
    assert len(ingest_sort._cuts(rows.with_columns(arrival_s=pl.lit(1.0)).lazy(), hashes)) == 0
    assert len(ingest_sort._cuts(rows.lazy(), 1)) == 0


def test_long_lists_make_short_row_groups(tmp_path):
    assert ingest_sort.group_rows(0.0) == ingest_sort.ROW_GROUP
    assert ingest_sort.group_rows(2048.0) == ingest_sort.HASHES // 2048
    assert ingest_sort.group_rows(1e12) == 1024
    ids = ", ".join(map(str, range(3000)))
    line = f'{{"timestamp": 0, "input_length": 1536000, "output_length": 1, "hash_ids": [{ids}]}}\n'
    (tmp_path / "long.jsonl").write_text(line * 3000)
    trace = ingest(tmp_path / "long.jsonl", Workspace(tmp_path / "ws"))
    groups = pq.read_metadata(trace.path)
    assert groups.num_row_groups >= 2
    assert groups.row_group(0).num_rows <= 2 * ingest_sort.HASHES // 3000
