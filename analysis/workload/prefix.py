"""How much of the prompts repeats, and what caches of every size would save of it, by least recent use."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lmaas.analysis.blockhashes import GOLDEN, chained, scrambled
from lmaas.analysis.progress import Tell, silent

from .prefix_tables import KEPT_S, tables
from .tables import OTHERS, TOP, named

if TYPE_CHECKING:
    from .given import Given

CACHE_TOKENS = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)  # a replica's KV cache to a fleet's shared one
MAX_BLOCKS = 20_000_000  # distinct ones held, at up to 50 bytes each; of longer traces a sample of blocks
MAX_REQUESTS = 50_000_000  # at 12 bytes each; of longer traces the first so many
GROUPS = 16  # sub-samples, to tell the error of a sample
PIECE = 1 << 20  # blocks worked on at a time: several copies of them exist meanwhile
ROWS = 1024  # read at a time
AGE_EDGES_S = 1e-6 * 1.02 ** np.arange(1900)  # to 700 years: percentiles of times between uses are within 1 %
GROUP_SHIFT, DRAW_SHIFT = np.uint64(32), np.uint64(40)  # bits of a hash: whose sub-sample, whether drawn at all
PARTIAL = np.uint64(1 << 39)  # and this one is turned where the block is a prompt's last, not a whole one


def describe(given: "Given") -> dict[str, pl.DataFrame]:
    """The tables of `prefix`, where the trace has block hashes."""
    meta = given.meta
    if not meta.block_size or "block_hashes" not in meta.columns:
        return {}
    return prefix(given.trace.scan(), meta.block_size, quantum_s=meta.quantum_s, tell=given.tell)


def prefix(
    table: pl.LazyFrame,
    block_size: int,
    *,
    cache_tokens: Sequence[int] = CACHE_TOKENS,
    quantum_s: float = 0.0,
    max_blocks: int = MAX_BLOCKS,
    tell: Tell = silent,
) -> dict[str, pl.DataFrame]:
    """Reuse of prompts over all and by service: tables prefix, prefix_sizes, prefix_kept and prefix_intervals.

    Columns as in COLUMNS. Empty dict where no request has hashes and prompt tokens. Each service has one cache, which
    plays its requests in arrival order, each at once. A block is found where all before it are, and whole blocks short
    of a prompt's last token count, as in the replica; a cache keeps whole blocks of prompts, no generated tokens.

    Where more than `max_blocks` distinct blocks turn up, a share of them drawn by their hashes stands for all and
    places in the caches are scaled by that share (SHARDS; Waldspurger et al., FAST 2015); errors are those between
    GROUPS sub-samples. Cost: one pass, two when sampled.
    """
    services = table.head(MAX_REQUESTS).group_by(name=named("service")).agg(n=pl.len()).collect(engine="streaming")
    services = services.sort(["n", "name"], descending=[True, False])
    all_rows = table.select(pl.len()).collect(engine="streaming").item()
    has_sessions = bool(table.select(pl.col("session_id").is_not_null().any()).collect(engine="streaming").item())
    draw = 0  # a block stays where so many bits of its hash are zero
    while True:
        reuse = Reuse(services, block_size, cache_tokens, draw, has_sessions)
        for part in _parts(table, block_size):
            reuse.add(part)
            tell(part.read / all_rows)
            if reuse.entries > max_blocks:
                break
        else:
            read_share = services["n"].sum() / all_rows if all_rows else 1.0
            return tables(reuse, quantum_s, read_share) if reuse.requests.any() else {}
        # as if blocks to come were new as often as those so far
        draw += max(1, math.ceil(math.log2(services["n"].sum() / part.read)))


@dataclass(frozen=True)
class _Part:
    """Requests with hashes, in arrival order, and their blocks one after another."""

    rows: pl.DataFrame  # arrival_s, service, session, input_tokens, blocks
    hashes: np.ndarray
    read: int  # rows of the trace up to here


def _parts(table: pl.LazyFrame, block_size: int) -> Iterator[_Part]:
    count = pl.col("block_hashes").list.len().cast(pl.Int64)
    tokens = pl.col("input_tokens").cast(pl.Int64)
    rows = table.head(MAX_REQUESTS).select(
        "block_hashes",
        "arrival_s",
        service=named("service"),
        session=pl.when(pl.col("session_id").is_not_null()).then(pl.col("session_id").hash()),
        input_tokens=tokens,
        blocks=pl.when(count.is_not_null() & tokens.is_not_null()).then(  # the least of two knows no null
            pl.min_horizontal(count, (tokens + block_size - 1) // block_size)
        ),
    )
    read = 0
    for batch in rows.collect_batches(chunk_size=ROWS, engine="streaming"):
        read += batch.height
        known = batch.filter(pl.col("blocks") > 0)
        ends = known["blocks"].cum_sum().to_numpy()
        cuts = np.unique(np.searchsorted(ends, np.arange(PIECE, ends[-1], PIECE), "right")) if len(ends) else ()
        for piece in _slices(known, [0, *cuts, known.height]):
            hashes = piece.select(pl.col("block_hashes").list.head("blocks").explode())["block_hashes"]
            yield _Part(piece.drop("block_hashes"), hashes.fill_null(0).to_numpy(), read)


def _slices(frame: pl.DataFrame, cuts: Sequence[int]) -> Iterator[pl.DataFrame]:
    for a, b in pairwise(cuts):
        if b > a:
            yield frame.slice(int(a), int(b - a))


class Blocks:
    """Blocks seen so far, numbered as they came: `node_of`'s arrays, and the request that used each last."""

    def __init__(self) -> None:
        self.places = np.full(1 << 12, -1, np.int32)
        self.keys = np.zeros(1 << 11, np.uint64)
        self.follows, self.used = (np.full(1 << 11, -1, np.int32) for _ in range(2))
        self.count = 0

    def room(self, more: int) -> None:
        """For so many more; two thirds of the places are taken at most."""
        from .stack import refill

        need, size = self.count + more, len(self.places)
        if need > len(self.keys):
            longer = max(need, len(self.keys) * 3 // 2) - len(self.keys)
            self.keys = np.concatenate([self.keys, np.zeros(longer, np.uint64)])
            self.follows, self.used = (np.append(x, np.full(longer, -1, np.int32)) for x in (self.follows, self.used))
        while 2 * size < 3 * need:
            size *= 2
        if size > len(self.places):
            self.places = np.full(size, -1, np.int32)
            refill(self.places, self.keys, self.count)


class Reuse:
    """Requests played so far, a row of counts for each of the largest services and one for the rest."""

    def __init__(
        self, services: pl.DataFrame, block_size: int, cache_tokens: Sequence[int], draw: int, has_sessions: bool
    ) -> None:
        self.block_size, self.draw, self.share, self.has_sessions = block_size, draw, 2.0**-draw, has_sessions
        n = services["n"].cast(pl.Int64).to_numpy()
        self.names = services["name"].head(TOP).to_list() + ([OTHERS] if len(services) > TOP else [])
        self.service = services.select(service="name", cache=pl.int_range(pl.len(), dtype=pl.Int64))
        self.size, self.base = n, np.cumsum(n) - n
        self.played = np.zeros(len(n), np.int64)
        self.tree = np.zeros(int(n.sum()), np.int32)
        self.clock = np.zeros(int(n.sum()))
        self.held = np.zeros(len(n), np.int64)
        self.cache_tokens = tuple(sorted(set(cache_tokens)))
        self.tokens = ladder(block_size, self.cache_tokens)
        # a block with k others above it in the sample has about k / share above it in all
        self.sizes = np.floor((self.tokens // block_size - 1) * self.share + 1).astype(np.int64)
        self.ages = np.array(sorted({0.0, *KEPT_S, *AGE_EDGES_S, np.inf}))
        k = len(self.names)
        self.requests, self.blocks, self.input_tokens = (np.zeros(k, np.int64) for _ in range(3))
        self.able, self.missing, self.new, self.alone = (np.zeros((k, GROUPS), np.int64) for _ in range(4))
        self.within = np.zeros((k, GROUPS, len(self.sizes) + 1), np.int64)
        self.aged = np.zeros((k, GROUPS, len(self.ages)), np.int64)
        self.seen, self.own = Blocks(), Blocks()

    @property
    def entries(self) -> int:
        """Blocks held, and once more for each session that has them."""
        return self.seen.count + self.own.count

    def add(self, part: _Part) -> None:
        """Play requests that arrive after all those before."""
        # deferred: numba takes half a second to import
        from .stack import CAN_HIT, WHOLE, first_seen, found

        rows = part.rows.join(self.service, on="service", how="left", maintain_order="left")
        cache, n, tokens = (rows[c].to_numpy() for c in ("cache", "blocks", "input_tokens"))
        row = np.minimum(cache, TOP)
        most = np.minimum((tokens - 1) // self.block_size, n)
        for total, amount in ((self.requests, np.ones_like(n)), (self.blocks, n), (self.input_tokens, tokens)):
            np.add.at(total, row, amount)
        np.add.at(self.able[:, 0], row, most)

        place = np.arange(len(part.hashes)) - np.repeat(np.cumsum(n) - n, n)
        whole = place < np.repeat(tokens // self.block_size, n)
        kind = (WHOLE * whole + CAN_HIT * (place < np.repeat(most, n))).astype(np.uint8)
        key = chained(part.hashes, n) ^ np.repeat(scrambled(cache.astype(np.uint64) + GOLDEN), n)
        key ^= np.where(whole, np.uint64(0), PARTIAL)
        sub = ((key >> GROUP_SHIFT) % np.uint64(GROUPS)).astype(np.int64)
        keep = np.ones(len(key), bool) if not self.draw else (key >> DRAW_SHIFT) % np.uint64(1 << self.draw) == 0
        if self.draw:
            drawn = np.add.reduceat(keep.astype(np.int64), np.cumsum(n) - n) if len(n) else n
            key, kind, sub = key[keep], kind[keep], sub[keep]
        else:
            drawn = n
        self.seen.room(len(key))
        slot = self._slots(rows)
        seen, drawn_blocks = self.seen, (key, kind, sub, drawn, row)
        seen.count = found(
            *(seen.places, seen.keys, seen.follows, seen.count, seen.used, *drawn_blocks),
            *(slot, self.base[cache], self.size[cache], cache, self.clock, rows["arrival_s"].to_numpy()),
            *(self.tree, self.held, self.sizes, self.ages, self.missing, self.new, self.within, self.aged),
        )
        if self.has_sessions:
            session = rows["session"].fill_null(0).to_numpy()
            # a request without a session has one of its own
            alone = (self.base[cache] + slot).astype(np.uint64) * np.uint64(2)
            session = np.where(rows["session"].is_null().to_numpy(), alone, session | np.uint64(1))
            self.own.room(len(key))
            theirs = key ^ np.repeat(scrambled(session), drawn)
            self.own.count = first_seen(
                self.own.places,
                self.own.keys,
                self.own.follows,
                self.own.count,
                theirs,
                kind,
                sub,
                drawn,
                row,
                self.alone,
            )

    def _slots(self, rows: pl.DataFrame) -> np.ndarray:
        """Each request's number among those of its cache."""
        cache = rows["cache"].to_numpy()
        slot = self.played[cache] + rows.select(pl.int_range(pl.len()).over("cache"))["literal"].to_numpy()
        np.add.at(self.played, cache, 1)
        return np.asarray(slot)


def ladder(block_size: int, cache_tokens: Sequence[int]) -> np.ndarray:
    """i8, rising: the sizes asked for, and from one block to far beyond any cache in steps of half a doubling."""
    steps = block_size * np.floor(2.0 ** np.arange(0, 50, 0.5))
    return np.unique(np.concatenate([np.array(cache_tokens, np.int64), steps.astype(np.int64)]))
