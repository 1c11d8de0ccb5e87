"""Weka's agent sessions (JSON, Apache-2.0, callanjfox/kv-cache-tester): one object a session, sub-agents inside."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
    counts_anew: bool  # times within a sub-agent count from where it stands, not from the session's start
    began: float = 0.0  # seconds after the session's start: where its times count from


class Weka:
    """`{"id", "block_size", "hash_id_scope", "requests": [{"t", "type", "model", "in", "out", "hash_ids", ...}]}`.

    `t` is seconds since the session's start; within a sub-agent it counts from where that stands in files as recorded,
    from the session's start in those of AgentX. Ids of blocks count from 1 in each session.
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
        requests = value["requests"]
        shares_ids = value.get("hash_id_scope") == "global"
        yield from _turns(_Conversation(str(value["id"]), requests, None, shares_ids, _counts_anew(requests)))


def _counts_anew(requests: Any) -> bool:
    """Whether a sub-agent's request is earlier than the sub-agent, as it can only be by a clock of its own."""
    for item in requests if isinstance(requests, list) else ():
        if isinstance(item, dict) and item.get("type") == "subagent":
            inner = item.get("requests")
            times = [_time(each) for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []
            if any(time < _time(item) for time in times) or _counts_anew(inner):
                return True
    return False


def _time(item: Mapping[str, Any]) -> float:
    """Not a number where there is none: neither earlier nor later than anything."""
    time = item.get("t")
    return time if isinstance(time, (int, float)) else math.nan


def _since_session(talk: _Conversation, item: Mapping[str, Any]) -> Any:
    """The time of an item from the session's start; what is no time stays as it is, for the checks to refuse."""
    time = item.get("t")
    return round(_time(item) + talk.began, 9) if talk.began and not math.isnan(_time(item)) else time


def _turns(talk: _Conversation) -> Iterator[Record]:
    """A sub-agent has a cache of its own, so that its block ids are apart from its parent's, too."""
    before, turn = talk.spawned_by, 0
    for at, item in enumerate(talk.requests):
        if not isinstance(item, dict):
            yield Record(item, aside="malformed record")
        elif item.get("type") == "subagent":
            if item.get("requests"):
                name = f"{talk.id}/{at}-{item.get('agent_id', '')}"
                began = _since_session(talk, item) if talk.counts_anew else 0.0
                yield from _turns(replace(talk, id=name, requests=item["requests"], spawned_by=before, began=began))
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
            given = {name: item.get(key) for name, key in GIVEN.items()} | {"t": _since_session(talk, item)}
            yield Record(item, {**own, **given})
            before = f"{talk.id}:{at}"


def _hashes(ids: Any, key: str | None) -> Any:
    """The ids as they are where there is no key, else hashed with it: those of two keys do not meet."""
    if key is None or ids is None:
        return ids
    # types first, all at C speed: a session may hold millions of ids
    if not isinstance(ids, list) or not set(map(type, ids)) <= {int}:
        return NO_HASHES
    try:
        mixed = np.array(ids, np.uint64)
    except OverflowError:  # negative, or beyond 64 bits
        return NO_HASHES
    start = int.from_bytes(blake2b(key.encode(errors="replace"), digest_size=8).digest(), "little")
    mixed = mixed * ODD_STEP + np.uint64(start)  # wraps; one to one for a key
    for shift, factor in zip((30, 27), MIX, strict=True):  # the finalizer of splitmix64, one to one as well
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
    return mixed ^ (mixed >> np.uint64(31))
