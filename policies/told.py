"""What a policy is told of demand and output lengths: a predictor's word, or the truth, with an error where asked."""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import polars as pl

from lmaas.analysis.forecasting.forecaster import FORECASTERS

TRUTH, TRUE = "truth", "true"  # not predictors: what really comes
MEDIAN = "median"  # of the service
LENGTHS = ("trees", "buckets", "input-bin", MEDIAN)
MOST_ERROR = 0.5
DRAWN = ("prompt_tokens", "output_tokens", "requests")  # total_tokens is the sum of the first two


@dataclass(frozen=True, kw_only=True)
class Told:
    """Parameters of policies that forecast: whose word they take for demand and for output lengths.

    forecaster: a name of FORECASTERS, or truth; lengths: one of LENGTHS, or true. demand_error, length_error: mean
    absolute percentage error injected into the truth (`sigma_of`). Whoever is told the truth has foresight.
    """

    forecaster: str = "auto"
    lengths: str = MEDIAN
    demand_error: float = 0.0
    length_error: float = 0.0

    def __post_init__(self) -> None:
        check_name("forecaster", self.forecaster, (*FORECASTERS, TRUTH))
        check_name("lengths", self.lengths, (*LENGTHS, TRUE))
        check_error("demand_error", self.demand_error, f"forecaster={TRUTH}", self.forecaster == TRUTH)
        check_error("length_error", self.length_error, f"lengths={TRUE}", self.lengths == TRUE)

    @property
    def foresight(self) -> bool:
        """Whether it reads the future."""
        return self.forecaster == TRUTH or self.lengths == TRUE


def check_name(parameter: str, name: Any, known: tuple[str, ...]) -> None:
    """ValueError, with what is meant, for a name that is none of these."""
    if name not in known:
        near = get_close_matches(name, known, n=1) if isinstance(name, str) else []
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"{parameter} is {name!r}; {hint}")


def check_error(parameter: str, error: Any, needs: str, true: bool) -> None:
    """ValueError for an injected error that is no share, or injected into anything but the truth (`true`)."""
    if isinstance(error, bool) or not isinstance(error, (int, float)) or not 0 <= error <= MOST_ERROR:
        raise ValueError(f"{parameter} is {error!r}; a share from 0 to {MOST_ERROR:g}")
    if error and not true:
        raise ValueError(f"{parameter} is injected into the truth; write {needs}, {parameter}={error:g}")


def errors_of(policy: Any) -> tuple[float, float]:
    """(demand_error, length_error) of any policy; 0 where it has no such parameter."""
    return getattr(policy, "demand_error", 0.0), getattr(policy, "length_error", 0.0)


def sigma_of(error: float) -> float:
    """σ for which exp(σz), z standard normal, is off from 1 by `error` on average.

    E|exp(σz) - 1| = exp(σ²/2) erf(σ/√2), median one: PreServe's mean APE of 6.17 % is σ = 0.0772.
    """
    low, high = 0.0, 2.0
    for _ in range(60):
        sigma = (low + high) / 2
        low, high = (sigma, high) if math.exp(sigma**2 / 2) * math.erf(sigma / math.sqrt(2)) < error else (low, sigma)
    return (low + high) / 2


def off(values: np.ndarray, error: float, seed: int) -> np.ndarray:
    """f8, values off by `error` on average; the same z for every error, so that curves over it are smooth."""
    z = np.random.default_rng(seed).standard_normal(len(values))
    return np.asarray(values * np.exp(sigma_of(error) * z))


def demand_off(truth: pl.DataFrame, error: float, seed: int) -> pl.DataFrame:
    """The true demand (forecasting.rolling.truth) with every window's prompt tokens, output tokens and requests off.

    total_tokens is the sum of what is then said of both, as in a forecast.
    """
    keys = ["start_s", "service", "origin", "type", "metric"]
    drawn = truth.filter(pl.col("metric").is_in(DRAWN)).sort(keys)
    drawn = drawn.with_columns(value=pl.Series(off(drawn["value"].to_numpy(), error, seed)))
    same = [name for name in truth.columns if name not in ("metric", "value")]
    tokens = drawn.filter(pl.col("metric") != "requests")
    total = tokens.group_by(same, maintain_order=True).agg(pl.sum("value"), metric=pl.lit("total_tokens"))
    return pl.concat([drawn, total.select(truth.columns)]).sort(keys)
