"""Prompts as hash blocks: what a prefix cache knows them by."""

from dataclasses import dataclass

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiples of it are spread evenly


def scrambled(values: np.ndarray) -> np.ndarray:
    """u8 of u8: hashes, one to one (the finaliser of splitmix64; Steele, Lea and Flood, OOPSLA 2014)."""
    x = values.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x


@dataclass(frozen=True)
class Prefixes:
    """values u8: hash blocks of all prompts; those of request i begin at at[i] and are n[i] (i8); tokens a block.

    A value stands for its block and all blocks before it (`chained`), as the cache takes it to.
    """

    values: np.ndarray
    at: np.ndarray
    n: np.ndarray
    tokens: int

    def packed(self, rows: np.ndarray, copies: np.ndarray) -> "Prefixes":
        """Of these requests alone, in this order; those of different copies (i8 by row) have no block in common."""
        n = self.n[rows]
        at = np.cumsum(n) - n
        source = np.repeat(self.at[rows] - at, n) + np.arange(int(n.sum()))
        return Prefixes(of_copy(self.values[source], np.repeat(copies, n)), at, n, self.tokens)


def chained(hashes: np.ndarray, n: np.ndarray) -> np.ndarray:
    """u8: each block's hash made one of its whole prefix; hashes u8 of all prompts one after another, n[i] of prompt i.

    The running sum, modulo 2^64, of the blocks' hashes scrambled with their places: two prompts agree at a place if all
    their blocks up to it do, else with probability 2^-64. So a trace whose hashes are of blocks alone, or that repeats
    one, is cached right too.
    """
    ends = np.cumsum(n)
    place = np.arange(len(hashes)) - np.repeat(ends - n, n)
    with np.errstate(over="ignore"):
        total = np.cumsum(scrambled(hashes.astype(np.uint64) ^ scrambled(place.astype(np.uint64) + GOLDEN)))
        before = np.concatenate([np.zeros(1, np.uint64), total])[ends - n]
        return np.asarray(total - np.repeat(before, n))


def of_copy(values: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """The same blocks in another copy of the trace (one number a block), where they are others; copy 0: the trace."""
    if not copy.any():
        return values
    return np.where(copy > 0, scrambled(values ^ scrambled(copy.astype(np.uint64) * GOLDEN)), values)
