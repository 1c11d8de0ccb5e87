"""Baseten's traces of completions (Parquet), as AIPerf replays them."""

import polars as pl

from lmaas.analysis.checks import seconds

from .base import Reading, present
from .source import Source

OPTIONAL = {"service": "model_name", "tenant": "org_id", "cached_tokens": "cached_tokens_reference"}
MILLISECONDS = {"ttft_s": "duration_ttft_ms", "e2e_s": "duration_e2e_ms"}
SESSIONS = (
    "provided_session_id",
    "poor_man_session_id",
)  # what the client said, else what Baseten makes of its prompts


class Baseten:
    """`timestamp_start_unix_ms, prompt, input_tokens, output_tokens, total_hashes, block_size, ...`, a row each."""

    name = "baseten"
    kinds = ("parquet",)
    required = ("timestamp_start_unix_ms", "input_tokens", "output_tokens")

    def recognises(self, source: Source) -> bool:
        """By its time and lengths."""
        return set(self.required) <= set(source.columns)

    def read(self, source: Source) -> Reading:
        """Milliseconds since 1970; the prompt itself is not read."""
        columns: dict[str, str | pl.Expr] = {name: name for name in self.required[1:]}
        columns |= present(OPTIONAL, source)
        columns |= {name: seconds(pl.col(ms), 1e3) for name, ms in MILLISECONDS.items() if ms in source.columns}
        sessions = [pl.col(name).cast(pl.String) for name in SESSIONS if name in source.columns]
        if sessions:
            columns["session_id"] = pl.coalesce(*sessions)
        if "request_canceled" in source.columns:
            gone = (pl.col("request_canceled").cast(pl.Float64, strict=False) == 1).fill_null(False)
            columns["status"] = pl.when(gone).then(pl.lit("cancelled")).otherwise(pl.lit("ok"))
        sizes = _block_sizes(source)
        if len(sizes) == 1 and isinstance(source.dtypes.get("total_hashes"), pl.List):
            columns["block_hashes"] = _unsigned(source)
        notes = (f"hashes of blocks of {len(sizes)} sizes are not read",) if len(sizes) > 1 else ()
        block = sizes[0] if len(sizes) == 1 else None
        return Reading("timestamp_start_unix_ms", "epoch-ms", columns, block_size=block, notes=notes)


def _block_sizes(source: Source) -> list[int]:
    if not source.dtypes.get("block_size", pl.Null()).is_integer():
        return []
    size = pl.col("block_size")
    sizes = pl.scan_parquet(source.path, glob=False).filter(size > 0).select(size.unique().sort())
    return sizes.collect(engine="streaming")["block_size"].to_list()


def _unsigned(source: Source) -> str | pl.Expr:
    """Signed 64-bit hashes are the same bits."""
    if source.dtypes["total_hashes"] != pl.List(pl.Int64):
        return "total_hashes"
    return pl.col("total_hashes").list.eval(pl.element().reinterpret(signed=False))
