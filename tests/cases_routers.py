"""Cases that tell routers apart: mixed profiles, kinds, sessions, shared prefixes, scaling; by both fleets.

A case is one of `cases.py` that may have hash_tokens and hashes (cases_kernel.py); it has `sessions_of` [int per
request, -1: none], `mixed` (replicas of the last shape in pool 0, beside its own), `most` [replicas by pool], `given`
(the router's parameters).
"""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
from cases import EXTEND_AT, EXTEND_BY, FIELDS
from cases_full import FRUITLESS
from cases_kernel import profiles, requests_of
from hypothesis import strategies as st
from reference import Fleet as SlowFleet
from reference import Latency, Replica, Request, Rules, Shape

from lmaas.replay.engine import NEVER, Controller, Extension, Replay
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.protocol import Actions
from lmaas.replay.routernames import ready
from lmaas.replay.routers import ROUTERS
from lmaas.replay.steplaw import step_law

GIVEN = {
    "random": {"seed": [0, 1, 4_000_000_000]},
    "power-of-two": {"seed": [0, 7]},
    "weighted": {"weights": [[[1]], [[3, 1], [1, 2]], [[0, 1], [2, 0]], [[5, 1, 1]], [[0, 0], [1, 1]]]},
    "weighted-least": {
        "weights": [[[1]], [[3, 1], [1, 2]], [[0, 1], [2, 0]], [[0, 0], [1, 1]]],
        "rates": [[[0]], [[1]], [[4, 1], [1, 2]], [[0, 1], [2, 0]]],
    },
    "prefix-aware": {"spread": [0, 2, 16], "sigmas": [0, 1, 2]},
    "scored": {
        "prefix": [0, 2],
        "queue": [0, 1],
        "kv": [0.5, 1],
        "queue_over": [0, 1, 5],
        "kv_over": [0.01, 0.25, 0.8],
    },
    "preserve": {"kappa": [2.0, 0.5]},
    "preserve-anticipated": {"kappa": [2.0, 0.5, 0.0], "lookahead": [1, 3, 20, 100]},
    "aladdin": {
        "ttft_s": [5.0, 40.0, 1000.0],
        "atgt_s": [2.5, 8.0, 40.0],
        "theta_ttft": [1.0, 0.5],
        "theta_atgt": [1.0, 0.5],
        "gamma": [0.5, 1.0],
        "heartbeat_s": [0.0, 0.5, 4.0],
        "refusals": [0, 1, 3],
        "no_harm": [1, 0],
        "limits": [[[0, 0]], [[20.0, 5.0, 0, 3.0]], [[0, 0, 60.0, 30.0], [9.0, 4.0, 0, 0]]],
    },
}


@st.composite
def router_cases(draw, names=tuple(ROUTERS)):
    name = draw(st.sampled_from(names))
    pools, block, n = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 40))
    hash_tokens = draw(
        st.sampled_from([0, 4])
    )  # a cache comes with room for all: which block is evicted is no router's
    shapes = [
        {
            "latency": {
                "base": draw(st.integers(1, 8)) / 4, "token_knots": [0], "token_slopes": [draw(st.integers(1, 8)) / 16],
                "attn_pair": 1 / 256, "prefix_kv": 1 / 128, "decode_seq": draw(st.integers(1, 4)) / 64,
                "decode_kv": draw(st.integers(1, 4)) / 256,
            },
            "kv_tokens": 6000 if hash_tokens else draw(st.integers(4, 24)) * 4,
            "block": block,
            "max_batch_tokens": draw(st.sampled_from([3, 8, 32, 512])),
            "max_seqs": draw(st.integers(1, 6)),
        }
        for _ in range(pools + 1)
    ]  # fmt: skip
    arrivals = np.cumsum([draw(st.integers(0, 5)) for _ in range(n)]).astype(float).tolist()

    def numbers(low, high):
        return [draw(st.integers(low, high)) for _ in range(n)]

    columns = (arrivals, numbers(0, pools - 1), numbers(1, 40), numbers(1, 24), numbers(1, 30), numbers(0, 1))
    requests = [list(row) for row in zip(*columns, strict=True)]
    hashes = []
    for row in requests:
        node, path = draw(st.integers(2, 3)), []
        for _ in range(row[2] // hash_tokens if hash_tokens else 0):
            path.append(node)
            node = 2 * node + draw(st.sampled_from([0, 0, 0, 1]))
        hashes.append(path)
    ticks = {}
    for _ in range(draw(st.integers(0, 5))):
        ticks[float(draw(st.integers(1, 80)))] = [draw(st.integers(0 if p else 1, 5)) for p in range(pools)]
    return {
        "shapes": shapes,
        "requests": requests,
        **({"hash_tokens": hash_tokens, "hashes": hashes} if hash_tokens else {}),
        "sessions_of": [s if s < 3 else s << 31 for s in numbers(-1, 6)],
        "tiers": numbers(0, 2),
        "counts": [draw(st.integers(1, 4)) for _ in range(pools)],
        "mixed": draw(st.integers(0, 2)),
        "ticks": ticks,
        "startup": draw(st.sampled_from([0.0, 3.0, 17.0])),
        "most": [draw(st.integers(4, 6)) for _ in range(pools)],
        "router": name,
        "given": {p: draw(st.sampled_from(values)) for p, values in GIVEN.get(name, {}).items()},
    }


def play_slow(case):
    """(requests, fleet) as the reference leaves them."""
    shapes = [
        Shape(
            Latency(*[s["latency"][f] for f in FIELDS]),
            *[s[f] for f in ("kv_tokens", "block", "max_batch_tokens", "max_seqs")],
            hash_tokens=case.get("hash_tokens", 0),
        )
        for s in case["shapes"]
    ]

    def extend(request):
        if case["router"] == "preserve":
            return 30
        return EXTEND_BY[request.kind][max(i for i, g in enumerate(EXTEND_AT) if g <= request.predicted)]

    begin, counts = case["requests"][0][0], case["counts"]
    replicas = [Replica(p, i, shapes[p], started=begin) for p, n in enumerate(counts) for i in range(n)]
    replicas += [Replica(0, counts[0] + i, shapes[-1], started=begin) for i in range(case["mixed"])]
    rules = Rules(
        shapes=shapes,
        startup=dict.fromkeys(("cold", "warm", "swap"), case["startup"]),
        heartbeat_s=case["given"].get("heartbeat_s", 0.0),
        fruitless=FRUITLESS,
        refusals=case["given"].get("refusals", 0),
        most=case["most"],
    )
    fleet = SlowFleet(replicas, case["router"], extend, case["given"].get("kappa", 2.0), rules=rules)
    fleet.given = case["given"]
    laws = {id(shape): step_law(profile) for shape, profile in zip(shapes, profiles(case), strict=True)}
    fleet.law = lambda shape: laws[id(shape)]
    fleet.profiles = [shapes[0], *shapes[-1:] * (case["mixed"] > 0), *shapes[1:-1]]  # in the order the fleet names them
    rows = [Request(k, *row) for k, row in enumerate(case["requests"])]
    given = zip(rows, case["sessions_of"], case["tiers"], case.get("hashes", [()] * len(rows)), strict=True)
    for row, session, tier, hashes in given:
        row.session, row.tier, row.hashes = session, tier, hashes

    def act(wanted):
        return lambda fleet: [fleet.scale(pool, count) for pool, count in enumerate(wanted)]

    fleet.run(rows, {t: act(w) for t, w in case["ticks"].items() if t > begin})
    return rows, fleet


def play_fast(case, linear=True, scales=True):
    """(outcome, replay) of the kernel; linear=False: the scanning function in place of weights."""
    *own, odd = profiles(case)
    mixed = ((odd, case["mixed"]),) if case["mixed"] else ()
    pools = tuple(
        Pool(f"s{p}", "r", own[p], minimum=0, maximum=case["most"][p], mixed=() if p else mixed)
        for p in range(len(own))
    )
    times, controller = sorted(case["ticks"]), NEVER
    if times:
        controller = Controller(
            lambda t: next((x for x in times if x > t), np.inf),
            lambda t, seen: Actions(dict(enumerate(case["ticks"][t]))),
        )
    router = ready(case["router"], 0)
    router = replace(router, params={**router.params, **case["given"]}, weights=router.weights if linear else None)
    columns = {"session": np.array(case["sessions_of"], np.int64), "tier": np.array(case["tiers"], np.int64)}
    table = replace(requests_of(case), **columns)
    extension = Extension(np.array(EXTEND_AT), np.array(EXTEND_BY))
    scanned = 32 * (len(case["requests"]) % 2)  # small pools have a tree in every other case
    with (
        patch("lmaas.replay.world.TREE_SLOTS", 0),
        patch("lmaas.replay.world.SCANNED_SLOTS", scanned),
        patch("lmaas.replay.world.FRUITLESS", FRUITLESS),
    ):
        replay = Replay(table, Fleet(pools), case["counts"], router, controller, extension, scales=scales)
    assert int(replay.st.ctl.linear[0]) == (router.weights is not None)
    return replay.run(), replay
