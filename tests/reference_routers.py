"""The routers in plain Python: functions of (fleet, request, active replicas by index), nothing shared with the kernel.

`fleet.given` holds a router's parameters, `fleet.notes` what it remembers, `request.session` is -1 or absent for none.
"""

import math

import reference_views

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


def llumnix(fleet, request, active):
    def freeness(replica):
        capacity, held = replica.shape.blocks * replica.shape.block, replica.held * replica.shape.block
        there = replica.requests()
        return (capacity - held - replica.prefill_tokens()) / there if there else math.inf

    return min(active, key=lambda r: (-freeness(r), r.index))


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


def weighted_least(fleet, request, active):
    """The profile as `weighted`, of its replicas the one with the fewest tokens to come; past a queue, by rates."""
    turn = weighted(fleet, request, active)

    def of(name, replica):
        row = fleet.given[name][min(request.kind, len(fleet.given[name]) - 1)]
        return row[min(fleet.profiles.index(replica.shape), len(row) - 1)]

    no_share = sum(of("weights", r) for r in active) == 0
    chosen = min((r for r in active if r.shape == turn.shape), key=lambda r: (r.outstanding(), r.index))
    if not no_share and len(chosen.waiting) < max(4, len(chosen.running) / 8):
        return chosen
    able = [r for r in active if of("rates", r) > 0]
    own = request.input + request.predicted
    if able:
        return min(able, key=lambda r: ((r.outstanding() + own) / of("rates", r), r.index))
    return turn if no_share else chosen


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


def preserve_anticipated(fleet, request, active):
    """With this request put into the map as if it decoded from now on."""
    given = fleet.given

    def score(replica):
        now = reference_views.ahead(replica, given["lookahead"])
        peak = max(x + (request.input + j if j < request.predicted else 0) for j, x in enumerate(now))
        return (given["kappa"] * replica.prefill_tokens() + peak) / (replica.shape.blocks * replica.shape.block)

    return min(active, key=lambda r: (score(r), r.index))


class Packing:
    """Aladdin's placement of one request: constraints (a) to (d) by the linear law of each replica's profile."""

    def __init__(self, fleet, request):
        self.now, self.given, self.request, self.fleet = fleet.now, fleet.given, request, fleet
        self.lane = fleet.rules.lane(request.pool)
        self.left = self.given["theta_ttft"] * self.limit(request, "ttft_s") - (fleet.now - request.arrival)
        self.pace = self.given["theta_atgt"] * self.limit(request, "atgt_s")

    def limit(self, request, name):
        table = self.given.get("limits", [[0, 0]])
        row = table[min(self.request.kind, len(table) - 1)]  # a pool serves one kind
        pairs = [row[k : k + 2] for k in range(0, len(row) - 1, 2)]
        own = pairs[min(getattr(request, "tier", 0), len(pairs) - 1)][name == "atgt_s"]
        return own or self.given[name]

    def to_prefill(self):
        request = self.request
        return 0 if request.generated > 0 and request.need == 1 else request.need

    def prefill(self, replica, tokens):
        law = self.fleet.law(replica.shape)
        return law.prefill_s + law.token_s * tokens

    def decode(self, replica, members):
        law = self.fleet.law(replica.shape)
        context = sum(r.input for r in members) + self.given["gamma"] * sum(r.predicted for r in members)
        return law.decode_s + law.seq_s * len(members) + law.context_s * context

    def memory(self, replica, members):
        """At each completion, as predicted, what all that are still there hold."""
        spare, rows = self.fleet.law(replica.shape).kv_tokens, []
        for r in members:
            rows.append((r.input + r.generated + spare, max(r.predicted - r.generated, 1)))
        peaks = [sum(held + step for held, left in rows if left >= step) for _, step in rows]
        return max(peaks) <= replica.shape.blocks * replica.shape.block

    def keeps(self, replica, left):
        others = [*replica.running, *replica.waiting]
        prefill = self.prefill(replica, replica.prefill_tokens() + self.to_prefill())
        kept = []
        if self.lane != "decode":
            kept.append(prefill <= left)
            for r in others:
                if r.first is None:
                    mine = self.given["theta_ttft"] * self.limit(r, "ttft_s") - (self.now - r.arrival)
                    kept.append(mine < 0 or prefill <= mine)
        if self.lane == "shared" and self.given.get("no_harm", 1):
            started = [r for r in others if r.first is not None]
            kept += [prefill <= self.limit(r, "atgt_s") * r.generated - (self.now - r.first) for r in started]
        if self.lane != "prefill":
            decode = self.decode(replica, [self.request, *others])
            kept += [decode <= self.given["theta_atgt"] * self.limit(r, "atgt_s") for r in [self.request, *others]]
            kept.append(self.memory(replica, [self.request, *others]))
            kept.append(len(others) < replica.shape.max_seqs)
        return all(kept)

    def empty_in_time(self, replica):
        return self.prefill(replica, self.to_prefill()) <= self.left

    def empty_keeps_pace(self, replica):
        alone = [self.request]
        request = self.request
        fits = request.input + request.predicted + self.fleet.law(replica.shape).kv_tokens
        fits = fits <= replica.shape.blocks * replica.shape.block
        return self.lane == "prefill" or (self.decode(replica, alone) <= self.pace and fits)

    def bin_full(self, replica, members):
        """Whether a replica to come could not take these together, all new."""
        law, last = self.fleet.law(replica.shape), members[-1][0]
        late = self.prefill(replica, sum(n for _, n in members)) > self.given["theta_ttft"] * self.limit(last, "ttft_s")
        slow = self.decode(replica, [r for r, _ in members]) > self.pace
        held = sum(r.input + r.predicted + law.kv_tokens for r, _ in members)
        large = held > replica.shape.blocks * replica.shape.block or len(members) > replica.shape.max_seqs
        return (self.lane != "decode" and late) or (self.lane != "prefill" and (slow or large))


def fullness(replica):
    others = [*replica.running, *replica.waiting]
    share = sum(r.input + r.generated for r in others) / (replica.shape.blocks * replica.shape.block)
    return (len(others) / replica.shape.max_seqs) ** 2 + share**2


def aladdin(fleet, request, active):
    packing = Packing(fleet, request)
    if active and not any(packing.empty_keeps_pace(r) for r in active):
        return min(active, key=lambda r: (fullness(r), r.index))
    left = packing.left if any(packing.empty_in_time(r) for r in active) else math.inf
    for replica in sorted(active, key=lambda r: (-fullness(r), r.index)):
        if packing.keeps(replica, left):
            return replica
    starting = len(fleet.pool(request.pool, "starting"))
    held = sum(1 for r in fleet.deferred if r.pool == request.pool)
    mine = notes(fleet).setdefault(request.pool, {"bins": [[]], "opened": None})
    if held == 0:
        mine["bins"] = [[]]
    needed = 1
    if active:
        each = (request, packing.to_prefill())
        if mine["bins"][-1] and packing.bin_full(active[0], [*mine["bins"][-1], each]):
            mine["bins"].append([])
        mine["bins"][-1].append(each)
        needed = len(mine["bins"]) * (held + 1) / sum(len(b) for b in mine["bins"])
    there = len(active) + starting
    denied = mine["opened"] is not None and mine["opened"][0] == fleet.now and there <= mine["opened"][1]
    if starting >= needed or denied:
        return "hold"
    mine["opened"] = (fleet.now, there)
    return "open"


HOLDING = {"holder", "aladdin"}
ROUTERS = {
    "preserve-anticipated": preserve_anticipated,
    "aladdin": aladdin,
    "holder": holder,
    "random": random,
    "power-of-two": power_of_two,
    "least-kv": least_kv,
    "llumnix": llumnix,
    "weighted": weighted,
    "weighted-least": weighted_least,
    "session-affinity": session_affinity,
    "prefix-aware": prefix_aware,
    "scored": scored,
}
