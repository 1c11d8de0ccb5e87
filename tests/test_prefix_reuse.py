"""Prefix reuse: every number against caches played one request at a time, samples against the whole, published ones."""

from collections import OrderedDict

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_data import storer, table

from lmaas.analysis import analyze
from lmaas.analysis.workload import prefix as module
from lmaas.analysis.workload.prefix import prefix
from lmaas.analysis.workload.prefix_tables import COLUMNS, KEPT_S
from lmaas.analysis.workload.tables import OTHERS, TOP
from lmaas.reports.analyze import reuse
from lmaas.reports.format import share

H = 4  # tokens a block
SIZES = (3, 4, 11, 12, 24, 60, 400)  # tokens of caches


class Cache:
    """Whole blocks of prompts, the least recently used going first, of a prompt the deepest; or kept for a time."""

    def __init__(self, blocks=10**9, kept_s=np.inf):
        self.blocks, self.kept_s, self.held = blocks, kept_s, OrderedDict()

    def play(self, at, hashes, tokens):
        """Prompt tokens found; the prompt's blocks are there from now on."""
        prefixes = [tuple(hashes[: k + 1]) for k in range(min(len(hashes), tokens // H))]
        self.held = OrderedDict((p, t) for p, t in self.held.items() if at - t <= self.kept_s)
        hit = next((k for k, p in enumerate(prefixes) if p not in self.held), len(prefixes))
        for p in reversed(prefixes):
            self.held[p] = at
            self.held.move_to_end(p)
        while len(self.held) > self.blocks:
            self.held.popitem(last=False)
        return min(hit, (tokens - 1) // H) * H


def played(rows, keys, **options):
    """Prompt tokens found, each combination of `keys` having a cache of its own."""
    caches, total = {}, 0
    for r in rows.filter(pl.col("block_hashes").list.len() > 0).iter_rows(named=True):
        key = tuple(r[k] for k in keys)
        # a request without a session has one of its own
        key = (*key, r["source_row"]) if "session_id" in keys and r["session_id"] is None else key
        total += caches.setdefault(key, Cache(**options)).play(r["arrival_s"], r["block_hashes"], r["input_tokens"])
    return total


hashes = st.integers(0, 2) | st.integers(0, 2**64 - 1)
requests = st.tuples(
    st.lists(hashes, max_size=6),
    st.sampled_from("ab"),
    st.sampled_from(["s", "t", None]),
    st.integers(0, H - 1),  # tokens that the last block lacks
    st.sampled_from([0.0, 1.0, 0.25, 300.0]),  # seconds since the request before
)


def trace(drawn):
    return table(
        arrival_s=np.cumsum([r[4] for r in drawn]),
        input_tokens=[max(1, len(r[0]) * H - r[3]) for r in drawn],
        block_hashes=pl.Series([r[0] for r in drawn], dtype=pl.List(pl.UInt64)),
        service=[r[1] for r in drawn],
        session_id=pl.Series([r[2] for r in drawn], dtype=pl.String),
        source_row=range(len(drawn)),
    )


@settings(max_examples=150)
@given(st.lists(requests, min_size=1, max_size=40))
def test_every_size_time_and_session_equals_playing_it(drawn):
    rows = trace(drawn)
    tables = prefix(rows.lazy(), H, cache_tokens=SIZES)
    if not any(r[0] for r in drawn):
        assert tables == {}
        return
    whole = tables["prefix"].filter(by="all").row(0, named=True)
    assert whole["hit_tokens"] == played(rows, ["service"])
    assert whole["looked_at"] == 1 and whole["reuse_se"] is None
    if rows["session_id"].null_count() < len(rows):
        assert whole["session_hit_tokens"] == played(rows, ["service", "session_id"])
        assert whole["across_reuse"] == pytest.approx(whole["reuse"] - whole["session_reuse"])
    else:
        assert whole["session_hit_tokens"] is None
    for name, hits in tables["prefix"].filter(by="service").select("name", "hit_tokens").iter_rows():
        assert hits == played(rows.filter(pl.col("service") == name), [])
    sizes = tables["prefix_sizes"].filter(by="all")
    assert set(SIZES) <= set(sizes["cache_tokens"])
    for tokens, blocks, hits in sizes.select("cache_tokens", "cache_blocks", "hit_tokens").iter_rows():
        assert blocks == tokens // H
        assert hits == played(rows, ["service"], blocks=blocks), tokens
    for kept_s, hits in tables["prefix_kept"].filter(by="all").select("kept_s", "hit_tokens").iter_rows():
        assert hits == played(rows, ["service"], kept_s=kept_s), kept_s
    # both end where nothing is lost any more
    assert sizes["hit_tokens"][-1] == whole["hit_tokens"] or sizes["cache_tokens"][-1] == max(SIZES)
    assert tables["prefix_kept"].filter(by="all")["hit_tokens"][-1] == whole["hit_tokens"]


@settings(max_examples=60)
@given(st.lists(requests, min_size=1, max_size=30))
def test_blocks_seen_before_equal_counting_one_by_one(drawn):
    rows = trace(drawn)
    seen, hits, blocks = set(), 0, 0
    for prompt, service, _, lacking, _ in drawn:
        keys = [(service, *prompt[: k + 1]) for k in range(len(prompt))]
        if lacking and keys and len(prompt) * H > lacking:
            keys[-1] = ("partial", *keys[-1])  # the last block, where it is not whole, is no whole block's equal
        hits += next((k for k, key in enumerate(keys) if key not in seen), len(keys))
        blocks += len(keys)
        seen.update(keys)
    found = prefix(rows.lazy(), H)
    if blocks:
        assert found["prefix"].filter(by="all").select("blocks", "hit_blocks").row(0) == (blocks, hits)


def test_requests_without_hashes_or_tokens_among_others_change_nothing():
    known = trace([([1, 2], "a", None, 0, 1.0), ([1, 2, 3], "a", None, 1, 1.0)])
    blank = known.with_columns(
        block_hashes=pl.Series([None, [1, 2, 3]], dtype=pl.List(pl.UInt64)),
        input_tokens=pl.Series([9, None], dtype=pl.UInt32),
        arrival_s=pl.Series([1.5, 3.0]),
    )
    found = prefix(pl.concat([known, blank]).sort("arrival_s").lazy(), H)
    assert found["prefix"].equals(prefix(known.lazy(), H)["prefix"])


def conversations(n=1500, seed=0):
    """Sessions that grow a turn at a time, a third of them on one system prompt, at random times."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(n):
        turns = rng.geometric(0.3)
        ids = [(s % 3 == 0) * -1 if k < 8 and s % 3 == 0 else s * 1000 + k for k in range(8 + 12 * turns)]
        at = rng.uniform(0, 5000) + np.cumsum(rng.exponential(40, turns))
        rows += [(at[k], ids[: 8 + 12 * (k + 1)], f"s{s}") for k in range(turns)]
    rows.sort(key=lambda r: r[0])
    lists = pl.Series([[b % 2**64 for b in r[1]] for r in rows], dtype=pl.List(pl.UInt64))
    return table(
        arrival_s=[r[0] for r in rows],
        block_hashes=lists,
        session_id=[r[2] for r in rows],
        input_tokens=[len(r[1]) * H + 1 for r in rows],
        service=["a" if int(r[2][1:]) % 5 else "b" for r in rows],
    )


def test_times_between_uses_are_within_one_percent():
    rng = np.random.default_rng(3)
    gaps = np.round(rng.lognormal(3, 2, 4000), 6)
    rows = table(arrival_s=np.cumsum(gaps), input_tokens=[3 * H + 1] * 4000, block_hashes=[[1, 2, 3]] * 4000)
    r = prefix(rows.lazy(), H)["prefix_intervals"].row(0, named=True)
    assert r["n"] == 3 * 3999 and r["exact"] is False
    for p, q in (("p50_s", 50), ("p90_s", 90), ("p95_s", 95), ("p99_s", 99)):
        assert r[p] == pytest.approx(np.percentile(np.repeat(gaps[1:], 3), q, method="nearest"), rel=0.011)


def test_a_sample_of_blocks_tells_its_error_and_keeps_it():
    rows = conversations()
    asked = (2000, 20_000, 60_000, 200_000)
    whole = prefix(rows.lazy(), H, cache_tokens=asked)
    distinct = whole["prefix"]["distinct_tokens"][0] / H
    drawn = prefix(rows.lazy(), H, cache_tokens=asked, max_blocks=int(distinct / 2))
    a, b = (t["prefix"].filter(by="all").row(0, named=True) for t in (whole, drawn))
    assert 0.1 <= b["looked_at"] <= 0.5
    for c in ("requests", "blocks", "input_tokens"):
        assert a[c] == b[c], "what is counted and not estimated"
    assert 0 < b["reuse_se"] < 0.02
    assert b["reuse"] == pytest.approx(a["reuse"], abs=4 * b["reuse_se"])
    assert b["session_reuse"] == pytest.approx(a["session_reuse"], abs=0.02)
    assert b["distinct_tokens"] == pytest.approx(a["distinct_tokens"], rel=0.1)
    sizes = whole["prefix_sizes"].join(drawn["prefix_sizes"], on=["by", "name", "cache_tokens"], suffix="_drawn")
    assert len(sizes) > 10
    assert (sizes["reuse"] - sizes["reuse_drawn"]).abs().max() < 0.02
    off, errors = (sizes["reuse"] - sizes["reuse_drawn"]).abs(), sizes["reuse_se_drawn"]
    assert (off <= 4 * errors + 1e-9).all() and errors.max() < 0.03
    # of a cache that has few places in the sample nothing is said
    assert drawn["prefix_sizes"]["cache_blocks"].min() * b["looked_at"] > 30
    assert whole["prefix_sizes"]["reuse_se"].null_count() == len(whole["prefix_sizes"])


def test_larger_caches_and_longer_keeping_never_save_less():
    tables = prefix(conversations(300).lazy(), H)
    for name, size in (("prefix_sizes", "cache_tokens"), ("prefix_kept", "kept_s")):
        for part in tables[name].partition_by("by", "name"):
            assert part[size].is_sorted() and part["reuse"].is_sorted()
            assert part["of_unlimited"][-1] <= 1


def test_services_beyond_the_largest_have_caches_of_their_own_and_one_row():
    n = 3 * TOP
    rows = table(
        arrival_s=np.arange(2.0 * n),
        service=[f"s{k % n:02d}" for k in range(2 * n)],
        input_tokens=[2 * H + 1] * 2 * n,
        block_hashes=[[1, 2]] * 2 * n,
    )
    found = prefix(rows.lazy(), H)["prefix"]
    assert len(found) == 2 + TOP
    assert found.filter(by="service")["requests"].sum() == 2 * n
    assert found.filter(name=OTHERS).select("requests", "hit_blocks").row(0) == (2 * (n - TOP), 2 * (n - TOP))


def test_of_a_longer_trace_the_first_requests_are_played_and_it_is_said(store, monkeypatch):
    rows = conversations().head(400)
    monkeypatch.setattr(module, "MAX_REQUESTS", 100)
    found = analyze(store(rows, block_size=H))
    whole = found.tables["prefix"].filter(by="all").row(0, named=True)
    first = prefix(rows.head(100).lazy(), H)["prefix"].filter(by="all").row(0, named=True)
    assert whole == first | {"read_share": 0.25} and first["read_share"] == 1
    assert any("(n = 100, in the first 25% of the requests)" in said for said in found.findings)
    section = reuse.section(found)
    assert "of the first 100 requests" in section.finding
    assert any(f"Only the first {share(0.25)} of the trace's requests were looked at" in note for note in section.notes)
    monkeypatch.undo()
    every = reuse.section(analyze(store(rows, block_size=H)))
    assert "first" not in every.finding + " ".join(every.notes)


def test_no_time_below_the_quantum():
    tables = prefix(conversations(50).lazy(), H, quantum_s=3.0)
    assert tables["prefix_kept"]["kept_s"].min() == min(s for s in KEPT_S if s >= 3)


def test_columns_are_as_described():
    for name, found in prefix(conversations(50).lazy(), H).items():
        assert found.columns == list(COLUMNS[name])
        assert not found.is_empty()


# --- published numbers


@pytest.fixture
def store(tmp_path):
    return storer(tmp_path)


def mooncake(path):
    raw = pl.read_ndjson(path, schema_overrides={"hash_ids": pl.List(pl.UInt64)})
    return table(
        arrival_s=raw["timestamp"] / 1000,
        input_tokens=raw["input_length"],
        output_tokens=raw["output_length"],
        block_hashes=raw["hash_ids"],
    )


@pytest.mark.parametrize(
    ("file", "reuse"), [("mooncake/conversation_trace.jsonl", 0.366), ("dynamo/mooncake_trace_1000.jsonl", 0.380)]
)
def test_mooncake(shared, store, file, reuse):
    result = analyze(store(mooncake(shared / "traces" / file), quantum_s=3.0, block_size=512))
    whole = result.tables["prefix"].filter(by="all").row(0, named=True)
    assert whole["block_reuse"] == pytest.approx(reuse, abs=0.0005)
    assert whole["session_reuse"] is None
    assert any(f"{reuse:.1%}" in f for f in result.findings)


@pytest.mark.slow
def test_weka_sessions(shared):
    path = shared / "traces" / "weka-claude-code" / "requests_with_hash_ids.parquet"
    raw = pl.read_parquet(path, columns=["session", "depth", "t", "in", "hash_ids"]).filter(depth=0)  # no sub-agents
    n = raw["hash_ids"].list.len().to_numpy().astype(np.int64)
    session = raw["session"].rank("dense").to_numpy().astype(np.uint64)
    ids = raw["hash_ids"].explode().to_numpy().astype(np.uint64) + np.repeat(session << np.uint64(32), n)
    ends = pa.array(np.concatenate([[0], np.cumsum(n)]))
    lists = pl.Series(pa.LargeListArray.from_arrays(ends, pa.array(ids)))
    rows = table(arrival_s=raw["t"], input_tokens=raw["in"], session_id=raw["session"], block_hashes=lists)
    whole = prefix(rows.lazy(), 64)["prefix"].filter(by="all").row(0, named=True)
    assert whole["blocks"] == 93_832_730
    assert whole["block_reuse"] == pytest.approx(0.964, abs=0.0005)
    assert whole["session_hit_tokens"] == whole["hit_tokens"], "ids are apart between sessions"
