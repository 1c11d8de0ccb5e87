"""A replay case with every feature as plain data, played by the slow reference; and a strategy that draws such cases.

Beside the keys of `cases.py`, each optional:

- rank: [float per request]; tiers: [int per request]
- lanes: [shared, prefill or decode per pool]
- pool_service, pool_region: [int per pool]; latency_s: [[one way, s]]; service, origin: [int per request]
- region_rule: ["home"] or ["threshold", u]
- clients: {timeout_s, retries, backoff_s, factor}
- sessions: {next: [request or -1], think_s: [pause before that request's turn]}
- faults: [[at_s, "replica", pool, index] or [at_s, "region", region, until_s]]
- held: [bool per request]; release: [low, high]; releases: [below low, below high]
- actions: {time: [["scale", pool, n], ["donate", pool, n], ["reshape", pool, index, shape],
  ["regroup", pool, [index], [shape], start_s or None], ["migrate", request, pool, index], ["release", pool, n]]},
  after the counts of `ticks` of that time
- inventory: {region: {gpu: count}}; shapes then have gpu and gpus; startup may be {cold, warm, swap, cv}
- hash_tokens: H; hashes: [[int per whole prompt block] per request]
- edges: [int] between the buckets of predictions at arrival, each with its row of EXTENDS
- holder: {most, never} of the router that holds (fixtures/holding_router.py); heartbeat_s; refusals;
  most: [replicas per pool]
- shapes may have kv_bytes_per_token and bandwidth (bytes/s); those beyond the pools are for reshaping
"""

from cases import EXTEND_AT, EXTEND_BY, FIELDS, ROUTERS
from hypothesis import strategies as st
from reference import Fleet, Latency, Replica, Request, Rules, Shape

EXTENDS = [*EXTEND_BY, [2, 2, 2], [4, 1, 3], [1, 1, 1], [6, 2, 5]]  # a row a kind and bucket
SHAPE = ["kv_tokens", "block", "max_batch_tokens", "max_seqs"]
FRUITLESS = 3  # heartbeats in a row before the heart stops
SHAPE_OPTIONS = ["gpu", "gpus", "kv_bytes_per_token", "bandwidth"]


def shape_of(case, shape):
    options = {k: shape[k] for k in SHAPE_OPTIONS if k in shape}
    latency = Latency(*[shape["latency"][f] for f in FIELDS])
    return Shape(latency, *[shape[f] for f in SHAPE], hash_tokens=case.get("hash_tokens", 0), **options)


def rules_of(case):
    startup = case["startup"]
    clients = case.get("clients", {})
    sessions = case.get("sessions", {"next": [], "think_s": []})
    rule = case.get("region_rule", ["home"])
    return Rules(
        shapes=[shape_of(case, s) for s in case["shapes"]],
        lanes=case.get("lanes", []),
        service_of=case.get("pool_service", []),
        pool_region=case.get("pool_region", [0] * len(case["counts"])),
        pool_service=case["pool_service"] if "service" in case else [],
        latency_s=case.get("latency_s", []),
        threshold=rule[1] if rule[0] == "threshold" else None,
        **clients,
        next=sessions["next"],
        think_s=sessions["think_s"],
        faults=case.get("faults", []),
        release=case.get("release"),
        releases=case.get("releases", (2, 1)),
        inventory={int(region): gpus for region, gpus in case.get("inventory", {}).items()},
        startup=startup if isinstance(startup, dict) else dict.fromkeys(("cold", "warm", "swap"), startup),
        heartbeat_s=case.get("heartbeat_s", 0.0),
        fruitless=FRUITLESS,
        refusals=case.get("refusals", 0),
        most=case.get("most", []),
    )


def requests_of(case):
    def column(name, default):
        return case.get(name) or [default] * len(case["requests"])

    columns = zip(
        column("rank", 0.0),
        column("service", 0),
        column("origin", 0),
        column("held", False),
        column("hashes", []),
        column("tiers", 0),
        strict=True,
    )
    rows = []
    for k, (row, (rank, service, origin, held, hashes, tier)) in enumerate(zip(case["requests"], columns, strict=True)):
        arrival, pool, *rest = row
        pool = -1 if "service" in case else pool  # the region rule chooses
        request = Request(k, arrival, pool, *rest, rank=rank, service=service, origin=origin, held=held, hashes=hashes)
        request.tier = tier
        rows.append(request)
    return rows


def play_slow(case, looks=None):
    """(requests, fleet) as the reference leaves them; `looks` {time: function of the fleet} is called after a tick."""
    looks = looks or {}
    rules = rules_of(case)

    def extend(request):
        if case["router"] == "preserve":
            return 30
        edges = case.get("edges", [])
        bucket = sum(edge < request.own[1] for edge in edges)  # by the prediction at arrival
        column = max(i for i, g in enumerate(EXTEND_AT) if g <= request.predicted)
        return EXTENDS[request.kind * (len(edges) + 1) + bucket][column]

    def act(wanted, actions, look):
        def tick(fleet):
            for pool, count in enumerate(wanted):
                fleet.scale(pool, count)
            for name, *arguments in actions:
                getattr(fleet, name)(*arguments)
            if look is not None:
                look(fleet)

        return tick

    begin = case["requests"][0][0]
    replicas = [Replica(p, i, rules.shapes[p], started=begin) for p, n in enumerate(case["counts"]) for i in range(n)]
    fleet = Fleet(replicas, case["router"], extend, rules=rules)
    fleet.given = case.get("holder", {})
    rows = requests_of(case)
    ticks = {float(t): wanted for t, wanted in case["ticks"].items()}
    actions = {float(t): named for t, named in case.get("actions", {}).items()}
    # the policy speaks only after the fleet began
    times = [t for t in {**ticks, **actions, **looks} if t > begin]
    fleet.run(rows, {t: act(ticks.get(t, []), actions.get(t, []), looks.get(t)) for t in times})
    return rows, fleet


# drawing: times are eighths of a second, so that equal times are equal floats and ties happen


def eighths(draw, low, high):
    return draw(st.integers(low * 8, high * 8)) / 8


def latency(draw):
    """Mostly plain: ties; at times every coefficient nonzero."""
    plain = draw(st.booleans())

    def coefficient(high, divisor):
        return 0.0 if plain else draw(st.integers(1, high)) / divisor

    return {
        "base": draw(st.integers(1, 4)) / 8,
        "token_knots": [0],
        "token_slopes": [coefficient(4, 16)],
        "attn_pair": coefficient(2, 256),
        "prefix_kv": coefficient(2, 256),
        "decode_seq": coefficient(2, 64),
        "decode_kv": coefficient(2, 256),
    }


def prefix(draw, tokens, hash_tokens):
    """Hashes of the whole blocks of a prompt; a hash names its whole prefix: two ways on at every depth."""
    hashes, node = [], 1
    for _ in range(tokens // hash_tokens):
        node = 2 * node + draw(st.integers(0, 1) if draw(st.booleans()) else st.just(0))
        hashes.append(node)
    return hashes


def an_action(draw, case, pools):
    kind = draw(
        st.sampled_from(
            ["scale", "scale_of", "donate", "donate_of", "reshape", *["regroup"] * 2, "release", *["migrate"] * 6]
        )
    )
    pool = draw(st.integers(0, pools - 1))
    if kind == "reshape":
        return [kind, pool, draw(st.integers(0, 3)), draw(st.integers(0, len(case["shapes"]) - 1))]
    if kind in ("scale_of", "donate_of"):
        shape = draw(st.integers(0, len(case["shapes"]) - 1))
        return [kind, pool, shape, draw(st.integers(0 if kind == "scale_of" else 1, 3))]
    if kind == "regroup":
        leaving = draw(st.lists(st.integers(0, 3), max_size=3, unique=True))
        shapes = draw(st.lists(st.integers(0, len(case["shapes"]) - 1), max_size=3))
        return [kind, pool, leaving, shapes, draw(st.sampled_from([None, 0.0, 0.5, 2.0]))]
    if kind == "migrate":
        number = draw(st.integers(0, len(case["requests"]) - 1))
        if "service" in case:  # only to a pool that serves it
            pool = draw(
                st.sampled_from([p for p, s in enumerate(case["pool_service"]) if s == case["service"][number]])
            )
        return [kind, number, pool, draw(st.integers(0, case["counts"][pool] - 1))]
    # scale, donate, release
    return [kind, pool, draw(st.integers(0 if kind == "scale" else 1, 3))]


FEATURES = [
    "rank",
    "regions",
    "lanes",
    "clients",
    "sessions",
    "faults",
    "hold",
    "cache",
    "actions",
    "ticks",
    "inventory",
    "holder",
]


@st.composite
def full_cases(draw, features=None, most=24):
    """`features`: those switched on; None draws them."""
    on = draw(st.sets(st.sampled_from(FEATURES), min_size=1)) if features is None else set(features)
    block = draw(st.sampled_from([1, 2, 4]))
    pools = draw(st.integers(2, 4) if "lanes" in on else st.integers(1, 3))
    case = {"router": draw(st.sampled_from(ROUTERS)), "ticks": {}}
    case["shapes"] = [
        {
            "latency": latency(draw),
            "kv_tokens": draw(st.integers(6, 20)) * block + draw(st.integers(0, block - 1)),
            "block": block,
            "max_batch_tokens": draw(st.sampled_from([2, 8, 64])),
            "max_seqs": draw(st.integers(1, 5)),
        }
        for _ in range(pools + draw(st.integers(0, 1)))
    ]
    n = draw(st.integers(most // 4, most))
    at = [0.0]
    for _ in range(n - 1):
        at.append(at[-1] + draw(st.integers(0, 8)) / 8)
    long = 6 * block

    def whole(low, high):
        return [draw(st.integers(low, high)) for _ in range(n)]

    columns = (at, whole(0, pools - 1), whole(1, long), whole(1, long), whole(1, long), whole(0, 1))
    case["requests"] = [list(row) for row in zip(*columns, strict=True)]
    case["counts"] = [draw(st.integers(1, 3)) for _ in range(pools)]
    case["startup"] = draw(st.sampled_from([0.0, 0.5, 3.0, {"cold": 2.0, "warm": 0.5, "swap": 1.0, "cv": 0.5}]))
    case["edges"] = draw(st.sampled_from([[], [3], [2, 5]]))
    for name in FEATURES:  # in this order: later ones look at earlier ones
        if name in on:
            ADD[name](draw, case, n, pools, at[-1] + 8)
    return case


def add_rank(draw, case, n, pools, end):
    case["rank"] = [float(draw(st.integers(0, 3))) for _ in range(n)]


def add_regions(draw, case, n, pools, end):
    regions = draw(st.integers(1, 3))
    case["pool_region"] = [draw(st.integers(0, regions - 1)) for _ in range(pools)]
    case["pool_service"] = [0, *[draw(st.integers(0, 1)) for _ in range(pools - 1)]]
    afar = draw(st.booleans())  # all come from a region without pools
    regions += afar
    case["latency_s"] = [[0.0 if a == b else eighths(draw, 0, 1) for b in range(regions)] for a in range(regions)]
    case["service"] = [draw(st.sampled_from(case["pool_service"])) for _ in range(n)]
    case["origin"] = [draw(st.integers(regions - 1 if afar else 0, regions - 1)) for _ in range(n)]
    case["region_rule"] = draw(st.sampled_from([["home"], ["threshold", 0.25], ["threshold", 0.7]]))


def add_lanes(draw, case, n, pools, end):
    """Some pools of each service with lanes; what a request was given is a pool that arrivals come to."""
    services = case.get("pool_service", [0] * pools)
    case["lanes"] = ["shared"] * pools
    for service in set(services):
        mine = draw(st.permutations([p for p, s in enumerate(services) if s == service]))
        kinds = ["prefill", "decode", *(draw(st.sampled_from(["prefill", "decode", "shared"])) for _ in mine[2:])]
        if len(mine) > 1:
            for pool, lane in zip(mine, kinds, strict=True):
                case["lanes"][pool] = lane
    come = [p for p, lane in enumerate(case["lanes"]) if lane != "decode"]
    for row in case["requests"]:
        row[1] = come[row[1] % len(come)]
    for shape in case["shapes"]:
        shape["kv_bytes_per_token"], shape["bandwidth"] = draw(st.sampled_from([0.0, 64.0, 256.0])), 1024.0


def add_clients(draw, case, n, pools, end):
    case["clients"] = {
        "timeout_s": draw(st.sampled_from([0.5, 2.0, 4.0, 8.0])),
        "retries": draw(st.integers(0, 3)),
        "backoff_s": eighths(draw, 0, 1),
        "factor": draw(st.sampled_from([1.0, 2.0])),
    }


def add_sessions(draw, case, n, pools, end):
    after = [-1] * n
    taken = set()
    for k in range(n):
        later = draw(st.integers(k, n - 1))
        if later > k and later not in taken and draw(st.booleans()):
            after[k] = later
            taken.add(later)
    case["sessions"] = {"next": after, "think_s": [eighths(draw, 0, 2) for _ in range(n)]}


def add_faults(draw, case, n, pools, end):
    regions = 1 + max(case.get("pool_region", [0]))
    case["faults"] = []
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(1, int(end * 8))) / 8
        if draw(st.booleans()):
            fault = [at, "replica", draw(st.integers(0, pools - 1)), draw(st.integers(0, 3))]
        else:
            fault = [at, "region", draw(st.integers(0, regions - 1)), at + eighths(draw, 1, 6)]
        case["faults"].append(fault)
    if "latency_s" in case and draw(st.booleans()):  # while somebody is on the way
        k = draw(st.integers(0, n - 1))
        at, serves = case["requests"][k][0] + 0.125, zip(case["pool_region"], case["pool_service"], strict=True)
        region = draw(st.sampled_from([r for r, s in serves if s == case["service"][k]]))
        case["faults"].append([at, "region", region, at + eighths(draw, 1, 6)])
    # beside lost replicas, a policy that asks for new ones
    for at in draw(st.lists(st.integers(8, int(end * 8)), max_size=3)):
        case.setdefault("actions", {})[str(at / 8)] = [["scale", p, 1 + draw(st.integers(0, 1))] for p in range(pools)]


def add_hold(draw, case, n, pools, end):
    case["held"] = [draw(st.booleans()) for _ in range(n)]
    if draw(st.booleans()):
        case["release"] = draw(st.sampled_from([[0.25, 0.5], [0.5, 0.75], [0.0, 1.0]]))
        case["releases"] = draw(st.sampled_from([[2, 1], [1, 2], [0, 3]]))
    case.setdefault("actions", {})[str(float(int(end)))] = [["release", p, n] for p in range(pools)]


def add_cache(draw, case, n, pools, end):
    case["hash_tokens"] = case["shapes"][0]["block"] * draw(st.sampled_from([1, 2]))
    case["hashes"] = [prefix(draw, row[2], case["hash_tokens"]) for row in case["requests"]]


def add_actions(draw, case, n, pools, end):
    for shape in case["shapes"]:
        shape["kv_bytes_per_token"], shape["bandwidth"] = draw(st.sampled_from([0.0, 64.0, 256.0])), 1024.0
    actions = case.setdefault("actions", {})
    for _ in range(draw(st.integers(2, 16))):
        at = str(draw(st.integers(1, int(end * 8))) / 8)
        actions.setdefault(at, []).extend(an_action(draw, case, pools) for _ in range(draw(st.integers(1, 4))))


def add_ticks(draw, case, n, pools, end):
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(1, int(end * 8))) / 8
        case["ticks"][str(at)] = [draw(st.integers(0 if p else 1, 4)) for p in range(pools)]


def add_inventory(draw, case, n, pools, end):
    for shape in case["shapes"]:
        shape["gpu"], shape["gpus"] = draw(st.sampled_from(["A", "A", "B"])), draw(st.integers(1, 2))
    case["startup"] = {"cold": 2.0, "warm": draw(st.sampled_from([0.0, 0.5])), "swap": 1.0}
    regions = case.get("pool_region", [0] * pools)
    case["inventory"] = {}
    for region in sorted(set(regions)):
        gpus = {"A": draw(st.integers(0, 2)), "B": draw(st.integers(0, 1))}
        for p in range(pools):  # those of the start, and few more
            if regions[p] == region:
                gpus[case["shapes"][p]["gpu"]] += case["shapes"][p]["gpus"] * case["counts"][p]
        case["inventory"][str(region)] = gpus


def add_holder(draw, case, n, pools, end):
    case["router"] = "holder"
    case["holder"] = {"most": draw(st.integers(1, 3)), "never": draw(st.sampled_from([-1, -1, 3]))}
    case["heartbeat_s"] = draw(st.sampled_from([0.0, 0.25, 0.5, 1.25]))
    case["refusals"] = draw(st.sampled_from([0, 0, 1, 2]))
    case["most"] = [count + draw(st.integers(0, 3)) for count in case["counts"]]


ADD = {
    "rank": add_rank,
    "regions": add_regions,
    "lanes": add_lanes,
    "clients": add_clients,
    "sessions": add_sessions,
    "faults": add_faults,
    "hold": add_hold,
    "cache": add_cache,
    "actions": add_actions,
    "ticks": add_ticks,
    "inventory": add_inventory,
    "holder": add_holder,
}
