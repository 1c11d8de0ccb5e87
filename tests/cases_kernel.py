"""The extended case of `cases_full`, played by the kernel."""

from unittest.mock import patch

import numpy as np
from cases import EXTEND_AT
from cases_full import EXTENDS, FRUITLESS
from conftest import ROOT

from lmaas.replay.engine import NEVER, Controller, Extension, Replay, Requests
from lmaas.replay.fleet import Clients, Fault, Fleet, Hold, Pool, RegionChoice
from lmaas.replay.orders import carry_out
from lmaas.replay.profile import Latency, Profile, Startup
from lmaas.replay.protocol import NOTHING, Actions

HOLDER = (
    str(ROOT / "tests" / "fixtures" / "holding_router.py")
    + ":HOLDER(most={most}, never={never}, heartbeat_s={beat}, refusals={refusals})"
)
SHAPE_FIELDS = ("latency", "kv_tokens", "block", "max_batch_tokens", "max_seqs")


def profiles(case) -> list[Profile]:
    startup = case.get("startup", 0.0)
    startup = startup if isinstance(startup, dict) else dict.fromkeys(("cold", "warm", "swap"), startup)
    return [
        Profile(
            name=f"p{k}",
            startup_s=Startup(**startup),
            gpu=shape.get("gpu"),
            gpus_per_replica=shape.get("gpus", 1),
            kv_bytes_per_token=int(shape.get("kv_bytes_per_token", 0)) or None,
            **{field: shape[field] for field in SHAPE_FIELDS if field != "latency"},
            latency=Latency(**shape["latency"]),
        )
        for k, shape in enumerate(case["shapes"])
    ]


def fleet_of(case, shapes) -> Fleet:
    pools = len(case["counts"])
    service, region = case.get("pool_service", [0] * pools), case.get("pool_region", [0] * pools)
    regions = sorted({*region, *case.get("origin", []), *range(len(case.get("latency_s", [])))})
    faults = [
        Fault(at_s=f[0], pool=f[2], replica=f[3]) if f[1] == "replica" else Fault(f[0], f"r{f[2]}", until_s=f[3])
        for f in case.get("faults", [])
    ]
    rule = case.get("region_rule", ["home"])
    lanes = case.get("lanes", [f"l{p}" for p in range(pools)])
    release = case.get("release")
    return Fleet(
        tuple(
            Pool(f"s{service[p]}", f"r{region[p]}", shapes[p], minimum=0, maximum=most, lane=lanes[p])
            for p, most in enumerate(case.get("most", [None] * pools))
        ),
        regions=tuple(f"r{r}" for r in regions) if "pool_service" in case else (),
        latency_s=tuple(map(tuple, case.get("latency_s", []))),
        inventory={f"r{r}": gpus for r, gpus in case.get("inventory", {}).items()},
        faults=tuple(faults),
        clients=Clients(**case["clients"]) if "clients" in case else None,
        region_choice=RegionChoice(*rule),
        kv_bandwidth_gb_s=min((s["bandwidth"] / 1e9 for s in case["shapes"] if "bandwidth" in s), default=None),
        hold=Hold(("batch",), *(release or (None, None)), tuple(case.get("releases", (2, 1)))),
    )


def requests_of(case) -> Requests:
    columns = [np.array(x) for x in zip(*case["requests"], strict=True)]
    n = len(case["requests"])
    given = {
        "rank": case.get("rank"),
        "held": case.get("held"),
        "origin": case.get("origin"),
        "tier": case.get("tiers"),
    }
    if "service" in case:  # any pool of the service stands for it
        lanes = case.get("lanes", [])
        pool_of = {s: p for p, s in enumerate(case["pool_service"]) if not lanes or lanes[p] != "decode"}
        columns[1] = np.array([pool_of[s] for s in case["service"]])
    if "sessions" in case:
        given |= {"follow": case["sessions"]["next"], "think_s": case["sessions"]["think_s"]}
    if "hashes" in case:
        counts = [
            min(len(h), r[2] // case["hash_tokens"]) for h, r in zip(case["hashes"], case["requests"], strict=True)
        ]
        flat = [x for h, m in zip(case["hashes"], counts, strict=True) for x in h[:m]]
        given |= {"hashes": np.array([*flat, 0], np.uint64), "hash_n": counts}
        given |= {"hash_at": np.concatenate([[0], np.cumsum(counts)[:-1]])}
    arrays = {name: np.asarray(x) for name, x in given.items() if x is not None}
    arrival = columns[0].astype(float)
    assert len(arrival) == n
    return Requests(
        arrival, *columns[1:4], columns[4].astype(float), columns[5], **arrays, hash_tokens=case.get("hash_tokens", 0)
    )


def action_of(order, names) -> Actions:
    what, *rest = order
    if what == "reshape":
        return Actions(reshape=[(rest[0], rest[1], names[rest[2]])])
    if what in ("scale_of", "donate_of"):
        pool, shape, n = rest
        return Actions(**{{"scale_of": "replicas_of"}.get(what, what): {(pool, names[shape]): n}})
    if what == "regroup":
        pool, leaving, shapes, start_s = rest
        return Actions(regroup=[(pool, leaving, [names[s] for s in shapes], start_s)])
    if what == "migrate":
        return Actions(migrate=[tuple(rest)])
    return Actions(**{{"scale": "replicas"}.get(what, what): {rest[0]: rest[1]}})


def play_fast(case, router=None, looks=None, check=True, sees=None, **more):
    """(outcome, replay) of the kernel; orders of one tick are carried out one after another.

    looks {time: function of the replay and the time}, called after that tick; sees: function of what every tick sees,
    called within it, before its orders; router: in place of the case's;
    check: conservation is checked while it runs, often.
    """
    looks = looks or {}
    shapes = profiles(case)
    orders = {float(t): [["scale", p, n] for p, n in enumerate(w)] for t, w in case.get("ticks", {}).items()}
    for t, given in case.get("actions", {}).items():
        orders.setdefault(float(t), []).extend(given)
    times = sorted({*orders, *looks})

    names = [shape.name for shape in shapes]

    def act(t, seen):
        if sees is not None:
            sees(seen)
        for order in orders.get(t, []):
            carry_out(action_of(order, names), replay.life, replay.router, t)
        if t in looks:
            looks[t](replay, t)
        return NOTHING

    controller = Controller(lambda t: next((x for x in times if x > t), np.inf), act) if times else NEVER
    with patch("lmaas.replay.world.FRUITLESS", FRUITLESS):
        replay = _replay(case, shapes, controller, router, more)
    with patch("lmaas.replay.engine.CHECKED", 4):
        return replay.run(check), replay


def _extension(case) -> Extension:
    edges = np.array(case.get("edges", []), np.int64)
    return Extension(np.array(EXTEND_AT), np.array(EXTENDS[: 2 * (len(edges) + 1)]), edges)


def _replay(case, shapes, controller, router, more) -> Replay:
    if router is None:
        router = case["router"]
    if router == "holder":
        router = HOLDER.format(**case["holder"], beat=case["heartbeat_s"], refusals=case.get("refusals", 0))
    return Replay(
        requests_of(case),
        fleet_of(case, shapes),
        case["counts"],
        router,
        controller,
        _extension(case),
        scales=True,
        begin_s=case["requests"][0][0],
        profiles=shapes,
        **more,
    )
