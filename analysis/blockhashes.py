"""Hashes of prompt blocks, made to stand for their whole prefix."""

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
