"""OServe's ad hoc switch: which GPU sends which weights to which, and how long that takes beside loading from disk."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sharded:
    """A replica on GPUs: rank of its tensor parallelism fastest, then stage of its pipeline."""

    gpus: tuple[int, ...]
    tp: int = 1
    pp: int = 1

    def __post_init__(self) -> None:
        if len(self.gpus) != self.tp * self.pp:
            raise ValueError(f"{len(self.gpus)} GPUs for TP {self.tp} x PP {self.pp}")

    def held(self, layers: int, slices: int) -> list[tuple[int, slice, slice]]:
        """(GPU, layers, slices of a layer) that every GPU has the weights of.

        Slices are of equal size; slices is a multiple of tp. Stages get layers as evenly as they go.
        """
        bounds = [layers * stage // self.pp for stage in range(self.pp + 1)]
        part = slices // self.tp
        return [
            (gpu, slice(bounds[n // self.tp], bounds[n // self.tp + 1]),
             slice(n % self.tp * part, (n % self.tp + 1) * part))
            for n, gpu in enumerate(self.gpus)
        ]  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind in nodes of equal size, and what moves between them, a GPU and direction."""

    gpus: int
    per_node: int
    within_bytes_s: float  # NVLink
    between_bytes_s: float  # the network

    def node(self, gpu: int) -> int:
        """The node of a GPU."""
        return gpu // self.per_node


@dataclass(frozen=True)
class Transfer:
    """What is sent: bytes by (from, to) GPU, f8[gpus, gpus], and how long the fullest link takes.

    missing: bytes that no GPU holds, to be read from disk.
    """

    sent: np.ndarray
    seconds: float
    missing: float

    @property
    def total(self) -> float:
        """Bytes."""
        return float(self.sent.sum())


def transfer(
    before: Sequence[Sharded], after: Sequence[Sharded], cluster: Cluster, weights_bytes: float, layers: int
) -> Transfer:
    """The weights that GPUs lack after the switch, each shard from where it costs least.

    For every (layer, shard) a GPU lacks: of those that hold it, in its own node if there is one there, the GPU that has
    sent least so far; only then one of another node (the paper's greedy rule). The time is that of the fullest link,
    where a GPU's sending and receiving, within a node and beyond it, are links of their own (ours). O(GPUs · layers ·
    shards · GPUs).
    """
    slices = int(np.lcm.reduce([r.tp for r in (*before, *after)] or [1]))
    has, needs = _holdings(before, cluster, layers, slices), _holdings(after, cluster, layers, slices)
    unit = weights_bytes / (layers * slices)
    node = np.arange(cluster.gpus) // cluster.per_node
    sent, load = np.zeros((cluster.gpus, cluster.gpus)), np.zeros(cluster.gpus)
    missing = 0.0
    for layer in range(layers):
        for shard in range(slices):
            holders = np.flatnonzero(has[:, layer, shard])
            for gpu in np.flatnonzero(needs[:, layer, shard] & ~has[:, layer, shard]):
                if not len(holders):
                    missing += unit
                    continue
                near = holders[node[holders] == node[gpu]]
                among = near if len(near) else holders
                source = among[np.argmin(load[among])]
                sent[source, gpu] += unit
                load[source] += unit
    return Transfer(sent, _slowest(sent, node, cluster), missing)


def _holdings(replicas: Sequence[Sharded], cluster: Cluster, layers: int, slices: int) -> np.ndarray:
    """bool[gpus, layers, slices]."""
    held = np.zeros((cluster.gpus, layers, slices), bool)
    for replica in replicas:
        for gpu, stage, part in replica.held(layers, slices):
            held[gpu, stage, part] = True
    return held


def _slowest(sent: np.ndarray, node: np.ndarray, cluster: Cluster) -> float:
    """Seconds of the fullest link."""
    near = node[:, None] == node[None, :]
    within, between = np.where(near, sent, 0.0), np.where(near, 0.0, sent)
    loads = [part.sum(axis=axis).max(initial=0.0) for part in (within, between) for axis in (0, 1)]
    speeds = [cluster.within_bytes_s] * 2 + [cluster.between_bytes_s] * 2
    return float(max(load / speed for load, speed in zip(loads, speeds, strict=True)))


def laid_out(
    sizes: Sequence[tuple[int, int]], before: Sequence[Sharded], cluster: Cluster
) -> tuple[list[Sharded], list[int]]:
    """Replicas of (tp, pp) on the cluster, and for each the number in `before` of the one that it is, or -1.

    What stays as it is keeps its GPUs, as far as the rest then fits: replicas of at most a node are within one. Others
    go to the first stretch of free GPUs, the largest first; where they do not fit, the smallest of those that stay
    moves, too. ValueError where the cluster has too few GPUs.
    """
    wanted = sum(tp * pp for tp, pp in sizes)
    if wanted > cluster.gpus:
        raise ValueError(f"{wanted} GPUs are asked for, and there are {cluster.gpus}")
    kept: dict[int, int] = {}  # number in sizes -> number in before
    open_ = list(range(len(before)))
    for n, shape in enumerate(sizes):
        same = next((b for b in open_ if (before[b].tp, before[b].pp) == tuple(shape)), None)
        if same is not None:
            kept[n] = same
            open_.remove(same)
    while True:
        placed = _placed(sizes, {n: before[b] for n, b in kept.items()}, cluster)
        if placed is not None:
            return placed, [kept.get(n, -1) for n in range(len(sizes))]
        if not kept:
            raise ValueError(f"{list(sizes)} do not fit nodes of {cluster.per_node} GPUs")
        del kept[min(kept, key=lambda n: (sizes[n][0] * sizes[n][1], n))]


def _placed(sizes: Sequence[tuple[int, int]], kept: dict[int, Sharded], cluster: Cluster) -> list[Sharded] | None:
    """Every replica's place; None where some finds none."""
    free = np.ones(cluster.gpus, bool)
    for replica in kept.values():
        free[list(replica.gpus)] = False
    placed: dict[int, Sharded] = dict(kept)
    for n in sorted(range(len(sizes)), key=lambda n: (-sizes[n][0] * sizes[n][1], n)):
        if n in placed:
            continue
        tp, pp = sizes[n]
        gpus = _stretch(free, tp * pp, cluster)
        if gpus is None:
            return None
        free[gpus] = False
        placed[n] = Sharded(tuple(int(g) for g in gpus), tp, pp)
    return [placed[n] for n in range(len(sizes))]


def _stretch(free: np.ndarray, need: int, cluster: Cluster) -> np.ndarray | None:
    """The first free GPUs: within the fullest node that has as many, or whole nodes in a row for more than one has."""
    nodes = free[: cluster.gpus // cluster.per_node * cluster.per_node].reshape(-1, cluster.per_node)
    room = nodes.sum(axis=1)
    if need <= cluster.per_node:
        fits = np.flatnonzero(room >= need)
        if not len(fits):
            return None
        at = int(fits[np.argmin(room[fits])])
        return np.asarray(at * cluster.per_node + np.flatnonzero(nodes[at])[:need])
    empty = room == cluster.per_node
    whole = -(-need // cluster.per_node)
    for at in range(len(nodes) - whole + 1):
        if empty[at : at + whole].all():
            return np.arange(at * cluster.per_node, at * cluster.per_node + need)
    return None
