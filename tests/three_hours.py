"""Three hours of two services in two regions, on a small replica; and the same with another future."""

import numpy as np
import polars as pl

from lmaas.analysis.ingest import open_trace
from lmaas.analysis.workspace import Workspace

HOURS = 3.0
PROFILE = {
    "name": "test/small", "kv_tokens": 12_000, "max_batch_tokens": 2048, "max_seqs": 24, "startup_s": 90.0,
    "usd_per_gpu_hour": 2.0, "gpus_per_replica": 2, "overhead_s": 0.02,
    "latency": {
        "base": 0.04, "token_knots": [0, 256], "token_slopes": [5e-4, 7e-4], "attn_pair": 4e-9, "prefix_kv": 1e-9,
        "decode_seq": 4e-4, "decode_kv": 1e-6,
    },
}  # fmt: skip


def rows(seed=0, n=24_000, hours=HOURS):
    """Two services in two regions with a rhythm of an hour; three tiers, some unknown."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, hours * 3600, 4 * n))
    keep = rng.random(4 * n) < 0.25 * (1 + 0.8 * np.sin(2 * np.pi * t / 3600))
    t = np.concatenate([[0.0], t[keep], [hours * 3600.0]])
    n = len(t)
    return pl.DataFrame(
        {
            "request_id": [f"r{k}" for k in range(n)],
            "arrival_s": t,
            "service": rng.choice(["chat", "code"], n, p=[0.7, 0.3]),
            "region": rng.choice(["eu", "us"], n),
            "tenant": rng.choice(["a", "b", "c"], n),
            "tier": rng.choice(["interactive-fast", "interactive-normal", "batch", None], n),
            "input_tokens": np.clip(rng.lognormal(6, 0.8, n), 1, 6000).astype(np.int64),
            "output_tokens": np.clip(rng.lognormal(4.5, 0.7, n), 1, 1500).astype(np.int64),
        }
    )


def stored(home, table, name):
    path = home / f"{name}.parquet"
    table.write_parquet(path)
    return open_trace(str(path), Workspace.open(home / "ws"), say=lambda text: None)


def scrambled(table, after):
    """Everything that arrives later: other times, lengths, services and tiers; the trace's last arrival stays."""
    rng = np.random.default_rng(9)
    early, late = table.filter(pl.col("arrival_s") <= after), table.filter(pl.col("arrival_s") > after)
    n, last = late.height, table["arrival_s"][-1]
    other = late.with_columns(
        arrival_s=np.append(np.sort(rng.uniform(after, last, n - 1)), last),
        input_tokens=pl.Series(rng.integers(1, 6000, n)),
        output_tokens=pl.Series(rng.integers(1, 1500, n)),
        service=pl.Series(rng.choice(["chat", "code"], n)),
        tier=pl.Series(rng.choice(["interactive-fast", "batch"], n)),
    )
    return pl.concat([early, other])


def decisions(found, policy, until):
    """Replicas of every pool in every window that ended by then, and where requests went that arrived by then."""
    times = found.timeline.filter((pl.col("policy") == policy) & (pl.col("start_s") + pl.col("length_s") <= until))
    routed = found.requests[policy].filter(pl.col("arrival_s") <= until).select("request_id", "pool", "replica")
    return times.select("start_s", "service", "region", "active", "provisioned"), routed
