"""PreServe (ICSE'26, arXiv 2504.03702): scale on forecast token demand, route on anticipated load."""

from dataclasses import dataclass

from .planning import Planned


@dataclass(frozen=True, kw_only=True)
class PreServe(Planned):
    """Tier-1 sizing (Alg. 2) on a rolling forecast, the artifact's router, a length predictor.

    The paper's: the sizing rule, ten-minute windows. The artifact's: the router. Ours: μ from a load test of eight
    replicas for its one, statsforecast models for the mLSTM, xgboost for the prompt-tuned DistilBERT, and a lead of
    one cold start. Tier-2 (correction on the anticipated load) is not part of this version.
    """

    router: str = "preserve"
    lengths: str = "trees"
