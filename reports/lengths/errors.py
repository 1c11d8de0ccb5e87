"""How far off predictions were, by service, beside the floors: on requests that were not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lmaas.analysis.lengths.scores import PUBLISHED

from ..format import change, many, number, percent, share, text
from ..section import Column, Section, table

if TYPE_CHECKING:
    from lmaas.analysis.lengths.result import Lengths

COLUMNS = (
    Column("predictor", "Predictor", brief=True),
    Column("service", "Service", brief=True),
    Column("n", "n", "count", brief=True),
    Column("mae_tokens", "MAE, tokens", "number", brief=True),
    Column("acc_100", "Acc-100", "share", brief=True),
    Column("bias", "Bias", "change", brief=True),
    Column("bucket_accuracy", "Bucket", "share", brief=True),
    Column("kendall_tau", "Kendall's tau", "number", brief=True),
    Column("coverage_80", "80 % holds", "share", brief=True),
    Column("coverage_95", "95 % holds", "share"),
    Column("pinball_tokens", "Pinball, tokens", "number"),
    Column("width_80_tokens", "80 % width, tokens", "number"),
    Column("bias_tokens", "Bias, tokens", "number"),
    Column("n_tau", "n of tau", "count"),
    Column("buckets", "Buckets", "count"),
)
PRESERVE = (
    f"For orientation, PreServe reports MAE {PUBLISHED['mae_tokens']} tokens and Acc-100 {share(PUBLISHED['acc_100'])} "
    f"for its DistilBERT on prompt text: other data (ShareGPT), and its artifact trains on the first {percent(0.8)} "
    f"and tests on the last {percent(0.3)} of one shuffle, so a third of the test was trained on."
)


def section(result: Lengths) -> Section:
    """Scores by predictor and service; of `predict`, of the one predictor."""
    found = result.scores.with_columns(service=pl.col("service").fill_null("all"))
    tables = (
        (table("Errors on requests that were not trained on", found, COLUMNS, "scores.parquet"),)
        if found.height
        else ()
    )
    return Section("errors", "Errors", finding(result), tables=tables, notes=(*result.notes, PRESERVE), brief=True)


def finding(result: Lengths) -> str:
    """The error, and what it is worth beside the better floor."""
    every = result.scores.filter(pl.col("service").is_null()).to_dicts()
    if not every:
        held = "no request outside its training has a known output"
        if result.settings.get("trained_on_again"):
            held = "requests like these were among those it was trained on"
        held = held if result.verb == "predict" else "no request is held out"
        return f"{_what(result)}; nothing is scored, for {held}."
    own, floors = every[0], every[1:]
    unseen = "it was not trained on" if result.surely_unseen else "that it shows no sign of being trained on"
    fallen = ", here only its floor," if result.facts.note else ""
    said = (
        f"{text(own['predictor'])}{fallen} is off by {number(own['mae_tokens'], 3)} tokens on average on "
        f"{many(own['n'], 'request')} {unseen}, {change(own['bias'])} in sum"
    )
    if own["coverage_80"] is not None:
        said += f"; its {percent(0.8)} interval holds {percent(own['coverage_80'])} of them"
    if floors:
        best = min(floors, key=lambda row: row["mae_tokens"])
        less = 1 - own["mae_tokens"] / best["mae_tokens"] if best["mae_tokens"] else 0.0
        worth = f"{percent(less)} less than" if less > 0 else f"{percent(-less)} more than" if less else "as"
        said += f". That is {worth} {text(best['predictor'])}, the better floor"
    return f"{said}."


def _what(result: Lengths) -> str:
    if result.verb == "train":
        return f"{text(result.facts.kind)} learned from {many(result.facts.rows, 'request')}"
    n = result.predictions.height
    return f"{many(n, 'request')} {'is' if n == 1 else 'are'} predicted"
