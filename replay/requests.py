"""What is replayed, as arrays, and the rows the kernel takes them in."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .kernel.state import zeros


@dataclass(frozen=True)
class Requests:
    """Requests in arrival order, by number from 0; arrays of one length, those that are None do not matter.

    arrival_s f8, rising; pool i8, number in the fleet (with regions: any pool of the service); input_tokens,
    output_tokens i8 >= 1; predicted_tokens f8, what routers take the output to be; kind i8, of the extension table.
    tier i8, for routers; rank f8, order of waiting queues, lower first; held bool, waits until released;
    origin i8, row of the fleet's regions; session i8, for routers, -1: none.
    follow i8, number of the session's next request or -1, and think_s f8 before each: closed-loop sessions, where only
    first turns arrive by themselves. hashes u8 of all requests one after another, hash_at and hash_n i8 by request,
    hash_tokens a hash block: for prefix caches. A hash must stand for its block and all
    before it (analysis.blockhashes.chained). deadline_s f8, after arrival, NaN: none given; shown to policies, no more.
    """

    arrival_s: np.ndarray
    pool: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    predicted_tokens: np.ndarray
    kind: np.ndarray
    tier: np.ndarray | None = None
    rank: np.ndarray | None = None
    held: np.ndarray | None = None
    origin: np.ndarray | None = None
    session: np.ndarray | None = None
    follow: np.ndarray | None = None
    think_s: np.ndarray | None = None
    hashes: np.ndarray | None = None
    hash_at: np.ndarray | None = None
    hash_n: np.ndarray | None = None
    hash_tokens: int = 0
    deadline_s: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)


_GIVEN = {
    "arrival_s": "arrival_s", "pool": "pool", "input": "input_tokens", "output": "output_tokens", "kind": "kind",
    "tier": "tier", "rank": "rank", "held": "held", "origin": "origin", "session": "session", "think_s": "think_s",
    "hash_at": "hash_at", "hash_n": "hash_n",
}  # fmt: skip


def arrivals(requests: Requests, first: int, group_of: np.ndarray | None, buffer: Any, part: slice) -> tuple[Any, int]:
    """The kernel's rows of a part of the requests, those that arrive by themselves first, and how many these are.

    first: number of the part's first request; group_of: i8[pools, regions], row of the kernel's choices (None: no
    network). buffer: rows of an earlier part to write into, so that no new memory is touched.
    """
    n = len(range(*part.indices(len(requests))))
    rows = zeros("arr", n) if buffer is None or len(buffer) < n else buffer[:n]
    rows.number = np.arange(first, first + n)
    for name, given in _GIVEN.items():
        column = getattr(requests, given)
        if column is not None:
            rows[name] = column[part]
    rows.predicted = np.clip(np.rint(requests.predicted_tokens[part]), 1, (1 << 31) - 1)
    if group_of is None or requests.origin is None:
        rows.group = -1
    else:
        rows.group = group_of[requests.pool[part], requests.origin[part]]
    rows.follow = -1
    if requests.session is None:
        rows.session = -1
    if requests.follow is None:
        return rows, len(rows)
    follows = requests.follow[requests.follow >= 0]
    by_itself = np.ones(len(rows), bool)
    by_itself[follows] = False
    order = np.argsort(~by_itself, kind="stable")
    row_of = np.empty(len(rows), np.int64)
    row_of[order] = np.arange(len(rows))
    rows.follow = np.where(requests.follow >= 0, row_of[requests.follow], -1)
    return rows[order].copy(), int(by_itself.sum())


@dataclass(frozen=True)
class Extension:
    """What an outlived prediction grows by once generated[i] tokens are there (grid, rising).

    tokens[kind, i]; with `edges`, rising, tokens[kind * (len(edges) + 1) + bucket, i], a prediction at arrival being in
    the bucket whose number is that of the edges below it.
    """

    generated: np.ndarray
    tokens: np.ndarray
    edges: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


NO_EXTENSION = Extension(np.zeros(1, np.int64), np.full((1, 1), 30, np.int64))
