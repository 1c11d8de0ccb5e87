"""Weka's agent sessions (JSON, Apache-2.0, callanjfox/kv-cache-tester): one object a session, sub-agents inside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl

from .base import Reading
from .source import Source
from .unfold import Record

BLOCK = 64  # tokens a hash block, where a session does not say
EACH_ITS_OWN = "times count from the start of each session: all sessions begin at 0"
GIVEN = {
    "t": "t",
    "service": "model",
    "input_tokens": "in",
    "output_tokens": "out",
    "ttft_s": "ttft",
    "e2e_s": "api_time",
}
NO_HASHES = [-1]  # for the checks to refuse
ODD_STEP, MIX = np.uint64(0x9E3779B97F4A7C15), (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True, slots=True)
class _Conversation:
    """A session, or a sub-agent's part of it: what is said there is a sequence of turns of its own."""

    id: str
    requests: Any
    spawned_by: str | None  # request
    shares_ids: bool  # its block ids mean the same text in every session


class Weka:
    """`{"id", "block_size", "hash_id_scope", "requests": [{"t", "type", "model", "in", "out", "hash_ids", ...}]}`.

    `t` is seconds since the session's start, also within a sub-agent. Ids of blocks count from 1 in each session.
    """

    name = "weka"
    kinds = ("jsonl",)
    required = ("id", "block_size", "requests")
    fields = (*GIVEN, "request_id", "session_id", "turn", "parent_id", "think_s", "block_hashes")

    def recognises(self, source: Source) -> bool:
        """By a session's keys."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """The size of a hash block is the first session's; a prompt's last, partial block has a hash or has none."""
        sizes = [session.get("block_size") for session in source.samples]
        block = next((size for size in sizes if isinstance(size, int) and size > 0), BLOCK)
        tokens, hashes = pl.col("input_tokens").cast(pl.Int64), pl.col("block_hashes").list.len()
        fits = hashes.is_between(tokens // block, (tokens + (block - 1)) // block)
        return Reading(
            arrival="t",
            unit="s",
            columns={name: name for name in self.fields if name != "t"},
            block_size=block,
            checks={f"block_hashes not one per {block} input tokens": ~fits},
            notes=(EACH_ITS_OWN,) if len(source.samples) > 1 else (),
        )

    def unfold(self, value: Mapping[str, Any]) -> Iterator[Record]:
        """The requests of a session, those of a sub-agent where it stands among them."""
        yield from _turns(
            _Conversation(str(value["id"]), value["requests"], None, value.get("hash_id_scope") == "global")
        )


def _turns(talk: _Conversation) -> Iterator[Record]:
    """A sub-agent has a cache of its own, so that its block ids are apart from its parent's, too."""
    before, turn = talk.spawned_by, 0
    for at, item in enumerate(talk.requests):
        if not isinstance(item, dict):
            yield Record(item, aside="malformed record")
        elif item.get("type") == "subagent":
            if item.get("requests"):
                name = f"{talk.id}/{at}-{item.get('agent_id', '')}"
                yield from _turns(_Conversation(name, item["requests"], before, talk.shares_ids))
            else:
                yield Record(item, aside="sub-agent without requests")
        else:
            turn += 1
            own = {
                "request_id": f"{talk.id}:{at}",
                "session_id": talk.id,
                "turn": turn,
                "parent_id": before,
                "think_s": item.get("think_time") if turn > 1 else None,
                "block_hashes": _hashes(item.get("hash_ids"), None if talk.shares_ids else talk.id),
            }
            yield Record(item, {**own, **{name: item.get(key) for name, key in GIVEN.items()}})
            before = f"{talk.id}:{at}"


def _hashes(ids: Any, key: str | None) -> Any:
    """The ids as they are where there is no key, else hashed with it: those of two keys do not meet."""
    if key is None or ids is None:
        return ids
    # types first, all at C speed: a session may hold millions of ids
    if (
        not isinstance(ids, list)
        or not set(map(type, ids)) <= {int}
        or (ids and not 0 <= min(ids) <= max(ids) < 1 << 64)
    ):
        return NO_HASHES
    start = int.from_bytes(blake2b(key.encode(errors="replace"), digest_size=8).digest(), "little")
    mixed = np.array(ids, np.uint64) * ODD_STEP + np.uint64(start)  # wraps; one to one for a key
    for shift, factor in zip((30, 27), MIX, strict=True):  # the finalizer of splitmix64, one to one as well
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
    return (mixed ^ (mixed >> np.uint64(31))).tolist()
