"""The kernel equals the slow reference, request by request."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lmaas.replay import columns as c
from lmaas.replay.engine import NEVER, Controller, Extension, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile, Startup
from lmaas.replay.protocol import Actions
from reference import Fleet as SlowFleet
from reference import Latency as SlowLatency
from reference import Replica, Shape
from reference import Request as SlowRequest

ROUTERS = ["round-robin", "least-requests", "least-outstanding", "preserve"]


def coefficients(draw, exact):
    """Every coefficient nonzero; exact: dyadic numbers, so that equal times are equal floats."""
    unit = 1.0 if exact else draw(st.floats(0.3, 3.0))
    scale = lambda low, high, d: draw(st.integers(low, high)) / d * unit  # noqa: E731
    knots = [0, *sorted(draw(st.sets(st.integers(1, 40), max_size=3)))]
    return {
        "base": scale(1, 8, 4),
        "token_knots": knots,
        "token_slopes": [scale(1, 8, 16) for _ in knots],
        "attn_pair": scale(1, 4, 256),
        "prefix_kv": scale(1, 4, 128),
        "decode_seq": scale(1, 4, 64),
        "decode_kv": scale(1, 4, 256),
    }


@st.composite
def cases(draw, scaling=False):
    exact = draw(st.booleans())
    block = draw(st.sampled_from([1, 2, 4, 16]))
    pools = draw(st.integers(1, 3))
    shapes = []
    for _ in range(pools):
        shapes.append(
            {
                "latency": coefficients(draw, exact),
                "kv_tokens": draw(st.integers(2, 24)) * block + draw(st.integers(0, block - 1)),
                "block": block,
                "max_batch_tokens": draw(st.sampled_from([1, 3, 8, 32, 512])),
                "max_seqs": draw(st.integers(1, 6)),
            }
        )
    n = draw(st.integers(1, 40))
    gap = st.integers(0, 6) if exact else st.floats(0, 6)
    arrivals = np.cumsum([draw(gap) for _ in range(n)]).astype(float)
    number = lambda low, high: [draw(st.integers(low, high)) for _ in range(n)]  # noqa: E731
    requests = list(zip(arrivals, number(0, pools - 1), number(1, 40), number(1, 24), number(1, 30), number(0, 1)))
    counts = [draw(st.integers(1, 3)) for _ in range(pools)]
    ticks = {}
    if scaling:
        for _ in range(draw(st.integers(1, 6))):
            at = float(draw(st.integers(0, 80))) if exact else draw(st.floats(0.01, 80))
            ticks[at] = [draw(st.integers(0 if p else 1, 4)) for p in range(pools)]
    startup = draw(st.sampled_from([0.0, 3.0, 17.0]))
    return shapes, requests, counts, ticks, startup, draw(st.sampled_from(ROUTERS))


EXTEND_AT, EXTEND_BY = [0, 4, 9], [[3, 2, 7], [1, 5, 2]]


def slow(case):
    shapes, requests, counts, ticks, startup, router = case
    engines = [
        Shape(
            SlowLatency(*[s["latency"][f] for f in SLOW_FIELDS]),
            s["kv_tokens"],
            s["block"],
            s["max_batch_tokens"],
            s["max_seqs"],
        )
        for s in shapes
    ]

    def extend(request):
        if router == "preserve":
            return 30
        column = max(i for i, g in enumerate(EXTEND_AT) if g <= request.predicted)
        return EXTEND_BY[request.kind][column]

    begin = requests[0][0]
    replicas = [
        Replica(p, i, engines[p], started=begin) for p, count in enumerate(counts) for i in range(count)
    ]
    fleet = SlowFleet(replicas, router, extend)
    rows = [SlowRequest(k, *row) for k, row in enumerate(requests)]

    def act(wanted):
        def tick(fleet):
            for pool, count in enumerate(wanted):
                fleet.scale(pool, count, startup)

        return tick

    # the policy speaks only after the fleet began
    fleet.run(rows, {t: act(w) for t, w in ticks.items() if t > begin})
    return rows, fleet


SLOW_FIELDS = ["base", "token_knots", "token_slopes", "attn_pair", "prefix_kv", "decode_seq", "decode_kv"]


def fast(case):
    shapes, requests, counts, ticks, startup, router = case
    pools = tuple(
        Pool(
            f"s{k}",
            "r",
            Profile(
                name="p",
                startup_s=Startup(cold=startup),
                **{**s, "latency": Latency(**s["latency"])},
            ),
            minimum=0,
        )
        for k, s in enumerate(shapes)
    )
    columns = [np.array(x) for x in zip(*requests)]
    table = Requests(columns[0], columns[1], columns[2], columns[3], columns[4].astype(float), columns[5])
    times = sorted(ticks)
    controller = NEVER
    if ticks:
        controller = Controller(
            lambda t: next((x for x in times if x > t), np.inf),
            lambda t, seen: Actions(dict(enumerate(ticks[t]))),
        )
    replay = Replay(
        table, Fleet(pools), counts, router, controller, Extension(np.array(EXTEND_AT), np.array(EXTEND_BY)), scales=True
    )
    return replay.run(), replay


def same(slow_rows, fleet, outcome):
    status = {"ok": c.OK, "rejected": c.REJECTED, "waiting": c.UNSERVED}
    numbers = dict(outcome.replicas.select("record", "replica").iter_rows())
    for k, row in enumerate(slow_rows):
        assert outcome.status[k] == status[row.status], (k, row)
        if row.status == "waiting":
            continue
        assert numbers[outcome.record[k]] == row.replica, (k, row)
        if row.status == "ok":
            assert outcome.preemptions[k] == row.preemptions, (k, row)
            for mine, theirs in ((outcome.admitted_s, row.admitted), (outcome.first_s, row.first), (outcome.done_s, row.done)):
                assert math.isclose(mine[k], theirs, rel_tol=1e-9, abs_tol=1e-9), (k, row, mine[k])
    live = {(r.pool, r.index): (r.state, r.off) for r in fleet.replicas}
    assert len(live) == len(outcome.replicas)


quick = settings(max_examples=150, report_multiple_bugs=False, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(cases())
def test_fixed_fleet_equals_reference(case):
    rows, fleet = slow(case)
    outcome, _ = fast(case)
    same(rows, fleet, outcome)


@quick
@given(cases(scaling=True))
def test_scaled_fleet_equals_reference(case):
    rows, fleet = slow(case)
    outcome, _ = fast(case)
    same(rows, fleet, outcome)
