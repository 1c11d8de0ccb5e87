"""Vidur's request traces (CSV, MIT, microsoft/vidur)."""

from lmaas.analysis.errors import UserError

from .base import Reading
from .source import Source

LENGTHS = {"input_tokens": "num_prefill_tokens", "output_tokens": "num_decode_tokens"}


class Vidur:
    """`arrived_at,num_prefill_tokens,num_decode_tokens`, seconds from 0.

    Vidur also has files of lengths alone, `num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio`, to which it
    draws the arrivals itself.
    """

    name = "vidur"
    kinds = ("csv",)
    required = ("arrived_at", *LENGTHS.values())

    def recognises(self, source: Source) -> bool:
        """By its lengths: without arrivals it is Vidur's all the same, and told what it lacks."""
        return set(LENGTHS.values()) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """UserError for lengths without arrivals."""
        if "arrived_at" not in source.columns:
            raise UserError(
                f"{source.name}: Vidur's lengths without times: it says how long requests are, not when they come, and "
                "nothing can be replayed from that; add a column arrived_at (seconds)"
            )
        return Reading("arrived_at", "s", LENGTHS)
