"""One GPU profile told: coefficients with their units, what follows from them, and when to believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .format import many, number, percent, text
from .section import Column, Section, Table

if TYPE_CHECKING:
    from lmaas.replay.calibration.stepfit import StepFit
    from lmaas.replay.calibration.steptable import StepTimes
    from lmaas.replay.profile import Latency, Profile

PROMPT = 2048  # tokens, of the examples
DECODES = (1, 32, 128)  # sequences at once, each PROMPT tokens long
UNITS = {
    "base": ("s", "an iteration, whatever is in it"),
    "attn_pair": ("s / token pair", "a prompt token attending to one before it"),
    "prefix_kv": ("s / token", "a token already computed that a prompt's chunk reads"),
    "decode_seq": ("s / sequence", "a sequence that decodes, beside its token"),
    "decode_kv": ("s / token", "a token of context that a decode reads"),
}
TRUST = {
    "calibrated": (
        "Calibrated on a log: its error is of that log's requests that the fit has not seen (of p50, of p95, median by "
        "request). Valid for that engine at such lengths and loads; beyond the batches and contexts seen there it is "
        "extrapolation."
    ),
    "measured": "Measured: valid for the engine, version and settings it was measured on.",
    "fitted": (
        "Fitted to measurements: its error is of what the fit has not seen. On another engine, version or setting "
        "it is not covered by that error: calibrate it on a log (lmaas calibrate)."
    ),
    "estimated": (
        "Estimated from data sheets, nothing was measured on this combination: its error is what estimates of other "
        "combinations had. Good for ranking choices; calibrate on a log (lmaas calibrate) before you buy."
    ),
}


def facts(profile: Profile) -> dict[str, Any]:
    """The profile's fields and what follows from them (`derived`), as `--json` prints them."""
    rows = derived(profile)
    return {
        "profile": profile.model_dump(mode="json"),
        "derived": {row["name"]: row["value"] for row in rows.iter_rows(named=True)},
    }


def derived(profile: Profile) -> pl.DataFrame:
    """name, what, value, unit: speeds of a full batch and KV capacity that the coefficients come to."""
    lat, most = profile.latency, profile.max_batch_tokens
    prompt = np.array([PROMPT])
    alone_s = float(profile.alone_s(prompt, np.ones(1, int))[0][0]) - profile.overhead_s
    # a batch full of prompts of that length: what prefilling reaches at best
    batch = most // PROMPT * PROMPT or most
    of = min(PROMPT, most)
    full_s = lat.base + float(lat.token_s(batch)[-1]) + lat.attn_pair * (batch // of) * of * (of + 1) / 2
    rows: list[tuple[str, str, float, str]] = [
        ("prefill_alone_s", f"prefill of {PROMPT:,} tokens alone", alone_s, "s"),
        ("prefill_tokens_s", f"prefill in batches of {batch:,} tokens", batch / full_s, "tokens/s"),
    ]
    for n in DECODES:
        if n <= profile.max_seqs:
            step = decode_s(lat, n)
            rows.append((f"decode_{n}_s", f"decode step of {many(n, 'sequence')} at {PROMPT:,} tokens", step, "s"))
    rows.append(("kv_tokens", "KV capacity", float(profile.kv_tokens), "tokens"))
    rows.append(("kv_requests", f"requests of {PROMPT:,} tokens it holds", profile.kv_tokens // PROMPT, "requests"))
    if profile.kv_bytes_per_token:
        rows.append(("kv_gb", "KV memory", profile.kv_tokens * profile.kv_bytes_per_token / 1e9, "GB"))
    return pl.DataFrame(
        rows, schema={"name": pl.String, "what": pl.String, "value": pl.Float64, "unit": pl.String}, orient="row"
    )


def decode_s(lat: Latency, sequences: int, context: int = PROMPT) -> float:
    """Seconds of an iteration in which so many sequences decode."""
    return lat.base + float(lat.token_s(sequences)[-1]) + sequences * (lat.decode_seq + context * lat.decode_kv)


def told(profile: Profile) -> tuple[Section, ...]:
    """What it is of, its coefficients, what they come to; notes say when it is valid."""
    return (_identity(profile), _coefficients(profile.latency), _speeds(profile))


def _identity(profile: Profile) -> Section:
    who = (
        ("model", profile.model),
        ("GPU", profile.gpu),
        ("parallelism", f"TP {profile.tp}" + (f" x PP {profile.pp}" if profile.pp > 1 else "")),
        ("dtype of weights", profile.dtype),
        ("GPUs a replica", profile.gpus_per_replica),
        ("weights", profile.weights_gb and f"{number(profile.weights_gb)} GB"),
        (
            "engine",
            f"max_seqs {profile.max_seqs:,}, max_batch_tokens {profile.max_batch_tokens:,}, block {profile.block}",
        ),
        ("overhead a request", f"{number(1e3 * profile.overhead_s)} ms"),
        ("start-up", "cold {cold:g} s, warm {warm:g} s, swap {swap:g} s".format(**profile.startup_s.model_dump())),
        ("price", profile.usd_per_gpu_hour and f"${profile.usd_per_gpu_hour:.2f} a GPU-hour"),
        ("provenance", profile.provenance),
        ("source", profile.source),
        ("date", profile.date),
        ("error", _error(profile)),
    )
    rows = pl.DataFrame([{"what": name, "value": str(value)} for name, value in who if value])
    notes = [TRUST[profile.provenance]]
    if profile.error is None:
        notes.append("No error is known of it: whoever wrote it did not say.")
    facts = Table("The profile", rows, (Column("what", "What"), Column("value", "Value")))
    return Section(
        "profile",
        text(profile.name),
        f"Provenance: {profile.provenance}.",
        tables=(facts,),
        notes=tuple(notes),
    )


def _error(profile: Profile) -> str | None:
    """Its held-out errors in words, those of calibrations by metric."""
    if not profile.error:
        return None
    return ", ".join(f"{text(name)} {percent(value)}" for name, value in profile.error.items())


def _coefficients(lat: Latency) -> Section:
    rows = [
        {"name": name, "value": f"{getattr(lat, name):.4g}", "unit": unit, "of": what}
        for name, (unit, what) in UNITS.items()
    ]
    ends = [*lat.token_knots[1:], None]
    for k, (low, high, slope) in enumerate(zip(lat.token_knots, ends, lat.token_slopes, strict=True)):
        span = f"from {low:,.0f} tokens on" if high is None else f"tokens {low:,.0f} to {high:,.0f}"
        rows.append({"name": f"token_slopes[{k}]", "value": f"{slope:.4g}", "unit": "s / token", "of": span})
    columns = (Column("name", "Coefficient"), Column("value", "Value"), Column("unit", "Unit"), Column("of", "Of"))
    return Section(
        "latency",
        "Step time",
        "t = base + G(n) + attn_pair·A + prefix_kv·PK + decode_seq·B + decode_kv·K (docs/replay.md).",
        tables=(Table("Coefficients", pl.DataFrame(rows), columns),),
    )


def _speeds(profile: Profile) -> Section:
    rows = derived(profile)
    shown = [_amount(row["value"], row["unit"]) for row in rows.iter_rows(named=True)]
    table = rows.select("what", value=pl.Series(shown))
    columns = (Column("what", "What"), Column("value", "Value"))
    return Section(
        "speeds", "What they come to", "One replica, without overhead.", tables=(Table("Derived", table, columns),)
    )


def _amount(value: float, unit: str) -> str:
    return f"{number(1e3 * value)} ms" if unit == "s" else f"{number(value)} {unit}"


def steps_said(steps: StepTimes, found: StepFit) -> list[str]:
    """What a fit to measured steps used, what it set aside, and which measurements it does not explain."""
    said = [f"{len(steps)} steps, medians of {many(steps.rows, 'measurement')}; {steps.aside:,} rows were none"]
    if len(found.outliers):
        which = ", ".join(
            f"{'decode of' if steps.decodes[i] else 'prefill of'} {number(steps.n[i])}" for i in found.outliers[:6]
        )
        said.append(
            f"{many(len(found.outliers), 'step')} off by more than 30 % ({which}): if these measurements went wrong, "
            "take them out of the table"
        )
    return said
