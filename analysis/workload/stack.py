"""LRU caches of every size in one pass: each block's place in the stack of what was used most recently.

Mattson, Gecsei, Slutz and Traiger (IBM Systems Journal 1970): of least recently used blocks a cache of C holds just the
C at the top of one stack, so the place at which a block is found says which sizes hit. A prompt's blocks go on top with
its first one uppermost, as a replica lets go of them deepest first; so a block never lies above those before it, and
the longest run of leading blocks that a cache holds is simply all that lie within C.

The place of a block last used by request t is counted by requests, not blocks: blocks whose last use is later than t
(a Fenwick tree over requests), and those before it in its own prompt that t used last, too. So a request costs a tree
query for every run of blocks with one last use, a handful, and a table look-up for every block.
"""

import numpy as np

from lmaas.analysis.compiled import kept

NONE = -1
WHOLE, CAN_HIT = (
    1,
    2,
)  # what a block is: kept by caches; of these, one that is found counts (it is not the last token's)


@kept
def node_of(places: np.ndarray, keys: np.ndarray, follows: np.ndarray, count: int, before: int, key: int) -> int:
    """The number of the block with this key; `count` if it is new, and then entered as that.

    `places`, a power of two and never full, finds numbers by keys. But what followed the block `before` the last time
    mostly does again, and blocks entered together lie together: most look-ups are a step in memory, not a leap.
    """
    if before != NONE:
        guess = follows[before]
        if guess != NONE and keys[guess] == key:
            return int(guess)
    size = len(places)
    at = np.int64(key & np.uint64(size - 1))
    while places[at] != NONE and keys[places[at]] != key:
        at = (at + 1) & (size - 1)
    if places[at] == NONE:
        places[at] = count
        keys[count] = key
    if before != NONE:
        follows[before] = places[at]
    return int(places[at])


@kept
def refill(places: np.ndarray, keys: np.ndarray, count: int) -> None:
    """Find the numbers below `count` by their keys in empty `places`."""
    size = len(places)
    for number in range(count):
        at = np.int64(keys[number] & np.uint64(size - 1))
        while places[at] != NONE:
            at = (at + 1) & (size - 1)
        places[at] = number


@kept
def added(tree: np.ndarray, base: int, size: int, slot: int, count: int) -> None:
    """`count` blocks more whose last use is `slot`, 0 to size - 1, of the tree that begins at `base`."""
    i = slot + 1
    while i <= size:
        tree[base + i - 1] += count
        i += i & -i


@kept
def up_to(tree: np.ndarray, base: int, slot: int) -> int:
    """Blocks whose last use is `slot` or before."""
    total, i = 0, slot + 1
    while i > 0:
        total += tree[base + i - 1]
        i -= i & -i
    return total


@kept
def first_seen(
    places: np.ndarray,  # these three and `count` as of `node_of`
    keys: np.ndarray,
    follows: np.ndarray,
    count: int,
    key: np.ndarray,  # u8, of blocks of several requests one after another
    kind: np.ndarray,  # u1: WHOLE, CAN_HIT or both
    sub: np.ndarray,  # i8, sub-sample of each block
    n: np.ndarray,  # i8, blocks by request
    row: np.ndarray,  # i8, row of `new` by request
    new: np.ndarray,  # i8 (row, sub): blocks that could hit and have not been there before; added to
) -> int:
    """Enter all blocks; how many there are now."""
    at = 0
    for r in range(len(n)):
        node = NONE
        for b in range(at, at + n[r]):
            node = node_of(places, keys, follows, count, node, key[b])
            if node == count:
                count += 1
                if kind[b] & CAN_HIT:
                    new[row[r], sub[b]] += 1
        at += n[r]
    return count


@kept
def found(
    places: np.ndarray,  # these four as of `first_seen`
    keys: np.ndarray,
    follows: np.ndarray,
    count: int,
    used: np.ndarray,  # i4, by number of the block: slot of the request that used it last
    key: np.ndarray,  # these five as of `first_seen`
    kind: np.ndarray,
    sub: np.ndarray,
    n: np.ndarray,
    row: np.ndarray,
    slot: np.ndarray,  # i8, by request: its number among those of its cache
    base: np.ndarray,  # i8, by request: where its cache's tree begins
    size: np.ndarray,  # i8, by request: how many requests its cache has
    cache: np.ndarray,  # i8, by request: number of its cache
    clock: np.ndarray,  # f8, by base + slot: arrival; written here
    arrival_s: np.ndarray,  # f8, by request
    tree: np.ndarray,
    held: np.ndarray,  # i8, by cache: blocks in its stack
    sizes: np.ndarray,  # i8, rising: places in the stack
    ages: np.ndarray,  # f8, rising: seconds since the last use
    missing: np.ndarray,  # i8 (row, sub): blocks of any kind that were not there before
    new: np.ndarray,  # i8 (row, sub): of these, those that could hit
    within: np.ndarray,  # i8 (row, sub, size): blocks found that could hit, by the first of `sizes` that holds them
    aged: np.ndarray,  # i8 (row, sub, age): the same by the first of `ages` not below the time since their last use
) -> int:
    """Play requests of several caches in arrival order, adding to the counts; how many blocks there are now."""
    at = 0
    for r in range(len(n)):
        here = slot[r]
        clock[base[r] + here] = arrival_s[r]
        run, run_slot, above, node = 0, NONE, 0, NONE  # the run's blocks, by what they were used last, what lies above
        moved, fits, age = 0, 0, 0  # blocks taken to the top, the place in `sizes`, the place in `ages`
        for b in range(at, at + n[r]):
            node = node_of(places, keys, follows, count, node, key[b])
            last = used[node]
            used[node] = here
            if node == count:
                count += 1
                missing[row[r], sub[b]] += 1
                if kind[b] & CAN_HIT:
                    new[row[r], sub[b]] += 1
                if kind[b] & WHOLE:
                    held[cache[r]] += 1
                    moved += 1
                continue
            if last != run_slot:
                if run > 0:
                    added(tree, base[r], size[r], run_slot, -run)
                # what this request has moved to the top is in the tree nowhere as yet, so it counts as above
                above = held[cache[r]] - up_to(tree, base[r], last)
                run, run_slot = 0, last
                # in whole microseconds: the difference of two decimal times is not quite one
                waited = np.floor((arrival_s[r] - clock[base[r] + last]) * 1e6 + 0.5) / 1e6
                while age < len(ages) - 1 and ages[age] < waited:
                    age += 1
            if kind[b] & WHOLE:
                run += 1
                moved += 1
                if kind[b] & CAN_HIT:
                    while fits < len(sizes) and sizes[fits] < above + run:
                        fits += 1
                    within[row[r], sub[b], fits] += 1
                    aged[row[r], sub[b], age] += 1
        if run > 0:
            added(tree, base[r], size[r], run_slot, -run)
        if moved > 0:
            added(tree, base[r], size[r], here, moved)
        at += n[r]
    return count
