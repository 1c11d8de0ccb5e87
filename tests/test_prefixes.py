"""Prefix caches from the command line's side: hashes read, handed over, switched off, scaled, told of."""

import json

import numpy as np
import polars as pl
import pytest
from evaluation_data import texts

from lmaas.analysis.blockhashes import chained
from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace
from lmaas.policies import evaluate
from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import prepare
from lmaas.policies.rows import read_prefixes
from lmaas.policies.window import Windows
from lmaas.replay.prefixes import Prefixes
from lmaas.reports.write import write_requests

H = 64  # tokens a hash block
ROOMY = {  # a cache that forgets nothing, prompts that take long without it
    "name": "test/roomy", "kv_tokens": 1_000_000, "max_batch_tokens": 4096, "max_seqs": 8, "usd_per_gpu_hour": 1.0,
    "latency": {"base": 0.01, "token_knots": [0], "token_slopes": [1e-3]},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def profile(home, **changes):
    path = home / f"profile-{len(list(home.iterdir()))}.json"
    path.write_text(json.dumps({**ROOMY, **changes}))
    return str(path)


def stored(home, rows, name, block=H):
    path = home / f"{name}.parquet"
    rows.write_parquet(path, metadata={"lmaas.block_size": str(block)} if block else None)
    return open_trace(str(path), Workspace.open(home / "ws"), say=lambda text: None)


def prompts(n=600, seed=0, groups=12, service="chat"):
    """Prompts of a few groups: a group's share a beginning of 4 to 20 blocks, the rest is their own."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(4, 20, groups)
    group, own = rng.integers(0, groups, n), rng.integers(0, 6, n)
    lists = [
        [int(g) * 1000 + k for k in range(shared[g])] + [10**6 + 100 * i + k for k in range(extra)]
        for i, (g, extra) in enumerate(zip(group, own, strict=True))
    ]
    return pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, 40.0 * n, n)),  # far apart: one after the other is done
            "service": [service] * n,
            "input_tokens": np.array([H * len(blocks) for blocks in lists]) + rng.integers(0, H, n),
            "output_tokens": rng.integers(1, 4, n),
            "block_hashes": lists,
        },
        schema_overrides={"block_hashes": pl.List(pl.UInt64)},
    )  # fmt: skip


def ever_seen(rows):
    """Tokens an endless cache finds, one request after the other (docs/replay.md, Prefix cache)."""
    seen, found = set(), []
    for blocks, tokens in rows.select("block_hashes", "input_tokens").iter_rows():
        hit = 0
        while hit < min(len(blocks or []), (tokens - 1) // H) and tuple(blocks[: hit + 1]) in seen:
            hit += 1
        found.append(hit * H)
        seen |= {tuple(blocks[: k + 1]) for k in range(min(len(blocks or []), tokens // H))}
    return found


ASK = {"baselines": ["none"], "train_fraction": 0.0}
ONE = "static(replicas=1)"


def fleet_file(home, text):
    path = home / "fleet.yaml"
    path.write_text(text)
    return path


def test_prompts_find_what_was_computed_before(home, tmp_path):
    rows = prompts()
    found = evaluate(stored(home, rows, "plain"), [ONE], profile=profile(home), **ASK)
    cached = found.requests[ONE]["cached_tokens"].to_list()
    assert cached == ever_seen(rows)
    share = sum(cached) / rows["input_tokens"].sum()
    assert found.scores["prefix_hit_share"].item() == pytest.approx(share) and share > 0.5
    # shown: terminal and report, metrics, request rows
    assert f"Prefix cache on (blocks of 64 tokens): {ONE} found {100 * share:.1f}"[:-1] in texts(found)
    assert "Prompt cached" in texts(found)
    assert found.metrics()["results"][0]["prefix_hit_share"] == pytest.approx(share)
    assert found.metrics()["settings"]["prefix_cache"] == {"services": ["chat"], "block_tokens": H}
    write_requests(found.requests, tmp_path / "out.csv")
    assert pl.read_csv(tmp_path / "out.csv")["cached_tokens"].to_list() == cached


def test_each_service_and_tier_has_its_share(home):
    """One service's prompts repeat, the other's never do; tiers lie across both."""
    repeating, single = prompts(200, seed=11), prompts(200, seed=12, groups=10**6, service="code")
    tiers = pl.Series("tier", ["batch", "interactive-fast", "batch", None] * 100)
    rows = pl.concat([repeating, single]).sort("arrival_s").with_columns(tiers)
    found = evaluate(stored(home, rows, "shares"), [ONE], profile=profile(home), **ASK)
    expected = rows.with_columns(cached=pl.Series(ever_seen(rows)))
    for group, name, share in found.groups.select("group", "name", "prefix_hit_share").iter_rows():
        key = pl.lit("all") if group == "all" else pl.col(group)
        of = expected.filter(key.eq_missing(pl.lit(name)))
        assert share == pytest.approx(of["cached"].sum() / of["input_tokens"].sum()), (group, name)
    shares = {name: share for _, name, share in found.groups.select("group", "name", "prefix_hit_share").iter_rows()}
    assert shares.keys() == {"all", "chat", "code", "batch", "interactive-fast", None}
    assert shares["chat"] > 0.5 > 0.05 > shares["code"]
    off = evaluate(stored(home, rows.drop("block_hashes"), "shares-off"), [ONE], profile=profile(home), **ASK)
    assert off.groups["prefix_hit_share"].null_count() == off.groups.height


def test_hits_shorten_prefill_and_raise_the_sustainable_rate(home):
    trace = stored(home, prompts(2000, seed=1), "rates")
    asked = {**ASK, "profile": profile(home), "slo": ["ttft<3s"]}
    on = evaluate(trace, [ONE], **asked)
    off = evaluate(trace, [ONE], fleet=fleet_file(home, "prefix_cache: false"), **asked)
    assert on.scores["ttft_p50_s"].item() < 0.6 * off.scores["ttft_p50_s"].item()
    (rate_on,), (rate_off,) = on.settings["rates"], off.settings["rates"]
    assert rate_off["hit_share"] is None and rate_on["hit_share"] > 0.5
    assert rate_on["requests_s"] > 1.5 * rate_off["requests_s"]


def test_it_can_be_switched_off(home):
    trace = stored(home, prompts(), "off")
    never = [
        evaluate(trace, [ONE], profile=profile(home), fleet=fleet_file(home, "prefix_cache: false"), **ASK),
        evaluate(trace, [ONE], profile=profile(home, prefix_cache=False), **ASK),
        evaluate(trace, [ONE], profile=profile(home, block=48), **ASK),
    ]
    said = [
        "",
        "no prefix cache for chat: profile test/roomy has none",
        "no prefix cache for chat: the trace's hash blocks of 64 tokens are not whole KV blocks of 48",
    ]
    for found, note in zip(never, said, strict=True):
        assert found.scores["prefix_hit_share"].item() is None
        assert found.requests[ONE]["cached_tokens"].null_count() == 600
        assert found.settings["prefix_cache"] is None
        assert any(line.startswith(note) for line in found.notes)
        assert "Prefix cache off: every prompt is computed in full" in texts(found)
    ttft = [found.scores["ttft_p50_s"].item() for found in never]
    assert max(ttft) == pytest.approx(min(ttft))


def test_without_hashes_nothing_is_said(home):
    found = evaluate(stored(home, prompts().drop("block_hashes"), "bare"), [ONE], profile=profile(home), **ASK)
    assert found.settings["prefix_cache"] is None
    assert "Prefix cache" not in texts(found)
    # hashes without a block size cannot be used, and the trace says so
    sizeless = stored(home, prompts(), "sizeless", block=None)
    assert any("block_hashes without a block size" in note for note in sizeless.meta.notes)
    assert evaluate(sizeless, [ONE], profile=profile(home), **ASK).settings["prefix_cache"] is None


def test_a_service_whose_replicas_cannot_is_left_out_alone(home):
    both = pl.concat([prompts(), prompts(seed=3, service="code")]).sort("arrival_s")
    odd = profile(home, name="test/odd", block=48)
    fleet = fleet_file(home, f"services: {{code: {{profile: {odd}}}}}")
    found = evaluate(stored(home, both, "both"), [ONE], profile=profile(home), fleet=fleet, **ASK)
    rows = found.requests[ONE]
    hits = dict(rows.group_by("service").agg(pl.col("cached_tokens").sum()).iter_rows())
    assert hits["code"] == 0 and hits["chat"] == sum(ever_seen(prompts()))
    assert found.settings["prefix_cache"]["services"] == ["chat"]
    assert {r["service"]: r["hit_share"] is None for r in found.settings["rates"]} == {"chat": False, "code": True}


def test_hostile_lists_are_cached_right_and_counted(home):
    """Too long, too short, empty, none: each prompt finds what its own whole blocks allow."""
    rng = np.random.default_rng(5)
    rows = prompts(seed=4)
    lists = rows["block_hashes"].to_list()
    for i in range(0, 600, 7):
        lists[i] = [lists[i] + [1, 2, 3], lists[i][:-2], [], None][int(rng.integers(0, 4))]
    rows = rows.with_columns(block_hashes=pl.Series(lists, dtype=pl.List(pl.UInt64)))
    found = evaluate(stored(home, rows, "odd"), [ONE], profile=profile(home), **ASK)
    assert found.requests[ONE]["cached_tokens"].to_list() == ever_seen(rows)
    none = sum(blocks is None for blocks in lists)
    wrong = sum(b is not None and len(b) != n // H for b, n in zip(lists, rows["input_tokens"], strict=True))
    assert any(f"{none:,} of 600 requests have no block hashes" in note for note in found.notes)
    assert any(f"{wrong:,} requests have more or fewer hashes" in note for note in found.notes)


def test_hashes_of_blocks_alone_are_told_apart_by_what_is_before(home):
    """The same block behind other ones is another prefix; blocks that repeat within a prompt are blocks like others."""
    lists = [[1, 2, 3], [9, 2, 3], [1, 2, 4], [5, 5, 5, 5], [5, 5, 6], [3, 2, 1], [9, 2, 3]]
    rows = pl.DataFrame(
        {
            "arrival_s": np.arange(7) * 10.0,
            "input_tokens": [H * len(blocks) + 1 for blocks in lists],
            "output_tokens": [1] * 7,
            "block_hashes": pl.Series(lists, dtype=pl.List(pl.UInt64)),
        }
    )
    found = evaluate(stored(home, rows, "alone"), [ONE], profile=profile(home), **ASK)
    assert found.requests[ONE]["cached_tokens"].to_list() == [0, 0, 2 * H, 0, 2 * H, 0, 3 * H]
    assert ever_seen(rows) == [0, 0, 2 * H, 0, 2 * H, 0, 3 * H]


def test_chained_hashes_agree_where_prefixes_do():
    rng = np.random.default_rng(6)
    lists = [rng.integers(0, 3, rng.integers(0, 6)).tolist() for _ in range(400)]
    n = np.array([len(blocks) for blocks in lists])
    values = chained(np.array([b for blocks in lists for b in blocks], np.uint64), n)
    meaning, at = {}, 0
    for blocks in lists:
        for k in range(len(blocks)):
            prefix = tuple(blocks[: k + 1])
            assert meaning.setdefault(int(values[at]), prefix) == prefix
            at += 1
    assert len(set(meaning.values())) == len(meaning)
    assert chained(np.zeros(0, np.uint64), np.zeros(3, np.int64)).tolist() == []


def test_packing_keeps_prompts_and_parts_copies():
    values = np.arange(10, dtype=np.uint64) * 7
    three = Prefixes(values, np.array([0, 4, 6]), np.array([4, 0, 3]), H, np.zeros(3, np.int64))
    packed = three.take(np.array([2, 0, 1, 2])).packed()
    assert packed.values.tolist() == [42, 49, 56, 0, 7, 14, 21, 42, 49, 56]
    assert packed.at.tolist() == [0, 3, 7, 7] and packed.n.tolist() == [3, 4, 0, 3]
    others = three.take(np.array([2, 2, 2]), np.array([0, 1, 2])).packed()
    assert len(set(others.values.tolist())) == 9 and others.values[:3].tolist() == [42, 49, 56]


def test_only_whole_blocks_of_served_prompts_are_read(home):
    trace = stored(home, prompts(50), "few")
    found, notes = read_prefixes(trace, ["chat"])
    assert notes == [] and found.tokens == H and found.n.sum() == len(found.values)
    assert read_prefixes(trace, ["other"])[0].n.sum() == 0


def test_copies_of_a_scaled_load_share_nothing_with_the_trace(home):
    """Twice the load is twice the users: shared blocks would let every prompt find its own twin."""
    rows = prompts(seed=7, groups=600)  # next to nothing repeats
    trace = stored(home, rows, "scaled")
    share = [
        evaluate(trace, [ONE], profile=profile(home), load=load, **ASK).scores["prefix_hit_share"].item()
        for load in (1.0, 2.0, 3.5)
    ]
    assert share[0] < 0.4
    assert share[1] == pytest.approx(share[0], abs=0.02) and share[2] == pytest.approx(share[0], abs=0.05)


def test_rates_know_no_later_prefix(home):
    rows = prompts(1500, seed=8)
    half = (rows["arrival_s"].min() + rows["arrival_s"].max()) / 2
    none = pl.lit([], pl.List(pl.UInt64))
    other = rows.with_columns(
        block_hashes=pl.when(pl.col("arrival_s") <= half + 1e-6).then("block_hashes").otherwise(none)
    )
    asked = {"baselines": ["none"], "profile": profile(home)}
    found = [evaluate(stored(home, r, f"late-{k}"), ["static-mean"], **asked) for k, r in enumerate((rows, other))]
    assert found[0].settings["rates"] == found[1].settings["rates"]
    assert found[0].settings["rates"][0]["hit_share"] > 0.3


def test_routers_that_look_for_prefixes_find_more(home):
    trace = stored(home, prompts(seed=9), "routers")
    share = [
        evaluate(trace, ["static(replicas=6)"], profile=profile(home), router=router, **ASK)
        .scores["prefix_hit_share"]
        .item()
        for router in ("round-robin", "prefix-aware")
    ]
    assert share[1] > share[0] + 0.05


def test_windows_say_that_they_ignore_it(home):
    trace = stored(home, prompts(1500, seed=10), "windows")
    found = evaluate(
        trace, ["static-mean"], baselines=["none"], profile=profile(home), fidelity="window",
        fleet=fleet_file(home, "clients: {timeout_s: 30}\nprefix_cache: true"),
    )  # fmt: skip
    assert found.settings["ignored"] == [
        "clients that give up",
        "prefix caches (as the replays beside it and μ do here)",
    ]
    assert "windows ignore clients that give up, prefix caches" in texts(found)
    assert any(note.startswith("window fidelity ignores clients that give up") for note in found.notes)
    assert found.settings["rates"][0]["hit_share"] is None and found.settings["prefix_cache"] is None
    # and from Python they are not mixed up
    asked = {"slos": (), "attain": 0.99, "profile": profile(home), "fleet": None, "train_fraction": 0.5}
    ready = prepare(trace, **asked, warmup_s=0.0, window_s=None, load=1.0, seed=0)
    with pytest.raises(ValueError, match="caches=False"):
        Windows.of(trace, ready, Inputs(ready), 0.99)
