"""Mooncake traces (JSONL, Apache-2.0, kvcache-ai/Mooncake), and what AIPerf and Dynamo add to them."""

from dataclasses import replace

import polars as pl

from lmaas.analysis.checks import seconds
from lmaas.analysis.errors import UserError

from .base import Reading, present
from .source import Source

BLOCK = 512  # tokens a hash block; the last, partial block of a prompt has an id of its own
OPTIONAL = {"session_id": "session_id", "request_id": "request_id", "priority": "priority", "block_hashes": "hash_ids"}
PROMPTS = ("text_input", "messages")  # AIPerf: the prompt itself in place of its length
TELLING = {"hash_ids", "delay", *PROMPTS}
AT_THE_EARLIEST = (
    "turns with a delay and no timestamp arrive here that long after the turn before them arrived: the earliest that "
    "they can; closed sessions replay them after its end"
)


class Mooncake:
    """`{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [n, ...]}`, one request a line.

    AIPerf and Dynamo add `session_id`, `request_id` and `priority`; a turn may have `delay`, milliseconds after the
    turn before it, in place of a `timestamp`, and `text_input` or `messages` in place of `input_length`.
    """

    name = "mooncake"
    kinds = ("jsonl",)
    required = ("timestamp", "input_length", "output_length")
    optional = (*OPTIONAL.values(), "delay")

    def recognises(self, source: Source) -> bool:
        """By its time and lengths, a key that is Mooncake's or AIPerf's own, and no chat ids: Bailian's has seconds.

        A time and two lengths alone could be anyone's, in any unit.
        """
        keys = set(source.columns)
        return (
            {"timestamp", "output_length"} <= keys and bool(keys & TELLING) and not keys & {"chat_id", "parent_chat_id"}
        )

    def read(self, source: Source) -> Reading:
        """Milliseconds from the trace's start; every prompt has ceil(input / 512) block hashes, if any."""
        if "input_length" not in source.columns:
            raise UserError(
                f"{source.name}: Mooncake rows with prompts and no token counts, which depend on the tokenizer; "
                "add input_length to each row"
            )
        columns = {"input_tokens": "input_length", "output_tokens": "output_length", **present(OPTIONAL, source)}
        blocks = (pl.col("input_tokens").cast(pl.Int64) + (BLOCK - 1)) // BLOCK
        reading = Reading(
            arrival="timestamp",
            unit="ms",
            columns=columns,
            block_size=BLOCK,
            checks={f"block_hashes not one per {BLOCK} input tokens": pl.col("block_hashes").list.len() != blocks},
        )
        return _with_turns(reading, source) if "session_id" in columns else reading


def _with_turns(reading: Reading, source: Source) -> Reading:
    """Turns are counted in the order of the lines of their session."""
    session = pl.col("session_id")
    turn = pl.when(session.is_not_null()).then(pl.int_range(1, pl.len() + 1).over(session))
    if "delay" not in source.columns:
        return replace(reading, columns={**reading.columns, "turn": turn})
    delay = pl.col("delay").cast(pl.Float64, strict=False)
    columns = {**reading.columns, "turn": turn, "think_s": pl.when(turn > 1).then(seconds(delay, 1e3))}
    return replace(reading, arrival=_arrival(delay), columns=columns, notes=(AT_THE_EARLIEST,))


def _arrival(delay: pl.Expr) -> pl.Expr:
    """Milliseconds: the `timestamp`, else the session's last one plus the delays since."""
    given = pl.col("timestamp").cast(pl.Float64, strict=False)
    waited = pl.when(given.is_null()).then(delay).otherwise(0.0).cum_sum()
    since = waited - pl.when(given.is_not_null()).then(waited).forward_fill()
    later = (given.forward_fill() + since).over("session_id").cast(pl.String)
    missing = pl.col("timestamp").is_null() & pl.col("session_id").is_not_null()
    return pl.when(missing).then(later).otherwise(pl.col("timestamp"))
