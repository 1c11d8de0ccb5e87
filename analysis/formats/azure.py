"""Azure inference traces: LLM 2023 and 2024, LMM 2025 (CSV, CC-BY-4.0, Azure/AzurePublicDataset)."""

from .base import Reading
from .source import Source

IMAGES = (
    "NumImages is not kept: the trace table counts tokens, and input_tokens is ContextTokens as the source gives it"
)


class Azure:
    """`TIMESTAMP,[NumImages,]ContextTokens,GeneratedTokens`.

    2023 writes times without a zone and with seven digits; one file of 2024 mixes rows with and without a fraction.
    2025 has the images of a multimodal request as a column of its own; its times are `2024-10-15T12:00:00.269Z`.
    """

    name = "azure"
    kinds = ("csv",)
    required = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

    def recognises(self, source: Source) -> bool:
        """By its three columns; others beside them are not read."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """Times are dates; the trace has no service, session or latency."""
        columns = {"input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"}
        notes = (IMAGES,) if "NumImages" in source.columns else ()
        return Reading(arrival="TIMESTAMP", unit="datetime", columns=columns, notes=notes)
