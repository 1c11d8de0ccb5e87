"""The prefix cache on a published trace: its infinite-cache hit share (Mooncake conversation, 36.6 %)."""

import json

import numpy as np

from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile

BLOCK = 512  # tokens a hash block of the trace


def test_infinite_cache_on_mooncake(shared):
    """An endless cache, and answers done before the next request comes: what is found is what was ever seen."""
    path = shared / "traces" / "mooncake" / "conversation_trace.jsonl"
    rows = [json.loads(line) for line in path.open()]
    inputs = np.array([r["input_length"] for r in rows])
    hashes = [r["hash_ids"][: r["input_length"] // BLOCK] for r in rows]
    counts = np.array([len(h) for h in hashes])
    n = len(rows)
    requests = Requests(
        np.arange(n) * 10.0, np.zeros(n, int), inputs, np.ones(n, int), np.ones(n), np.zeros(n, int),
        hashes=np.array([x for h in hashes for x in h], np.uint64), hash_n=counts,
        hash_at=np.concatenate([[0], np.cumsum(counts)[:-1]]), hash_tokens=BLOCK,
    )  # fmt: skip
    instant = Profile(
        name="p", kv_tokens=200_000_000, max_batch_tokens=1_000_000, max_seqs=4, latency=Latency(base=1e-3)
    )
    outcome = Replay(requests, Fleet((Pool("s", "r", instant),)), [1]).run()

    seen: set[int] = set()
    expected = []
    for given, length in zip(hashes, inputs, strict=True):
        hit = 0
        while hit < min(len(given), (length - 1) // BLOCK) and given[hit] in seen:
            hit += 1
        expected.append(hit * BLOCK)
        seen.update(given)
    assert outcome.cached_tokens.tolist() == expected
    # published over all blocks, the last, partial one of each prompt included
    blocks = sum(len(r["hash_ids"]) for r in rows)
    share = outcome.cached_tokens.sum() / BLOCK / blocks
    assert abs(share - 0.366) < 0.005, share
