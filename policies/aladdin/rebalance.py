"""Aladdin's rebalancing: placements that have not started move from workers whose lengths were underestimated."""

from dataclasses import dataclass, field

from lmaas.replay.fleet import DECODE, PREFILL, Fleet
from lmaas.replay.protocol import SeenReplicas, SeenRequests
from lmaas.replay.steplaw import StepLaw, step_law

from .limits import Placement

MOST_MOVES = 64  # a pool and look


@dataclass
class Member:
    """A request on a worker."""

    number: int
    input: int
    predicted: int  # of output, all in all
    generated: int
    unfilled: int
    arrival_s: float
    first_s: float  # inf: no token yet
    limits: tuple[float, float]  # TTFT, time a token
    waits: bool


@dataclass
class Worker:
    """An active worker: what it has, and by how much it has been underestimated, in tokens."""

    number: int
    law: StepLaw
    room: int  # tokens of KV
    places: int  # requests at once
    members: list[Member] = field(default_factory=list)
    off: float = 0.0


def kept(worker: Worker, more: Member, now: float, lane: str, placement: Placement) -> bool:
    """Constraints (a) to (d) of all its members with one more (replay.routing.aladdin says the same, compiled)."""
    members, law = [*worker.members, more], worker.law
    if lane != PREFILL and len(members) > worker.places:
        return False
    prefill_s = law.prefill_s + law.token_s * sum(m.unfilled for m in members)
    context = sum(m.input + placement.gamma * m.predicted for m in members)
    decode_s = law.decode_s + law.seq_s * len(members) + law.context_s * context
    for m in members:
        ttft_s, atgt_s = m.limits
        left_s = placement.theta_ttft * ttft_s - (now - m.arrival_s)
        if m.first_s == float("inf") and 0 <= left_s < prefill_s:
            return False
        if lane == PREFILL:
            continue
        if decode_s > placement.theta_atgt * atgt_s:
            return False
        if placement.no_harm and m.first_s < float("inf") and prefill_s > atgt_s * m.generated - (now - m.first_s):
            return False
    return lane == PREFILL or peak(members, law.kv_tokens) <= worker.room


def peak(members: list[Member], spare: float) -> float:
    """Most tokens of KV at a predicted completion: those that end later come first, each with all before it."""
    ends = sorted(((max(m.predicted - m.generated, 1), m.input + m.generated + spare) for m in members), reverse=True)
    held, most = 0.0, 0.0
    for count, (left, tokens) in enumerate(ends, start=1):
        held += tokens
        most = max(most, held + count * left)
    return most


def moves(workers: list[Worker], now: float, lane: str, placement: Placement) -> list[tuple[int, int]]:
    """(request, worker number) of placements that move, from the most under- to the most overestimated worker.

    Each as large as about half of what lies between the two, and such that the worker it goes to keeps its constraints;
    a worker from which nothing can move is passed over.
    """
    said: list[tuple[int, int]] = []
    stuck: set[int] = set()
    while len(said) < MOST_MOVES:
        sources = [w for w in workers if w.number not in stuck and any(m.waits for m in w.members)]
        if not sources or len(workers) < 2:
            break
        source = max(sources, key=lambda w: (w.off, -w.number))
        target = min(workers, key=lambda w: (w.off, w.number))
        gap = source.off - target.off
        able = [m for m in source.members if m.waits and m.predicted < gap]
        able.sort(key=lambda m: (abs(m.predicted - gap / 2), m.number))
        taken = next((m for m in able if kept(target, m, now, lane, placement)), None)
        if taken is None:
            stuck.add(source.number)
            continue
        source.members.remove(taken)
        target.members.append(taken)
        taken.waits = False  # once a look
        source.off -= taken.predicted
        target.off += taken.predicted
        said.append((taken.number, target.number))
    return said


def workers_of(
    fleet: Fleet, p: int, replicas: SeenReplicas, requests: SeenRequests, surplus: dict[tuple[int, int], int],
    placement: Placement,
) -> list[Worker]:  # fmt: skip
    """The pool's active workers; surplus: their surplus_tokens at the last look, which become today's.

    A worker's error: what requests that completed there since the last look answered beyond their prediction, and what
    those still there are expected to.
    """
    pool = fleet.pools[p]
    profiles = {profile.name: profile for profile in pool.profiles}
    found: dict[int, Worker] = {}
    for k in [k for k in range(len(replicas.pool)) if replicas.pool[k] == p and replicas.state[k] == "active"]:
        number, profile = int(replicas.replica[k]), profiles.get(str(replicas.profile[k]), pool.profile)
        now, key = int(replicas.surplus_tokens[k]), (p, int(replicas.replica[k]))
        room = profile.kv_tokens // profile.block * profile.block
        found[number] = Worker(number, step_law(profile), room, profile.max_seqs, off=float(now - surplus.get(key, 0)))
        surplus[key] = now
    for k in [k for k in range(len(requests.pool)) if requests.pool[k] == p and int(requests.replica[k]) in found]:
        worker = found[int(requests.replica[k])]
        predicted, foretold = int(requests.predicted_tokens[k]), int(requests.foretold_tokens[k])
        first_s = float(requests.first_s[k])
        waits = str(requests.where[k]) == "waiting" and first_s == float("inf")
        worker.members.append(
            Member(
                int(requests.request[k]), int(requests.input_tokens[k]), predicted, int(requests.generated_tokens[k]),
                int(requests.unfilled_tokens[k]), float(requests.arrival_s[k]), first_s,
                placement.of(pool.service, int(requests.tier[k])), waits,
            )
        )  # fmt: skip
        worker.off += 0 if pool.lane == PREFILL else max(0, predicted - foretold)
    return list(found.values())


def rebalanced(
    fleet: Fleet, now: float, pools: list[int], replicas: SeenReplicas, requests: SeenRequests,
    surplus: dict[tuple[int, int], int], placement: Placement,
) -> list[tuple[int, int, int]]:  # fmt: skip
    """(request, pool, replica) to migrate in these pools, in decode lanes they have KV, and stay."""
    said = []
    for p in pools:
        pool = fleet.pools[p]
        if pool.lane != DECODE:
            workers = workers_of(fleet, p, replicas, requests, surplus, placement)
            said += [(request, p, to) for request, to in moves(workers, now, pool.lane, placement)]
    return said
