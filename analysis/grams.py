"""Hashed n-grams of a prompt: which of 128 bits its words and pairs of words set. The text itself is never stored.

Words are runs of letters, digits and what is beyond ASCII, A to Z as a to z; signs (U+2000 to U+2FFF) part them, and a
character from U+3000 on is a word of its own, as scripts without spaces have it. Of a text over 2 * EDGE bytes the
first and the last EDGE count, of over 2 * WORDS words the first and the last WORDS: what is asked for stands at one of
the ends, and longer texts would set every bit. A word's hash is FNV-1a of its bytes, scrambled (splitmix64), a pair's
that of both in their order; its seven highest bits are the number of the bit. So about 39 % of the bits are set at
most, in every process and version alike.
"""

import numpy as np
import polars as pl
import pyarrow as pa

BITS = 128
DIGITS = BITS // 4  # hexadecimal, bit 0 first: text passes through CSV, JSON and Parquet as it is
EDGE, WORDS = 512, 16
VERSION = "prompt grams 1"  # part of the id of traces that have them: raised when the same text sets other bits


def hashed(texts: pl.Series) -> pl.Series:
    """String of DIGITS hexadecimal digits by text; null where there is no word in it."""
    from .gramwalk import set_bits  # deferred: numba takes half a second

    array = pa.chunked_array(texts.cast(pl.String).to_arrow()).cast(pa.large_string()).combine_chunks()
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    bits = np.zeros((len(array), BITS), np.uint8)
    _, offsets, data = array.buffers()
    if len(array) and data is not None:
        ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        letters, scratch = np.frombuffer(data, np.uint8), np.zeros(2 * EDGE + 1, np.uint64)
        set_bits(letters, ends, scratch, bits, EDGE, WORDS)
    digits = np.packbits(bits, axis=1).tobytes().hex()
    made = pl.Series([digits[at : at + DIGITS] for at in range(0, len(digits), DIGITS)], dtype=pl.String)
    return made.set(pl.Series(~bits.any(axis=1)), None).alias(texts.name)


def bits_of(grams: pl.Series) -> np.ndarray:
    """u1[rows, BITS] of what `hashed` gave; zeros where it is null."""
    digits = grams.fill_null("0" * DIGITS)
    raw = np.frombuffer(bytes.fromhex("".join(digits.to_list())), np.uint8)
    return np.unpackbits(raw.reshape(len(grams), BITS // 8), axis=1)
