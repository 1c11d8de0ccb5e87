"""Aladdin's proof by cases: true lengths, instant start, no worker limit; no placement breaks (a) to (d)."""

import os

import numpy as np
import pytest
from cases import FIELDS, assert_same, expected
from reference import Latency, Replica, Request, Rules, Shape
from reference_packing import WatchedFleet

from lmaas.replay import profile as profiles
from lmaas.replay.engine import Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.routernames import find_router
from lmaas.replay.steplaw import step_law

CASES = 6 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 16
LANES = {"shared": ["shared"], "split": ["prefill", "decode"]}
UNLIMITED = 1000


def profile_of(rng):
    latency = {
        "base": float(rng.integers(1, 5)) / 8, "token_knots": [0, 8], "attn_pair": float(rng.integers(0, 2)) / 4096,
        "token_slopes": (rng.integers(1, 6, 2) / 64).tolist(), "prefix_kv": 0.0,
        "decode_seq": float(rng.integers(0, 4)) / 64, "decode_kv": float(rng.integers(1, 5)) / 512,
    }  # fmt: skip
    return {
        "name": "p", "latency": latency, "kv_tokens": int(rng.integers(20, 60)) * 4, "block": int(rng.choice([1, 4])),
        "max_batch_tokens": int(rng.choice([16, 64])), "max_seqs": int(rng.integers(4, 40)), "startup_s": 0.0,
        "kv_bytes_per_token": 1,
    }  # fmt: skip


def drawn(seed, lanes):
    """A profile, requests each of which an empty replica could serve within its limits, and the router's parameters."""
    rng = np.random.default_rng([seed, len(lanes)])
    profile = profiles.Profile.model_validate(profile_of(rng))
    law, room = step_law(profile), profile.kv_tokens // profile.block * profile.block
    given = {
        "theta_ttft": float(rng.choice([1.0, 0.7])), "theta_atgt": float(rng.choice([1.0, 0.8])),
        "gamma": float(rng.choice([0.5, 1.0])), "heartbeat_s": 2.0, "refusals": 0.0,
    }  # fmt: skip
    alone_s = law.decode_s + law.seq_s
    pairs = [(float(rng.uniform(4, 20)), float(alone_s * rng.uniform(2.0, 8.0))) for _ in range(2)]
    given |= {"limits": [[x for pair in pairs for x in pair]], "ttft_s": 1.0, "atgt_s": 1.0}
    rows = []
    t = 0.0
    while len(rows) < 60:
        t += float(rng.choice([0.0, 0.25, 1.0, 3.0]))
        prompt, answer, tier = int(rng.integers(1, 60)), int(rng.integers(1, 50)), int(rng.integers(0, 2))
        ttft_s, atgt_s = pairs[tier]
        prefill_s = law.prefill_s + law.token_s * prompt
        decode_s = alone_s + law.context_s * (prompt + given["gamma"] * answer)
        fits = prompt + answer + law.kv_tokens <= room
        if prefill_s <= given["theta_ttft"] * ttft_s and decode_s <= given["theta_atgt"] * atgt_s and fits:
            rows.append((t, prompt, answer, tier))
    return profile, rows, pairs, given


def slowly(profile, rows, pairs, given, lanes, router="aladdin"):
    lat = profile.latency
    shape = Shape(
        Latency(*[getattr(lat, f) for f in FIELDS]), profile.kv_tokens, profile.block, profile.max_batch_tokens,
        profile.max_seqs, kv_bytes_per_token=1.0, bandwidth=1e9,
    )  # fmt: skip
    pools = range(len(lanes))
    rules = Rules(
        shapes=[shape for _ in pools], lanes=lanes, heartbeat_s=given["heartbeat_s"], most=[UNLIMITED for _ in pools]
    )
    fleet = WatchedFleet([Replica(p, 0, shape) for p in pools], router, rules=rules)
    fleet.given, fleet.law, fleet.limits = given, lambda shape: step_law(profile), lambda r: pairs[r.tier]
    requests = [Request(k, t, 0, prompt, answer, answer) for k, (t, prompt, answer, _) in enumerate(rows)]
    for request, (*_, tier) in zip(requests, rows, strict=True):
        request.tier = tier
    fleet.run(requests)
    return requests, fleet


def fast(profile, rows, given, lanes):
    pools = tuple(Pool("s", "r", profile, lane, minimum=0) for lane in lanes)
    t, prompt, answer, tier = (np.array(column) for column in zip(*rows, strict=True))
    zeros = np.zeros(len(rows), np.int64)
    requests = Requests(t, zeros, prompt, answer, answer.astype(float), zeros, tier=tier)
    router = find_router("aladdin(" + ", ".join(f"{k}={v!r}" for k, v in given.items()) + ")")
    fleet = Fleet(pools, kv_bandwidth_gb_s=1.0 if len(lanes) > 1 else None)
    return Replay(requests, fleet, [1] * len(pools), router, scales=True).run()


@pytest.mark.parametrize("shape", LANES)
def test_no_placement_breaks_a_constraint(shape):
    """The kernel places as the slow fleet does, and of the slow fleet's placements every single one is checked."""
    lanes, placed, opened = LANES[shape], 0, 0
    for seed in range(CASES):
        profile, rows, pairs, given = drawn(seed, lanes)
        requests, fleet = slowly(profile, rows, pairs, given, lanes)
        outcome = fast(profile, rows, given, lanes)
        assert_same(expected(requests), outcome)
        assert [broke for broke in fleet.broke if broke] == [], seed
        assert all(r.hold == 0 for r in requests)  # an instant start keeps nobody waiting for a replica
        placed, opened = placed + len(fleet.broke), opened + len(fleet.replicas)
    assert placed >= CASES * 60
    assert opened > 2 * CASES * len(lanes)  # one replica would not have done


@pytest.mark.parametrize(("shape", "names"), [("shared", "abcd"), ("split", "abd")])
def test_the_check_can_fail(shape, names):
    """Fewest requests on a fleet that never grows breaks each constraint somewhere."""
    found = set()
    for seed in range(CASES):
        profile, rows, pairs, given = drawn(seed, LANES[shape])
        _, fleet = slowly(profile, rows, pairs, given, LANES[shape], "least-requests")
        found |= set().union(*fleet.broke)
    assert found == set(names)
