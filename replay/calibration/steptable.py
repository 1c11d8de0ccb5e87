"""A table of measured step times, CSV or Parquet, as iterations with their durations.

Two layouts, told by their columns (docs/profiles.md). Batches: `prompt_size, batch_size, token_size, prompt_time,
token_time` (tokens and milliseconds): a batch of equal prompts prefilled at once, then decoded; `e2e_time` corrects the
answers' length. Steps: `time_s` or `time_ms`, with `prefill_tokens`, `decode_seqs`, `decode_context` and, where chunks
continue a prompt or several are in a step, `prefix_tokens` and `attn_pairs` (the A of `Latency`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.source import shown

BATCHES = ("prompt_size", "batch_size", "token_size", "prompt_time", "token_time")
STEPS = ("prefill_tokens", "prefix_tokens", "attn_pairs", "decode_seqs", "decode_context")
WHOSE = {"model": "model", "gpu": "hardware", "tp": "tensor_parallel"}  # option -> column that tells combinations apart
MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class StepTimes:
    """Iterations (medians of repeated runs): n, A, PK, B, K as in `Latency`, and how long they took, f8 each."""

    n: np.ndarray
    pairs: np.ndarray
    prefix: np.ndarray
    decodes: np.ndarray
    context: np.ndarray
    seconds: np.ndarray
    group: np.ndarray  # i8: rows of one configuration, held out together
    rows: int  # of the file, used
    aside: int  # of the file, that are no measurement

    def __len__(self) -> int:
        return len(self.seconds)


def read_steps(path: Path, model: str | None = None, gpu: str | None = None, tp: int | None = None) -> StepTimes:
    """The rows of one combination; UserError (exit 4): none to use; (exit 2): of several."""
    table = _read(path)
    table, whose = _one(path, table, {"model": model, "gpu": gpu, "tp": None if tp is None else str(tp)})
    found = _batches(table) if set(BATCHES) <= set(table.columns) else _steps(path, table)
    names = [c for c in found.columns if c != "seconds"]
    sound = pl.all_horizontal(pl.all().is_finite(), pl.col(names) >= 0, pl.col("seconds") > 0, pl.col("n") >= 1)
    kept = found.drop_nulls().filter(sound)
    by = [c for c in kept.columns if c != "seconds"]
    one = kept.group_by(by, maintain_order=True).agg(pl.col("seconds").median())
    if one.height < 4:
        raise UserError(f"{shown(str(path))}: {one.height} different steps measured{whose}; a fit needs at least 4")
    columns = {name: one[name].to_numpy() for name in one.columns if name != "group"}
    return StepTimes(
        **columns, group=one["group"].to_numpy().astype(int), rows=kept.height, aside=found.height - kept.height
    )


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False)
        else:
            table = pl.read_csv(path, infer_schema=False, n_rows=MOST_ROWS, glob=False, truncate_ragged_lines=True)
    except OSError as error:
        raise UserError(f"{shown(str(path))}: cannot be read: {error.strerror or 'no such file'}") from None
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise UserError(f"{shown(str(path))}: not a table: {shown(str(error))}") from None
    return table.rename({name: name.strip() for name in table.columns})


def _one(path: Path, table: pl.DataFrame, asked: dict[str, str | None]) -> tuple[pl.DataFrame, str]:
    """The rows of the combination asked for; UserError where they are of several, or of none."""
    said = []
    for option, column in WHOSE.items():
        if column not in table.columns:
            continue
        values = table[column].cast(pl.String)
        wanted = asked[option]
        if wanted is not None:
            table = table.filter(values.str.to_lowercase() == wanted.lower())
            said.append(f"{option} {wanted}")
        names = sorted(values.drop_nulls().unique())
        if table.height == 0 or (wanted is None and table[column].n_unique() > 1):
            what = ", ".join(map(shown, names[:8]))
            raise UserError(f"{shown(str(path))}: --{option} must name one of its {column}s: {what}", Exit.USAGE)
    return table, f" for {', '.join(said)}" if said else ""


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64, strict=False)


def _batches(table: pl.DataFrame) -> pl.DataFrame:
    """Two iterations a row: its prefill, and a decode in the middle of the answer."""
    prompt, batch, tokens = map(_number, ("prompt_size", "batch_size", "token_size"))
    prefill_s, decode_s = _number("prompt_time") / 1e3, _number("token_time") / 1e3
    if "e2e_time" in table.columns:  # answers can be shorter than asked for
        tokens = pl.min_horizontal(tokens, 1 + (_number("e2e_time") / 1e3 - prefill_s) / decode_s)
    zero, group = pl.lit(0.0), pl.struct(prompt, batch).rank("dense").cast(pl.Float64)
    whole = prompt * (prompt + 1) / 2
    prefills = table.select(
        n=prompt * batch, pairs=whole * batch, prefix=zero, decodes=zero, context=zero, seconds=prefill_s, group=group
    )
    context = batch * (prompt + (tokens / 2).round())
    decodes = table.select(
        n=batch, pairs=zero, prefix=zero, decodes=batch, context=context, seconds=decode_s, group=group
    )
    return pl.concat([prefills, decodes])


def _steps(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    time = next((name for name in ("time_s", "time_ms") if name in table.columns), None)
    if time is None or not {"prefill_tokens", "decode_seqs"} & set(table.columns):
        found = ", ".join(shown(c) for c in table.columns[:12])
        raise UserError(
            f"{shown(str(path))}: no columns of measured steps. Needed: {', '.join(BATCHES)}; or time_s or time_ms "
            f"with prefill_tokens or decode_seqs, decode_context. Found: {found}"
        )
    missing = [pl.lit(None, pl.String).alias(name) for name in STEPS if name not in table.columns]
    table = table.with_columns(missing)
    prefill, prefix, decodes = (
        _number(name).fill_null(0) for name in ("prefill_tokens", "prefix_tokens", "decode_seqs")
    )
    context = pl.when(decodes > 0).then(_number("decode_context")).otherwise(0.0)
    one_chunk = prefill * prefix + prefill * (prefill + 1) / 2
    return table.select(
        n=prefill + decodes,
        pairs=pl.coalesce(_number("attn_pairs"), one_chunk),
        prefix=prefix,
        decodes=decodes,
        context=context,
        seconds=_number(time) * (1e-3 if time == "time_ms" else 1.0),
    ).with_columns(group=pl.struct("n", "pairs", "prefix", "decodes", "context").rank("dense").cast(pl.Float64))
