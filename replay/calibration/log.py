"""A trace with observed latencies as the arrays that a calibration replays and compares with."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from lmaas.analysis.blockhashes import chained
from lmaas.analysis.errors import Exit, UserError
from lmaas.analysis.formats.source import shown
from lmaas.analysis.trace import Trace
from lmaas.replay.prefixes import Prefixes

OBSERVED = ("input_tokens", "output_tokens", "ttft_s", "e2e_s")
LEAST = 60  # observed requests: half of them to fit eight coefficients, half to judge
METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, eq=False)
class Log:
    """Requests of one service in arrival order, arrays of one length; latencies NaN where nobody saw them.

    arrival_s f8 from 0, input_tokens, output_tokens i8; ttft_s, e2e_s f8, observed; prefix: packed hash blocks.
    aside: requests that are not replayed, by reason.
    """

    arrival_s: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft_s: np.ndarray
    e2e_s: np.ndarray
    prefix: Prefixes | None = None
    aside: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def seen(self) -> np.ndarray:
        """Whether a request's latencies were observed, bool."""
        return np.asarray(np.isfinite(self.e2e_s))

    @property
    def tpot_s(self) -> np.ndarray:
        """f8, NaN for single-token answers."""
        found: np.ndarray = tpot_s(self.ttft_s, self.e2e_s, self.output_tokens)
        return found

    def first(self, n: int) -> "Log":
        """The first n requests."""
        prefix = None if self.prefix is None else self.prefix.take(np.arange(n)).packed()
        names = ("arrival_s", "input_tokens", "output_tokens", "ttft_s", "e2e_s")
        return replace(self, prefix=prefix, **{name: getattr(self, name)[:n] for name in names})


def tpot_s(ttft_s: np.ndarray, e2e_s: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
    """(e2e - ttft)/(output - 1), NaN where there is one token."""
    more = np.where(output_tokens > 1, output_tokens - 1, 1)
    found: np.ndarray = np.where(output_tokens > 1, (e2e_s - ttft_s) / more, np.nan)
    return found


def read_log(trace: Trace, service: str | None = None) -> Log:
    """A trace's requests of one service that were answered.

    UserError: no observed latency or too few of them (exit 4, names the columns), several services (exit 2).
    """
    name = shown(trace.meta.name)
    missing = [column for column in OBSERVED if column not in trace.meta.columns]
    if missing:
        raise UserError(
            f"{name}: a calibration needs observed latencies; without values here: {', '.join(missing)}. "
            "Log the time to the first token and to the last, and both token counts (docs/profiles.md)"
        )
    prefixes = "block_hashes" in trace.meta.columns and trace.meta.block_size
    columns = ["arrival_s", "service", *OBSERVED, "status", *(["block_hashes"] if prefixes else [])]
    rows = trace.table(*columns).with_columns(pl.col("service", "status").cast(pl.String))
    rows = _of_service(name, rows, service)
    kept, aside = _answered(rows)
    seen = (pl.col("ttft_s") > 0) & (pl.col("e2e_s") >= pl.col("ttft_s")) & pl.col("e2e_s").is_finite()
    kept = kept.with_columns(seen=seen.fill_null(False))
    n = int(kept["seen"].sum())
    if n < LEAST:
        raise UserError(f"{name}: {n} requests with observed latencies; a calibration needs at least {LEAST}")
    unseen = pl.when("seen").then(pl.col("ttft_s", "e2e_s").cast(pl.Float64)).otherwise(np.nan)
    kept = kept.with_columns(unseen)
    notes = []
    if n < kept.height:
        notes.append(f"{kept.height - n:,} requests without observed latencies are replayed, but not compared")
    if "cached_tokens" in trace.meta.columns and not prefixes:
        notes.append("the log has cached tokens but no block hashes: prompts are replayed as if nothing were cached")
    return Log(
        kept["arrival_s"].to_numpy() - float(kept["arrival_s"][0]),
        kept["input_tokens"].to_numpy().astype(np.int64),
        kept["output_tokens"].to_numpy().astype(np.int64),
        kept["ttft_s"].to_numpy(),
        kept["e2e_s"].to_numpy(),
        _prefixes(kept, trace.meta.block_size or 0) if prefixes else None,
        tuple(aside.items()),
        tuple(notes),
    )


def _of_service(name: str, rows: pl.DataFrame, service: str | None) -> pl.DataFrame:
    known = rows["service"].value_counts(sort=True)["service"].to_list()
    if (service is None and len(known) > 1) or (service is not None and service not in known):
        some = ", ".join(shown(str(s)) for s in known[:8])
        raise UserError(f"{name}: --service must name one of its services: {some}", Exit.USAGE)
    return rows if service is None else rows.filter(pl.col("service") == service)


def _answered(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """(requests to replay, how many others by reason)."""
    bad = pl.col("status").is_not_null() & (pl.col("status") != "ok")
    empty = ((pl.col("input_tokens") >= 1) & (pl.col("output_tokens") >= 1)).fill_null(False).not_()
    why = pl.when(bad).then("status").when(empty).then(pl.lit("no tokens"))
    told = rows.with_columns(why=why)
    counts = told.drop_nulls("why")["why"].value_counts(sort=True)
    return told.filter(pl.col("why").is_null()).drop("why"), dict(counts.iter_rows())


def _prefixes(rows: pl.DataFrame, tokens: int) -> Prefixes:
    """Whole blocks of every prompt; none where a hash is missing."""
    whole = pl.col("input_tokens").cast(pl.Int64) // tokens
    sound = pl.col("block_hashes").list.len() == pl.col("block_hashes").list.drop_nulls().list.len()
    kept = rows.select(blocks=pl.when(sound).then(pl.col("block_hashes").list.head(whole)))
    n = kept["blocks"].list.len().fill_null(0).cast(pl.Int64).to_numpy()
    values = kept.filter(pl.col("blocks").list.len() > 0)["blocks"].explode().cast(pl.UInt64).to_numpy()
    return Prefixes(chained(values, n), np.cumsum(n) - n, n, tokens, np.zeros(len(n), np.int64))
