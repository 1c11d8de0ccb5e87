"""What a length predictor is, and what its scores mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmaas.analysis.lengths.scores import COLUMNS

from ..evaluate.definitions import definitions
from ..format import many, text
from ..section import Section

if TYPE_CHECKING:
    from lmaas.analysis.lengths.result import Lengths

TERMS = {
    "Known at arrival": "input length, max_tokens, service, tier, region, tenant, time of day (once every hour was "
    "seen twice), the tenant's and the session's outputs that were done by then, the session's earlier requests",
    "trees": "gradient-boosted trees on ln(output), scaled back so that predictions sum to outputs",
    "buckets": "a classifier of ten buckets; the prediction is the mean of their mean outputs, weighed by its word",
    "input-bin": "mean of the service and half octave of input (Aladdin's)",
    "median": "median of the training part",
}
NAMES = {
    "mae_tokens": "MAE", "acc_100": "Acc-100", "bias": "Bias", "bucket_accuracy": "Bucket",
    "kendall_tau": "Kendall's tau", "pinball_tokens": "Pinball", "coverage_80": "80 % holds",
    "width_80_tokens": "80 % width",
}  # fmt: skip


def section(result: Lengths) -> Section:
    """The same for every run, but for what it was trained on."""
    facts = result.facts
    return Section(
        "method",
        "Method and definitions",
        f"{text(facts.kind)} was trained on {many(facts.rows, 'request')} of {text(facts.trace_name)}, done before the "
        "cut; every score is of others.",
        tables=(definitions(TERMS | {label: COLUMNS[name] for name, label in NAMES.items()}),),
    )
