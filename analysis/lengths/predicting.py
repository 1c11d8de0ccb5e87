"""`lmaas predict`: what a stored predictor says of a trace, and how far off that is where outputs are known."""

from datetime import datetime

import numpy as np
import polars as pl

from ..progress import Tell, part, rising, silent
from ..trace import Trace, TraceMeta
from .modelform import Facts
from .overlap import is_known
from .predictor import LengthPredictor
from .requests import requests_of
from .result import Lengths, by_bucket, calibration, importance
from .scores import scored_rows, scores
from .strangers import strangers

COLUMNS = ("request_id", "arrival_s", "service", "predicted_tokens")

# shares of the time of a million requests with trees, measured: read, and looked for among those trained on; predicted
READ, KNOWN, TOLD = 0.05, 0.25, 0.93


def predict(
    trace: Trace,
    predictor: LengthPredictor,
    facts: Facts,
    *,
    generated: int | None = None,
    progress: Tell = silent,
) -> Lengths:
    """Predictions for every request of `trace`, as of its arrival; scored where it was not trained on.

    generated: predict again what has generated so many tokens and goes on, as `expected_tokens`, E[output | output >
    generated]; null where the output is known to be no longer.

    Outcomes within the trace inform later requests once they are there. Rows that were, or may have been, part of the
    training are predicted and left out of the scores, which the notes say.
    `progress` is told the share of the time that is done, a `Share` of the requests.
    """
    tell = rising(progress, trace.meta.rows_kept, "requests")
    requests, note = requests_of(trace)
    tell(READ)
    notes = [said for said in (note, strangers(requests, predictor.services)) if said]
    shift_s, said = _clock(trace.meta, facts)
    notes += said
    here = predictor if shift_s is not None else predictor.elsewhere()
    timed = requests.with_columns(pl.col("arrival_s", "done_s") + (shift_s or 0.0))
    at = pl.col("arrival_s")
    seen = pl.repeat(False, pl.len()) if shift_s is None else at.is_between(facts.from_s, facts.cut_s, closed="left")
    if trace.meta.trace_id == facts.trace_id:
        seen = at < facts.cut_s
    inside = int(timed.select(seen.sum()).item() or 0)
    if inside:
        notes.append(
            f"{inside:,} of {requests.height:,} requests are of the time it was trained on: they are predicted, "
            "and left out of the scores"
        )
    scored = (~seen & (pl.col("output_tokens") >= 1)).fill_null(False)
    again = is_known(timed.filter(scored), facts.sketch)
    tell(KNOWN)
    if again:
        notes.append(
            "requests like these, one after the other as here, were among those it was trained on: nothing is scored, "
            "for the scores would be in-sample"
        )
        scored = pl.repeat(False, pl.len())
    told = here.told(timed, part(tell, KNOWN, TOLD))
    levels = [name for name in told.columns if name.startswith("q_")]
    rows = scored_rows(here, timed, scored, told)
    predictions = pl.concat([requests.select(COLUMNS[:3]), told.select("predicted_tokens", *levels)], how="horizontal")
    predictions = predictions.with_columns(output_tokens=requests["output_tokens"])
    if generated is not None:
        predictions, found = _again(predictions, here, timed, generated, scored)
        notes.append(found)
    predictions = predictions.with_columns(timed.select(trained_on=seen.fill_null(False)))
    if rows.is_empty() and not again:
        notes.append("no request outside the training has a known output, so nothing is scored")
    judged = scores({facts.kind: here}, timed, scored, told={facts.kind: told})
    calibrated, buckets = calibration(rows), by_bucket(rows, here.edges)
    tell(1.0)
    return Lengths(
        "predict", trace.meta, here, facts,
        {"kind": facts.kind, "cut_s": facts.cut_s, "times_compared": shift_s is not None, "trained_on_again": again}
        | ({} if generated is None else {"generated": generated}),
        judged, calibrated, buckets, importance(here), pl.DataFrame(), predictions, tuple(notes),
    )  # fmt: skip


def _again(
    predictions: pl.DataFrame, predictor: LengthPredictor, requests: pl.DataFrame, generated: int, scored: pl.Expr
) -> tuple[pl.DataFrame, str]:
    """(predictions with generated_tokens and expected_tokens, how far off that is where it may be scored)."""
    told = predictions["predicted_tokens"].to_numpy()
    expected = pl.Series(predictor.outliving(requests, told, generated))
    goes_on = (pl.col("output_tokens") > generated).fill_null(True)
    made = predictions.with_columns(
        generated_tokens=pl.lit(generated, pl.UInt32), expected_tokens=pl.when(goes_on).then(expected)
    )
    true = pl.col("output_tokens").cast(pl.Float64)
    first = pl.max_horizontal("predicted_tokens", pl.lit(generated + 1.0))
    judged = made.filter(requests.select(scored).to_series() & made.select(goes_on).to_series()).select(
        n=pl.len(), again=(pl.col("expected_tokens") - true).abs().mean(), first=(first - true).abs().mean()
    )
    n, again, before = judged.row(0)
    if not n:
        return made, f"re-predicted after {generated:,} tokens; no scored request is known to have gone on"
    return made, (
        f"re-predicted after {generated:,} tokens: off by {again:,.0f} tokens on average over the {n:,} scored "
        f"requests that went on, {before:,.0f} by what was predicted at arrival"
    )


def _clock(trace: TraceMeta, facts: Facts) -> tuple[float | None, list[str]]:
    """(seconds to add to the trace's times to have them as the model counts them; None: nobody knows, notes)."""
    if trace.trace_id == facts.trace_id:
        return 0.0, []
    if trace.epoch is not None and facts.epoch is not None:
        shift_s = (trace.epoch - datetime.fromisoformat(facts.epoch)).total_seconds()
        if np.isfinite(shift_s):
            return shift_s, ["it was trained on another trace; both have dates, so what it remembers still counts"]
    return None, [
        "it was trained on another trace, and their times cannot be compared: it goes without what it remembers and "
        "without the time of day; that no request was trained on is likely, and not certain"
    ]
