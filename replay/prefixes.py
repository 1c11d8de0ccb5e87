"""Prompts as hash blocks: what a prefix cache knows them by."""

from dataclasses import dataclass
from typing import Any

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

    A value stands for its block and all blocks before it (`chained`), as the cache takes it to. copy i8 by request:
    requests of different copies have no block in common, whatever their values say.
    """

    values: np.ndarray
    at: np.ndarray
    n: np.ndarray
    tokens: int
    copy: np.ndarray

    def take(self, rows: np.ndarray, copy: np.ndarray | None = None) -> "Prefixes":
        """Of these requests, in this order, and in these copies where given; the values stay where they are."""
        return Prefixes(
            self.values, self.at[rows], self.n[rows], self.tokens, self.copy[rows] if copy is None else copy
        )

    def packed(self) -> "Prefixes":
        """The same with values of these requests alone, one after another, copies told apart by value."""
        at = np.cumsum(self.n) - self.n
        values = self.values[np.repeat(self.at - at, self.n) + np.arange(int(self.n.sum()))]
        if self.copy.any():
            copy = np.repeat(self.copy, self.n)
            values = np.where(copy > 0, scrambled(values ^ scrambled(copy.astype(np.uint64) * GOLDEN)), values)
        return Prefixes(values, at, self.n, self.tokens, np.zeros_like(self.copy))


def hashed(prefix: Prefixes | None) -> dict[str, Any]:
    """What `Requests` takes of packed prefixes, by name."""
    if prefix is None:
        return {}
    return {"hashes": prefix.values, "hash_at": prefix.at, "hash_n": prefix.n, "hash_tokens": prefix.tokens}


def chained(hashes: np.ndarray, n: np.ndarray) -> np.ndarray:
    """u8: each block's hash made one of its whole prefix; hashes u8 of all prompts one after another, n[i] of prompt i.

    The running sum, modulo 2^64, of the blocks' hashes scrambled with their places: two prompts agree at a place if all
    their blocks up to it do, else with probability 2^-64. So a trace whose hashes are of blocks alone, or that repeats
    one, is cached right too.
    """
    ends = np.cumsum(n)
    place = np.arange(len(hashes)) - np.repeat(ends - n, n)
    total = np.cumsum(scrambled(hashes.astype(np.uint64) ^ scrambled(place.astype(np.uint64) + GOLDEN)))
    before = np.concatenate([np.zeros(1, np.uint64), total])[ends - n]
    return np.asarray(total - np.repeat(before, n))
