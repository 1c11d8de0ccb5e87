"""A replay case as plain data, played by the slow reference and by the kernel."""

import math

import numpy as np
from reference import Fleet as SlowFleet
from reference import Latency as SlowLatency
from reference import Replica, Shape
from reference import Request as SlowRequest

from lmaas.replay import columns as c
from lmaas.replay.engine import NEVER, Controller, Extension, Outcome, Replay, Requests
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, Profile, Startup
from lmaas.replay.protocol import Actions

ROUTERS = ["round-robin", "least-requests", "least-outstanding", "preserve"]
EXTEND_AT, EXTEND_BY = [0, 4, 9], [[3, 2, 7], [1, 5, 2]]
FIELDS = ["base", "token_knots", "token_slopes", "attn_pair", "prefix_kv", "decode_seq", "decode_kv"]

# A case is a dict: shapes [{latency: {FIELDS}, kv_tokens, block, max_batch_tokens, max_seqs}], one a pool; requests
# [[arrival_s, pool, input, output, predicted, kind]]; counts [replicas a pool]; ticks {time: [replicas a pool]};
# startup (s); router.


def play_slow(case):
    """(requests, fleet) as the reference leaves them."""
    engines = [
        Shape(
            SlowLatency(*[s["latency"][f] for f in FIELDS]),
            s["kv_tokens"],
            s["block"],
            s["max_batch_tokens"],
            s["max_seqs"],
        )
        for s in case["shapes"]
    ]

    def extend(request):
        if case["router"] == "preserve":
            return 30
        column = max(i for i, g in enumerate(EXTEND_AT) if g <= request.predicted)
        return EXTEND_BY[request.kind][column]

    begin = case["requests"][0][0]
    replicas = [Replica(p, i, engines[p], started=begin) for p, n in enumerate(case["counts"]) for i in range(n)]
    fleet = SlowFleet(replicas, case["router"], extend)
    rows = [SlowRequest(k, *row) for k, row in enumerate(case["requests"])]

    def act(wanted):
        def tick(fleet):
            for pool, count in enumerate(wanted):
                fleet.scale(pool, count, case["startup"])

        return tick

    # the policy speaks only after the fleet began
    fleet.run(rows, {float(t): act(w) for t, w in case["ticks"].items() if float(t) > begin})
    return rows, fleet


def play_fast(case) -> tuple[Outcome, Replay]:
    """(outcome, replay) of the kernel."""
    pools = tuple(
        Pool(
            f"s{k}",
            "r",
            Profile(name="p", startup_s=Startup(cold=case["startup"]), **{**s, "latency": Latency(**s["latency"])}),
            minimum=0,
        )
        for k, s in enumerate(case["shapes"])
    )
    columns = [np.array(x) for x in zip(*case["requests"], strict=True)]
    table = Requests(columns[0], columns[1], columns[2], columns[3], columns[4].astype(float), columns[5])
    ticks = {float(t): wanted for t, wanted in case["ticks"].items()}
    times = sorted(ticks)
    controller = NEVER
    if ticks:
        controller = Controller(
            lambda t: next((x for x in times if x > t), np.inf), lambda t, seen: Actions(dict(enumerate(ticks[t])))
        )
    replay = Replay(
        table,
        Fleet(pools),
        case["counts"],
        case["router"],
        controller,
        Extension(np.array(EXTEND_AT), np.array(EXTEND_BY)),
        scales=True,
    )
    return replay.run(), replay


def expected(rows) -> list[list]:
    """Per request: status, replica, preemptions, admitted, first, done; None where undefined."""
    return [
        [r.status, r.replica if r.status != "waiting" else None, r.preemptions, r.admitted, r.first, r.done]
        for r in rows
    ]


STATUS = {"ok": c.OK, "rejected": c.REJECTED, "waiting": c.UNSERVED}


def assert_same(wanted: list[list], outcome: Outcome, rel: float = 1e-9) -> None:
    """Every request: same end, replica, preemptions; times within `rel`."""
    numbers = dict(outcome.replicas.select("record", "replica").iter_rows())
    for k, (status, replica, preemptions, *times) in enumerate(wanted):
        assert outcome.status[k] == STATUS[status], (k, status)
        if status == "waiting":
            continue
        assert numbers[outcome.record[k]] == replica, k
        if status == "ok":
            assert outcome.preemptions[k] == preemptions, k
            for mine, theirs in zip((outcome.admitted_s, outcome.first_s, outcome.done_s), times, strict=True):
                assert math.isclose(mine[k], theirs, rel_tol=rel, abs_tol=1e-9), (k, mine[k], theirs)


def _lasting(spans, end_s):
    """[[state, from, to]] up to end_s, without empty ones; a state that goes on after one is one span."""
    kept: list[list] = []
    for state, begin, end in spans:
        end = end_s if end is None else min(end, end_s)
        if math.isclose(begin, end, rel_tol=1e-9, abs_tol=1e-9) or begin > end:
            continue
        if kept and kept[-1][0] == state and math.isclose(kept[-1][2], begin, rel_tol=1e-9, abs_tol=1e-9):
            kept[-1][2] = end
        else:
            kept.append([state, begin, end])
    return kept


def _same_times(wanted, found, what) -> None:
    assert len(wanted) == len(found), (what, wanted, found)
    close = [math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in zip(wanted, found, strict=True)]
    assert all(close), (what, wanted, found)


def _started(replica) -> list[tuple]:
    """Its spans; a start that ends after the reference's last instant ends none the less."""
    spans = replica.spans()
    if spans and spans[-1][0] == "starting" and spans[-1][2] is None:
        return [*spans[:-1], ("starting", spans[-1][1], replica.ready), ("active", replica.ready, None)]
    return spans


def same_lives(fleet, outcome: Outcome) -> None:
    """Every replica is in each state from when to when the reference's is, and as long busy; actions are the same."""
    spans: dict[tuple, list] = {}
    for _, pool, replica, *span in outcome.spans.sort("record", "from_s", maintain_order=True).iter_rows():
        spans.setdefault((pool, replica), []).append(span)
    busy: dict[tuple, list] = {}  # by start: each is a record
    for record, *who in outcome.replicas.select("record", "pool", "replica").iter_rows():
        busy.setdefault(tuple(who), []).append(outcome.busy_s[record])
    assert sorted(busy) == sorted((r.pool, r.index) for r in fleet.replicas)
    for replica in fleet.replicas:
        who = (replica.pool, replica.index)
        wanted, found = (_lasting(x, outcome.end_s) for x in (_started(replica), spans.get(who, [])))
        assert [s[0] for s in wanted] == [s[0] for s in found], (who, wanted, found)
        _same_times([t for s in wanted for t in s[1:]], [t for s in found for t in s[1:]], (who, "spans"))
        _same_times(replica.busy, busy[who], (who, "busy"))
    _same_times(fleet.actions, outcome.actions_s.tolist(), "actions")
