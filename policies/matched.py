"""Matched attainment: the least headroom at which a policy attains the target, found by replaying.

The search looks at the evaluated part, so what it finds is foresight: it compares policies and chooses no setting.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from lmaas.replay.fleet import SHARED
from lmaas.replay.profile import Profile
from lmaas.replay.spending import cost_scores

from .inputs import Inputs
from .knobs import Knob, knob_of
from .prepare import Prepared
from .registry import Named
from .runner import evaluated_rows, play
from .search import MOST_REPLAYS, STEP, TOLERANCE, Try, search

MATCHED: dict[str, Any] = {
    "policy": pl.String,
    "knob": pl.String,  # the parameter that was searched
    "foresight": pl.Boolean,  # always: the search looked at the evaluated part
    "attains": pl.Boolean,
    # the value of the knob with the least capacity whose replay attains the target: of one that falls the largest
    "headroom_matched": pl.Float64,
    "headroom_below": pl.Float64,  # that of the next less capacity replayed, which does not; null: the least possible
    "gpu_hours_matched": pl.Float64,  # at the target, interpolated between the two
    "gpu_hours_matched_low": pl.Float64,  # of the two replays: how far the interpolation may be off
    "gpu_hours_matched_high": pl.Float64,
    "cost_usd_matched": pl.Float64,  # of the replay that attains
    "slo_attainment": pl.Float64,  # of it; where none attains the highest reached
    "best": pl.Float64,  # the value of the knob with the highest attainment
    "steady": pl.Boolean,  # false: attainment does not rise steadily with the knob
    "replays": pl.Int64,
    "why": pl.String,  # why none attains
}


@dataclass(frozen=True)
class Matched:
    """What a search found; tries in the order of the replays, why: it attains at no value."""

    policy: str
    knob: Knob
    attain: float
    tries: tuple[Try, ...]
    steady: bool = True
    why: str | None = None

    @property
    def best(self) -> Try:
        """The highest attainment, of equals the cheapest."""
        return max(self.tries, key=lambda one: (one.attainment, -one.gpu_hours))

    @property
    def at(self) -> Try | None:
        """The least value that attains; None: none does."""
        met = [one for one in self.tries if one.attainment >= self.attain]
        return min(met, key=self._factor, default=None)

    @property
    def below(self) -> Try | None:
        """The next lower value that was replayed; None: the least possible one attains."""
        at = self.at
        return (
            None
            if at is None
            else max((t for t in self.tries if self._factor(t) < self._factor(at)), key=self._factor, default=None)
        )

    @property
    def gpu_hours(self) -> float | None:
        """At the target, between `below` and `at` in proportion to attainment."""
        at, below = self.at, self.below
        if at is None or below is None:
            return None if at is None else at.gpu_hours
        share = (self.attain - below.attainment) / (at.attainment - below.attainment)
        return below.gpu_hours + share * (at.gpu_hours - below.gpu_hours)

    def _factor(self, one: Try) -> float:
        return self.knob.factor(one.value)

    def row(self) -> dict[str, Any]:
        """A row of `table`."""
        at, below = self.at, self.below
        ends = [one.gpu_hours for one in (at, below) if one is not None]
        return {
            "policy": self.policy,
            "knob": self.knob.name,
            "foresight": True,
            "attains": at is not None,
            "headroom_matched": None if at is None else at.value,
            "headroom_below": None if below is None else below.value,
            "gpu_hours_matched": self.gpu_hours,
            "gpu_hours_matched_low": min(ends, default=None),
            "gpu_hours_matched_high": max(ends, default=None),
            "cost_usd_matched": None if at is None else at.cost_usd,
            "slo_attainment": self.best.attainment if at is None else at.attainment,
            "best": self.best.value,
            "steady": self.steady,
            "replays": len(self.tries),
            "why": self.why,
        }


def table(found: Sequence[Matched]) -> pl.DataFrame:
    """One row a search, columns MATCHED."""
    return pl.DataFrame([one.row() for one in found], schema=MATCHED, orient="row")


def match(
    named: Named,
    ready: Prepared,
    inputs: Inputs,
    attain: float,
    *,
    known: Mapping[float, Try] | None = None,
    first: float | None = None,
    tolerance: float = TOLERANCE,
    most_replays: int = MOST_REPLAYS,
    step: float = STEP,
    say: Callable[[float], None] = lambda share: None,
    once: Callable[[Named, Callable[[], dict[str, Any]]], dict[str, Any]] = lambda tuned, make: make(),
) -> Matched:
    """Search the policy's knob, from its own value or `first`; known: replays that need no repeating, by value.

    once: hands back what `make` makes of the tuned policy, which it may have kept.

    ValueError where it has no knob. A policy that fails while it is replayed raises.
    """
    knob = knob_of(named.policy)
    if knob is None:
        raise ValueError(f"{named.name} has no parameter that buys attainment")
    tries = dict(known or {})

    def replay(value: float) -> Try:
        if value not in tries:
            tuned = replace(named, policy=replace(named.policy, **{knob.name: value}))
            tries[value] = Try(**once(tuned, lambda: asdict(try_value(named, knob, value, ready, inputs))))
            say(min(len(tries) / most_replays, 0.99))
        return tries[value]

    own = getattr(named.policy, knob.name) if first is None else first
    if ready.prefixes is None and possible_share(ready) < attain:  # no fleet can: how far this one comes is enough
        most = knob.value(knob.factor_most)
        ran = tuple({value: replay(value) for value in (knob.inside(own), most)}.values())
        found = Matched(named.name, knob, attain, ran)
    else:
        ran, steady = search(replay, knob, own, attain, tolerance=tolerance, most_replays=most_replays, step=step)
        found = Matched(named.name, knob, attain, ran, steady)
    return found if found.at else replace(found, why=why_not(found, ready))


def try_value(named: Named, knob: Knob, value: float, ready: Prepared, inputs: Inputs) -> Try:
    """One replay with the knob at `value`, scored by attainment and cost alone."""
    tuned = replace(named, policy=replace(named.policy, **{knob.name: value}))
    played = play(tuned, ready, inputs, lambda share: None)
    attained = evaluated_rows(played.ready, played.outcome)["attained"]
    cost = cost_scores(played.outcome, ready.cut_s, ready.end_s)
    denied = int(played.outcome.denied.sum()) + played.denied
    share = float(attained.sum()) / len(attained)
    return Try(value, share, cost["gpu_hours_provisioned"], cost["cost_usd"], denied)


def why_not(found: Matched, ready: Prepared) -> str:
    """Why no value attains, as far as it can be told, as part of a sentence."""
    possible = possible_share(ready)
    if possible < found.attain and ready.prefixes is None:
        return f"only {possible:.2%} of the requests can meet their SLO on an idle replica"
    most = max(found.tries, key=lambda one: found.knob.factor(one.value))
    if most.starts_denied:
        return f"{most.starts_denied:,} starts of replicas were denied at {found.knob.name} {most.value:g}"
    if any(pool.maximum is not None for pool in ready.fleet.pools):
        return "pools are bounded by their max"
    return f"even at {found.knob.name} {most.value:g}, the most that is tried, it attains {most.attainment:.2%}"


def possible_share(ready: Prepared) -> float:
    """Share of the evaluated requests that meet their limits alone on an idle replica of a profile of their service.

    Without prefix caches no fleet beats it. 1 where prefill and decode lanes divide the work between them.
    """
    if any(pool.lane != SHARED for pool in ready.fleet.pools):
        return 1.0
    rows = ready.requests.filter(pl.col("arrival_s") >= ready.cut_s)
    met = 0
    for service in ready.services:
        of = rows.filter(pl.col("service") == service)
        pools = [pool for pool in ready.fleet.pools if pool.service == service]
        profiles = {profile.name: profile for pool in pools for profile in pool.profiles}
        met += int(np.logical_or.reduce([meets(of, profile) for profile in profiles.values()]).sum())
    return met / rows.height


def meets(rows: pl.DataFrame, profile: Profile) -> np.ndarray:
    """Which rows (with limit_ttft_s, limit_tpot_s, limit_e2e_s) meet their limits alone on an idle replica."""
    inputs, outputs = (rows[name].to_numpy().astype(float) for name in ("input_tokens", "output_tokens"))
    first_s, last_s = profile.alone_s(inputs, outputs)
    tpot_s = (last_s - first_s) / (outputs - 1).clip(1)
    ttft, tpot, e2e = (rows[f"limit_{name}_s"].to_numpy() for name in ("ttft", "tpot", "e2e"))
    return np.asarray((first_s <= ttft) & (tpot_s <= tpot) & (last_s <= e2e))
