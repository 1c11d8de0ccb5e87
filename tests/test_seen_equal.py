"""What a policy sees at a tick is what the slow reference has, of pools, replicas and requests, with every feature."""

import os

import numpy as np
import pytest
from cases_full import FEATURES, full_cases, play_slow
from cases_kernel import play_fast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = 10 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 60
SUMS = ("arrivals", "arrived_input_tokens", "arrived_batch_tokens", "completions", "completed_output_tokens")
NOW = (
    "active", "starting", "draining", "donated", "queued", "held", "waiting", "running", "outstanding_tokens",
    "kv_fraction",
)  # fmt: skip
WAY = ("reached", "moved", "released", "again")  # arrivals to be that have been sent


def kv_tokens(replica):
    return replica.held * replica.shape.block


def slow_pools(fleet, pools):
    """{name: [by pool]}: as it stands, and sums so far."""
    found = {name: [fleet.counts.get(p, {}).get(name, 0) for p in range(pools)] for name in (*SUMS, "ttft_s", "e2e_s")}
    for name in NOW[:4]:
        found[name] = [len(fleet.pool(p, name)) for p in range(pools)]
    active = [fleet.pool(p, "active") for p in range(pools)]
    found["queued"] = [len(fleet.queues.get(p, [])) for p in range(pools)]
    found["held"] = [len(fleet.holds.get(p, [])) + sum(r.pool == p for r in fleet.deferred) for p in range(pools)]
    found["waiting"] = [sum(len(r.waiting) for r in here) for here in active]
    found["running"] = [sum(len(r.running) for r in here) for here in active]
    found["outstanding_tokens"] = [sum(r.outstanding() for r in here) for here in active]
    room = [sum(r.shape.blocks * r.shape.block for r in here) for here in active]
    found["kv_fraction"] = [
        sum(map(kv_tokens, here)) / most if most else 0.0 for here, most in zip(active, room, strict=True)
    ]
    return found


def slow_replicas(fleet):
    rows = [r for r in fleet.replicas if r.state in ("starting", "active", "draining")]
    number = {id(shape): k for k, shape in enumerate(fleet.rules.shapes)}
    return [
        (
            r.pool, r.index, r.state, f"p{number[id(r.shape)]}", len(r.waiting), len(r.running),
            r.outstanding(), kv_tokens(r) / max(r.shape.blocks * r.shape.block, 1),
        )
        for r in sorted(rows, key=lambda r: (r.pool, r.index))
    ]  # fmt: skip


def slow_requests(fleet):
    where = {entry[3].number: ("travelling", -1) for entry in fleet.coming if entry[2] in WAY}
    for name, queues in (("queued", fleet.queues), ("held", fleet.holds), ("held", {0: fleet.deferred})):
        where |= {request.number: (name, -1) for queue in queues.values() for request in queue}
    for replica in fleet.replicas:
        where |= {r.number: ("running", replica.index) for r in replica.running if not r.ghost}
        where |= {r.number: ("waiting", replica.index) for r in replica.waiting}
    rows = []
    for number, (name, index) in sorted(where.items()):
        r = fleet.requests[number]
        first = np.inf if r.first is None else r.first
        unfilled = 0 if r.decodes else r.need
        rows.append(
            (
                number,
                r.pool,
                index,
                name,
                r.tier,
                r.arrival,
                r.input,
                r.predicted,
                r.own[1],
                r.generated,
                unfilled,
                first,
            )
        )
    return rows


def fast_rows(told, names):
    return list(zip(*(getattr(told, name).tolist() for name in names), strict=True))


REPLICA = ("pool", "replica", "state", "profile", "waiting", "running", "outstanding_tokens", "kv_fraction")
REQUEST = (
    "request", "pool", "replica", "where", "tier", "arrival_s", "input_tokens", "predicted_tokens", "foretold_tokens",
    "generated_tokens", "unfilled_tokens", "first_s",
)  # fmt: skip


def check(case, times):
    """How many requests were seen, over all looks."""
    slow, fast, so_far, pools = {}, {}, {}, len(case["counts"])

    def look(fleet):
        slow[fleet.now] = slow_pools(fleet, pools), slow_replicas(fleet), slow_requests(fleet)

    def sees(seen):
        done = seen.completions
        for name in SUMS:
            so_far[name] = so_far.get(name, np.zeros(pools)) + getattr(seen, name)
        for name in ("ttft_s", "e2e_s"):
            so_far[name] = so_far.get(name, np.zeros(pools)) + np.nan_to_num(getattr(seen, f"mean_{name}")) * done
        found = {name: getattr(seen, name).tolist() for name in NOW} | {n: x.tolist() for n, x in so_far.items()}
        fast[seen.t] = found, fast_rows(seen.replicas, REPLICA), fast_rows(seen.requests, REQUEST)

    play_slow(case, dict.fromkeys(times, look))
    play_fast(case, looks=dict.fromkeys(times, lambda replay, t: None), sees=sees)
    for t in sorted(set(slow) & set(fast)):
        for name, values in slow[t][0].items():
            assert fast[t][0][name] == pytest.approx(values, rel=1e-9, abs=1e-9), (t, name)
        for mine, theirs in zip(fast[t][1:], slow[t][1:], strict=True):
            assert len(mine) == len(theirs), (t, mine, theirs)
            for a, b in zip(mine, theirs, strict=True):
                assert a == tuple(pytest.approx(x, rel=1e-9, abs=1e-9) if isinstance(x, float) else x for x in b), t
    return sum(len(rows) for _, _, rows in slow.values())


@st.composite
def looked_at(draw):
    """A case, and times at which nothing is ordered: both look at what is there before any order."""
    case = draw(full_cases(sorted(draw(st.sets(st.sampled_from(FEATURES))))))
    case["tiers"] = [draw(st.integers(0, 2)) for _ in case["requests"]]
    times = [x / 8 for x in draw(st.lists(st.integers(1, 200), min_size=1, max_size=8, unique=True))]
    ordered = {float(t) for t in (*case["ticks"], *case.get("actions", {}))}
    return case, [t for t in times if t not in ordered]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False)
@given(looked_at())
def test_a_policy_sees_what_is_there(given):
    check(*given)
