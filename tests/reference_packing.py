"""Aladdin's constraints (a) to (d) checked at every placement of the slow fleet: nothing shared with the router.

Written as the paper's constraints are read: each request of the replica, the new one among them, is held to them one by
one, and memory is walked token by token.
"""

from reference import Fleet as SlowFleet


def waiting_tokens(request):
    """Tokens yet to be prefilled; a request that decodes has none."""
    rest = request.input + request.generated - request.computed
    return 0 if request.generated > 0 and rest == 1 else rest


def broken(members, law, room, now, lane, limits, given):
    """Names of the constraints that these requests, together on a replica, break; limits: of one, (TTFT, ATGT)."""
    found = set()
    prefill_s = law.prefill_s + law.token_s * sum(waiting_tokens(r) for r in members)
    decode_s = law.decode_s
    for r in members:
        decode_s += law.seq_s + law.context_s * (r.input + given["gamma"] * r.predicted)
    for r in members:
        ttft_s, atgt_s = limits(r)
        left_s = given["theta_ttft"] * ttft_s - (now - r.arrival)
        if lane != "decode" and r.first is None and 0 <= left_s < prefill_s * (1 - 1e-9):
            found.add("a")
        if lane != "prefill" and decode_s > given["theta_atgt"] * atgt_s * (1 + 1e-9):
            found.add("b")
        if lane == "shared" and r.first is not None:
            ahead_s = atgt_s * r.generated - (now - r.first)
            if prefill_s > ahead_s + 1e-9 * max(now, 1.0):
                found.add("c")
    alive = [(r.input + r.generated, max(r.predicted - r.generated, 1)) for r in members]
    for step in range(1, max(left for _, left in alive) + 1):
        if lane != "prefill" and sum(held + step + law.kv_tokens for held, left in alive if step <= left) > room:
            found.add("d")
    return found


class WatchedFleet(SlowFleet):
    """The slow fleet, noting what each placement breaks: `broke`, a set a placement."""

    def place(self, request, replica):
        """Look before it is received."""
        room = replica.shape.blocks * replica.shape.block
        members = [request, *replica.running, *replica.waiting]
        lane = self.rules.lane(replica.pool)
        self.broke = [
            *getattr(self, "broke", []),
            broken(members, self.law(replica.shape), room, self.now, lane, self.limits, self.given),
        ]
        super().place(request, replica)
