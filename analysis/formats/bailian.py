"""Qwen-Bailian usage traces (JSONL, Apache-2.0, alibaba-edu/qwen-bailian-usagetraces-anon)."""

import numpy as np
import polars as pl

from .base import Reading, present
from .careful import scan_carefully
from .source import RESERVED, Source

BLOCK = 16  # tokens a hash block
OPTIONAL = {"turn": "turn", "block_hashes": "hash_ids"}
ROW = f"{RESERVED}chat"
NO_CHAT = "-1"


class Bailian:
    """`{"chat_id", "parent_chat_id", "timestamp": s, "input_length", "output_length", "type", "turn", "hash_ids"}`.

    A line is a turn, `chat_id` its id; `input_length` counts the whole context, so nothing is to be added to it.
    """

    name = "bailian"
    kinds = ("jsonl",)
    required = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length")
    optional = tuple(OPTIONAL.values())

    def recognises(self, source: Source) -> bool:
        """By its chat ids: Mooncake's rows have none, and `timestamp` in milliseconds."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """The chain of parents is a session, named by its first turn; -1 is no parent."""
        chat, parent = pl.col("chat_id"), pl.col("parent_chat_id")
        columns: dict[str, str | pl.Expr] = {
            "request_id": "chat_id",
            "session_id": chat.replace(_sessions(source)),
            "parent_id": pl.when(parent != NO_CHAT).then(parent),
            "input_tokens": "input_length",
            "output_tokens": "output_length",
        }
        return Reading("timestamp", "s", {**columns, **present(OPTIONAL, source)}, block_size=BLOCK)


def _sessions(source: Source) -> dict[str, str]:
    """Chat id -> id of the first turn, of those chats that have a parent in the source.

    Read beforehand: a session may begin anywhere, and its later turns have only the turn before them.
    """
    names = ["chat_id", "parent_chat_id"]
    try:
        chats = source.scan(names, ROW).collect(engine="streaming") if not source.by_line else None
    except pl.exceptions.PolarsError:
        chats = None
    if chats is None:
        chats = scan_carefully(source, names, ROW).collect(engine="streaming")
    chats = chats.drop_nulls("chat_id").unique("chat_id", keep="first", maintain_order=True).with_row_index("at")
    parents = chats.select(chat_id="parent_chat_id").join(
        chats.select("chat_id", "at"), on="chat_id", how="left", maintain_order="left"
    )
    own = np.arange(chats.height)
    first = _roots(parents["at"].fill_null(pl.Series(own, dtype=pl.UInt32)).to_numpy().astype(np.int64))
    later = first != own
    ids = chats["chat_id"]
    return dict(zip(ids.filter(pl.Series(later)), ids.gather(first[later]), strict=True))


def _roots(parent: np.ndarray) -> np.ndarray:
    """The end of each chain, its length halved in each round; a circle, which has none, ends somewhere in itself."""
    for _ in range(len(parent).bit_length() + 1):
        parent = parent[parent]
    return parent
