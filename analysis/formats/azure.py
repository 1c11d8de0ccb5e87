"""Azure LLM inference traces 2023 and 2024 (CSV, CC-BY-4.0, Azure/AzurePublicDataset)."""

from .base import Reading
from .source import Source


class Azure:
    """`TIMESTAMP,ContextTokens,GeneratedTokens`.

    2023 writes times without a zone and with seven digits; one file of 2024 mixes rows with and without a fraction.
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
        return Reading(arrival="TIMESTAMP", unit="datetime", columns=columns)
