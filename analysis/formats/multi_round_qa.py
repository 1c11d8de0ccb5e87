"""Results of the multi-round QA benchmark of LMBenchmark, production-stack and AIBrix (CSV)."""

import polars as pl

from .base import Reading
from .durations import between
from .source import Source


class MultiRoundQa:
    """`prompt_tokens,generation_tokens,ttft,generation_time,user_id,question_id,launch_time,finish_time`.

    Times are seconds since 1970, of the client's clock; a user is one conversation, a question a turn of it, from 1.
    """

    name = "multi-round-qa"
    kinds = ("csv",)
    required = ("prompt_tokens", "generation_tokens", "ttft", "user_id", "question_id", "launch_time", "finish_time")

    def recognises(self, source: Source) -> bool:
        """By its own names of what is asked, by whom, and when."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """Counts are written as floats, which the checks take where they are whole."""
        columns: dict[str, str | pl.Expr] = {
            "input_tokens": "prompt_tokens",
            "output_tokens": "generation_tokens",
            "session_id": "user_id",
            "turn": "question_id",
            "ttft_s": "ttft",
            "e2e_s": between(source, "launch_time", "finish_time", "epoch-s"),
        }
        return Reading("launch_time", "epoch-s", columns)
