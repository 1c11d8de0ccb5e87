"""Prompts as hash blocks: what a prefix cache knows them by."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmaas.analysis.blockhashes import GOLDEN, scrambled


@dataclass(frozen=True)
class Prefixes:
    """values u8: hash blocks of all prompts; those of request i begin at at[i] and are n[i] (i8); tokens a block.

    A value stands for its block and all blocks before it (`blockhashes.chained`), as the cache takes it to. copy i8 by
    request: requests of different copies have no block in common, whatever their values say.
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
