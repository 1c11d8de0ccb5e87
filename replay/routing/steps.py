"""Steps that several routers take: the fewest requests, numbers that look random, a hash.

Numbers are made in a router's `memory` with whole numbers below 2^63, so they are the same compiled, interpreted and
on any machine. Fixed for good: a seed's results rest on them, and a compiled router's cache watches its own file only.
"""

import numpy as np

from .. import columns as c
from ..jit import jit

MASK = 0xFFFFFFFF
STEP = 0x9E3779B9  # 2^32 / golden ratio, odd: multiples of it visit all 32-bit numbers, spread evenly on the way


@jit
def times(a: int, b: int) -> int:
    """The low 32 bits of a product, without overflow."""
    return ((((a * (b >> 16)) & 0xFFFF) << 16) + a * (b & 0xFFFF)) & MASK


@jit
def mix(x: int) -> int:
    """A 32-bit number to another, one to one: MurmurHash3's finaliser (Appleby, public domain)."""
    x = times(x ^ (x >> 16), 0x85EBCA6B)
    x = times(x ^ (x >> 13), 0xC2B2AE35)
    return x ^ (x >> 16)


@jit
def draw(memory: np.ndarray, seed: float, pool: float, below: int) -> int:
    """A number from 0 to below - 1; memory[0] is the state of splitmix32 (-1 at the start), a stream for each pool.

    Each is as likely as any other up to below / 2^32.
    """
    state = int(memory[0])
    if state < 0:
        state = mix(mix(int(seed) & MASK) ^ times(int(pool) + 1, STEP))
    state = (state + STEP) & MASK
    memory[0] = state
    return (mix(state) * below) >> 32


@jit
def requests_at(replicas: np.ndarray, row: int) -> float:
    """Requests a replica has, waiting and running."""
    return replicas[row, c.WAITING] + replicas[row, c.RUNNING]  # type: ignore[no-any-return]


@jit
def fewest_requests(replicas: np.ndarray) -> int:
    """The row with the fewest requests, ties to the lowest. O(replicas)."""
    best = 0
    for row in range(1, replicas.shape[0]):
        if requests_at(replicas, row) < requests_at(replicas, best):
            best = row
    return best
