"""The words of texts and the bits that they set, compiled (grams.py says which)."""

import numpy as np

from .compiled import kept

# what a byte of UTF-8 stands in: U+2000 to U+2FFF are signs, from U+3000 on every character is a word
NOTHING, WORD, SIGN, WIDE = range(4)


@kept
def scrambled(value: np.uint64) -> np.uint64:
    """splitmix64's finaliser, as blockhashes.scrambled."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


# measured: 3 µs a prompt of 50 words, its digits included


@kept
def set_bits(
    letters: np.ndarray, ends: np.ndarray, scratch: np.ndarray, bits: np.ndarray, edge: int, most: int
) -> None:
    """Set bits[i, number] for every gram of the text letters[ends[i]:ends[i + 1]]; `scratch` is for its words."""
    for i in range(len(ends) - 1):
        start, end = ends[i], ends[i + 1]
        cut = end - start > 2 * edge
        words, inside = 0, NOTHING
        value = np.uint64(0)
        at = start
        while at < end:
            if cut and at == start + edge:
                at, cut, inside = end - edge, False, NOTHING
            c = letters[at]
            at += 1
            goes_on = 0x80 <= c < 0xC0
            if c == 0xE2 or (inside == SIGN and goes_on):
                inside = SIGN
                continue
            if not (c >= 0x80 or 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122):
                inside = NOTHING
                continue
            if c >= 0xE3 or inside in (NOTHING, SIGN) or (inside == WIDE and not goes_on):
                words += 1
                value = np.uint64(0xCBF29CE484222325)
                inside = WIDE if c >= 0xE3 else WORD
            value = (value ^ np.uint64(c + 32 if 65 <= c <= 90 else c)) * np.uint64(0x100000001B3)
            scratch[words - 1] = value
        before = np.uint64(0)
        seen = 0
        for w in range(words):
            if most <= w < words - most:
                continue
            word = scrambled(scratch[w])
            bits[i, word >> np.uint64(57)] = 1
            if seen:
                bits[i, scrambled(before * np.uint64(3) + word) >> np.uint64(57)] = 1
            before = word
            seen += 1
