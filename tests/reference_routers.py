"""The routers in plain Python: functions of (fleet, request, active replicas by index), nothing shared with the kernel.

`fleet.given` holds a router's parameters, `fleet.notes` what it remembers, `request.session` is -1 or absent for none.
"""

import math

WORD = 1 << 32
GOLDEN = 0x9E3779B9


def fewest(active):
    return min(active, key=lambda r: (r.requests(), r.index))


def fmix32(x):
    """MurmurHash3's finaliser."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * factor % WORD
    return x ^ (x >> 16)


def splitmix32(seed, pool):
    state = fmix32(fmix32(seed % WORD) ^ ((pool + 1) * GOLDEN % WORD))
    while True:
        state = (state + GOLDEN) % WORD
        yield fmix32(state)


def notes(fleet):
    return vars(fleet).setdefault("notes", {})


def below(fleet, request, n):
    """The pool's next random number, from 0 to n - 1."""
    if request.pool not in notes(fleet):
        notes(fleet)[request.pool] = splitmix32(fleet.given["seed"], request.pool)
    return next(notes(fleet)[request.pool]) * n // WORD


def random(fleet, request, active):
    return active[below(fleet, request, len(active))]


def power_of_two(fleet, request, active):
    if len(active) == 1:
        return active[0]
    one = active[below(fleet, request, len(active))]
    others = [r for r in active if r is not one]
    return fewest([one, others[below(fleet, request, len(others))]])


def kv_share(replica):
    return replica.held * replica.shape.block / (replica.shape.blocks * replica.shape.block)


def least_kv(fleet, request, active):
    return min(active, key=lambda r: (kv_share(r), r.index))


def weighted(fleet, request, active):
    """Whole weights, so that nothing is rounded."""
    table = fleet.given["weights"]
    row = table[min(request.kind, len(table) - 1)]
    weights = [row[min(fleet.profiles.index(r.shape), len(row) - 1)] for r in active]
    if sum(weights) == 0:
        return fewest(active)
    key = (request.pool, request.kind % 8)
    turn = notes(fleet).get(key, -1) + 1
    notes(fleet)[key] = turn
    place = turn * GOLDEN % WORD * sum(weights)
    for k, replica in enumerate(active):
        if place < sum(weights[: k + 1]) * WORD:
            return replica
    raise AssertionError("weights do not add up")


def session_affinity(fleet, request, active):
    session = getattr(request, "session", -1)
    if session < 0:
        return fewest(active)
    key = fmix32(session % WORD ^ fmix32(session // WORD % WORD))
    return max(active, key=lambda r: (fmix32(key ^ (r.index + 1) * GOLDEN % WORD), -r.index))


def matched(replica, request):
    return replica.kv.hit(request) * replica.shape.hash_tokens


def prefix_aware(fleet, request, active):
    counts = [r.requests() for r in active]
    n = len(active)
    if n == 1:
        return active[0]
    if max(counts) - min(counts) > fleet.given["spread"]:
        return fewest(active)
    squares = 0.0
    for count in counts:
        squares += (count - sum(counts) / n) ** 2
    most = sum(counts) / n + fleet.given["sigmas"] * math.sqrt(squares / (n - 1))
    near = [r for r in active if r.requests() <= most and matched(r, request) > 0]
    if not near:
        return fewest(active)
    return min(near, key=lambda r: (-matched(r, request), r.requests(), r.index))


def scored(fleet, request, active):
    given = fleet.given
    calm = [r for r in active if len(r.waiting) <= given["queue_over"] and kv_share(r) <= given["kv_over"]]
    calm = calm or active
    queues = [len(r.waiting) for r in calm]

    def score(replica):
        spread = max(queues) - min(queues)
        queue = (max(queues) - len(replica.waiting)) / spread if spread else 1.0
        cached = matched(replica, request) / request.input
        return given["prefix"] * cached + given["queue"] * queue + given["kv"] * (1.0 - kv_share(replica))

    return min(calm, key=lambda r: (-score(r), r.index))


def holder(fleet, request, active):
    """The fullest replica with fewer than `most` requests; `never`: requests that no replica gets."""
    given = fleet.given
    near = [r for r in active if r.requests() < given["most"]]
    if request.input % 8 == given["never"]:
        return "hold"
    if near:
        return min(near, key=lambda r: (-r.requests(), r.index))
    return "open" if request.input % 2 == 0 else "hold"


HOLDING = {"holder"}
ROUTERS = {
    "holder": holder,
    "random": random,
    "power-of-two": power_of_two,
    "least-kv": least_kv,
    "weighted": weighted,
    "session-affinity": session_affinity,
    "prefix-aware": prefix_aware,
    "scored": scored,
}
