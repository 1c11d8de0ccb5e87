"""A switch in steps: which replicas give way together, how long what follows them takes, and which requests move."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmaas.replay.profile import Profile
from lmaas.replay.protocol import SeenReplicas, SeenRequests

from .search import Counts
from .shapes import parts
from .switching import Cluster, Sharded, laid_out, transfer

LAYERS = 16  # pieces that a model's weights are sent in: more change the times by less than a link's share of one


@dataclass(frozen=True)
class Place:
    """A replica on its GPUs; number: in its pool, None: not seen yet."""

    number: int | None
    shape: int
    on: Sharded


@dataclass(frozen=True)
class Step:
    """One group that gives way: numbers of those that drain, shapes of those that follow."""

    leaves: tuple[int, ...]
    follows: tuple[int, ...]


@dataclass(frozen=True)
class Switch:
    """What is done now of a switch; after: the places then; seconds: of the transfer, None: weights are to be read.

    moves: (request, pool, replica) that migrate.
    """

    steps: tuple[Step, ...]
    after: tuple[Place, ...]
    seconds: float | None
    moves: tuple[tuple[int, int, int], ...] = ()

    def counts(self, shapes: int) -> Counts:
        """Replicas by shape."""
        return tuple(sum(place.shape == k for place in self.after) for k in range(shapes))

    def onto_idle(self, before: Sequence[Place]) -> dict[int, int]:
        """Shapes of which some start where nobody gives way: how many replicas there are then, all in all."""
        fresh = [k for step in self.steps if not step.leaves for k in step.follows]
        return {k: fresh.count(k) + sum(place.shape == k for place in before) for k in sorted(set(fresh))}

    @property
    def leaves(self) -> set[int]:
        """Numbers of all that drain."""
        return {number for step in self.steps for number in step.leaves}


def settled(
    numbers: Sequence[int],
    shape_of: Sequence[int],
    before: Sequence[Place],
    shapes: Sequence[Profile],
    cluster: Cluster,
) -> tuple[Place, ...]:
    """The places of the replicas there are: known ones stay, new ones take one that was laid out for their shape.

    Where there is none for them (replicas that a fault brought back) all are laid out anew.
    """
    known = {place.number: place for place in before if place.number is not None}
    waiting = [place for place in before if place.number is None]
    found: list[Place | None] = []
    for number, shape in zip(numbers, shape_of, strict=True):
        place = known.get(number)
        if place is None:
            at = next((w for w in waiting if w.shape == shape), None)
            if at is not None:
                waiting.remove(at)
                place = Place(number, shape, at.on)
        found.append(place)
    if all(found):
        return tuple(place for place in found if place is not None)
    sizes = [parts(shapes[shape]) for shape in shape_of]
    try:
        on, _ = laid_out(sizes, [place.on for place in found if place is not None], cluster)
    except ValueError:  # sizes that do not fill nodes: as if all were one
        ends = np.cumsum([tp * pp for tp, pp in sizes]).tolist()
        on = [Sharded(tuple(range(end - tp * pp, end)), tp, pp) for end, (tp, pp) in zip(ends, sizes, strict=True)]
    return tuple(Place(number, shape, at) for number, shape, at in zip(numbers, shape_of, on, strict=True))


def switch(
    before: Sequence[Place], counts: Counts, shapes: Sequence[Profile], cluster: Cluster, at_once: int
) -> Switch | None:
    """The first step to `counts`: groups of replicas that share GPUs with those that follow, the smallest first.

    As many groups as have at_once GPUs between them, one at least; the rest is for another time. None where there is
    nothing to do or no room for it on the nodes. The transfer is that of the weights the steps' GPUs lack.
    """
    wanted = [k for k, n in enumerate(counts) for _ in range(n)]
    try:
        on, stays = laid_out([parts(shapes[k]) for k in wanted], [place.on for place in before], cluster)
    except ValueError:
        return None
    leaving = [b for b in range(len(before)) if b not in stays]
    fresh = [n for n, b in enumerate(stays) if b < 0]
    groups = _groups([before[b].on for b in leaving], [on[n] for n in fresh])
    chosen: list[tuple[list[int], list[int]]] = []
    taken = 0
    for olds, news in sorted(groups, key=lambda g: (sum(len(before[leaving[b]].on.gpus) for b in g[0]), g)):
        gpus = sum(len(before[leaving[b]].on.gpus) for b in olds)
        if chosen and taken + gpus > at_once:
            break
        chosen.append(([leaving[b] for b in olds], [fresh[n] for n in news]))
        taken += gpus
    if not chosen:
        return None
    gone = {b for olds, _ in chosen for b in olds}
    after = [place for b, place in enumerate(before) if b not in gone]
    after += [Place(None, wanted[n], on[n]) for _, news in chosen for n in news]
    steps = tuple(
        Step(tuple(n for b in olds if (n := before[b].number) is not None), tuple(wanted[n] for n in news))
        for olds, news in chosen
    )
    return Switch(steps, tuple(after), _seconds(before, after, shapes, cluster))


def _seconds(
    before: Sequence[Place], after: Sequence[Place], shapes: Sequence[Profile], cluster: Cluster
) -> float | None:
    weights = shapes[0].weights_gb
    if weights is None:
        return None
    sent = transfer([p.on for p in before], [p.on for p in after], cluster, weights * 1e9, LAYERS)
    return None if sent.missing > 0 else sent.seconds


def _groups(olds: Sequence[Sharded], news: Sequence[Sharded]) -> list[tuple[list[int], list[int]]]:
    """(old, new) replicas that hang together by shared GPUs."""
    found: list[tuple[list[int], list[int], set[int]]] = []
    entries = [(True, n, set(one.gpus)) for n, one in enumerate(olds)]
    entries += [(False, n, set(one.gpus)) for n, one in enumerate(news)]
    for old, n, gpus in entries:
        touching = [group for group in found if group[2] & gpus]
        found = [group for group in found if not group[2] & gpus]
        merged: tuple[list[int], list[int], set[int]] = ([], [], set(gpus))
        for group in touching:
            merged = (merged[0] + group[0], merged[1] + group[1], merged[2] | group[2])
        merged[0 if old else 1].append(n)  # type: ignore[union-attr]
        found.append(merged)
    return [(sorted(a), sorted(b)) for a, b, _ in found]


def migrations(
    pool: int, leaves: set[int], replicas: SeenReplicas, requests: SeenRequests, places: Sequence[Place],
    shapes: Sequence[Profile], cluster: Cluster, *, short_tokens: int, spare: float,
) -> list[tuple[int, int, int]]:  # fmt: skip
    """(request, pool, replica): waiting and long requests of those that leave, each to where its KV still fits.

    short_tokens: who is foretold at most so many output tokens stays and drains. spare: share of a replica's KV that is
    left free. As with weights: a replica of the same node first, of these the one that has been sent least. The longest
    go first; who finds no room drains.
    """
    nodes = {place.number: {cluster.node(gpu) for gpu in place.on.gpus} for place in places}
    size = {shape.name: shape.kv_tokens for shape in shapes}
    mine = (replicas.pool == pool) & (replicas.state == "active")
    room, sent = {}, {}
    for number, profile, kv in zip(
        replicas.replica[mine].tolist(), replicas.profile[mine], replicas.kv_fraction[mine].tolist(), strict=True
    ):
        if number not in leaves:
            room[number], sent[number] = size[str(profile)] * (1 - spare - kv), 0.0
    if not room:
        return []
    there = (requests.pool == pool) & np.isin(requests.replica, list(leaves))
    tokens = requests.input_tokens + requests.predicted_tokens
    found = []
    for q in sorted(np.flatnonzero(there).tolist(), key=lambda q: (-int(tokens[q]), int(requests.request[q]))):
        need, source = float(tokens[q]), nodes.get(int(requests.replica[q]), set())
        if requests.where[q] == "running" and requests.predicted_tokens[q] <= short_tokens:
            continue
        fits = [number for number in room if room[number] >= need]
        near = [number for number in fits if nodes.get(number, set()) & source]
        if fits:
            to = min(near or fits, key=lambda number: (sent[number], -room[number], number))
            room[to] -= need
            sent[to] += need
            found.append((int(requests.request[q]), pool, to))
    return found


def drains_s(
    pool: int, step: Switch, replicas: SeenReplicas, requests: SeenRequests, shapes: Sequence[Profile]
) -> float:
    """Seconds until those that leave are empty, at most: the longest answer that stays, at their iterations' length."""
    step_s = {}
    by_name = {shape.name: shape for shape in shapes}
    for at in np.flatnonzero((replicas.pool == pool) & np.isin(replicas.replica, list(step.leaves))).tolist():
        shape = by_name[str(replicas.profile[at])]
        batch, lat = int(replicas.running[at]), shape.latency
        decode_s = lat.decode_seq * batch + lat.decode_kv * replicas.kv_fraction[at] * shape.kv_tokens
        step_s[int(replicas.replica[at])] = lat.base + float(lat.token_s(batch)[batch]) + decode_s
    moved = {request for request, _, _ in step.moves}
    here = np.flatnonzero((requests.pool == pool) & np.isin(requests.replica, list(step.leaves))).tolist()
    stay = [q for q in here if int(requests.request[q]) not in moved]
    return max((int(requests.predicted_tokens[q]) * step_s[int(requests.replica[q])] for q in stay), default=0.0)
