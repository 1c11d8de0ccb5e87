"""The static fleet at equal GPU-hours: what a policy's money buys when replicas never come or go.

Foresight: nobody knows beforehand what a policy will spend. A policy that such a fleet beats gained nothing by scaling.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import polars as pl

from lmaas.analysis.errors import UserError
from lmaas.replay.conservation import ConservationError
from lmaas.replay.fleet import SHARED, SILOS, Fleet
from lmaas.replay.protocol import History

from .inputs import Inputs
from .prepare import Prepared
from .registry import Named
from .runner import Run, run_policy

Pools = Mapping[tuple[str, str, str], float]  # (service, region, lane) -> mean GPUs provisioned
CLOSE = 0.02  # of the GPU-hours: a fleet this little below needs none above beside it
SCORES = (
    "gpu_hours_provisioned", "cost_usd", "usd_per_month", "slo_attainment", "goodput_rps", "worst_hour_attainment",
    "ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p95_s", "e2e_p95_s", "e2e_p99_s", "replicas_min", "replicas_max",
)  # fmt: skip
EQUAL: dict[str, Any] = {
    "policy": pl.String,  # whose GPU-hours these are
    "bound": pl.String,  # at most: the largest fleet that spends no more; at least: the next larger one
    "foresight": pl.Boolean,  # always
    "replicas": pl.String,  # by pool
    "gpu_hours_off": pl.Float64,  # share by which it spends more than the policy
    **dict.fromkeys(SCORES, pl.Float64),
}


@dataclass(frozen=True)
class Held:
    """Fixed counts a pool with a policy's router and predictions: it differs from that policy in scaling alone."""

    counts: tuple[int, ...]
    router: str
    lengths: str | None = None
    length_error: float = 0.0

    foresight: ClassVar[bool] = True
    forecaster: ClassVar[str | None] = None
    instant_start: ClassVar[bool] = False

    def start(self, fleet: Fleet, history: History) -> None:
        """Nothing to remember."""

    def initial(self, fleet: Fleet, history: History, state: None) -> Sequence[int]:
        """As counted."""
        return self.counts


@dataclass(frozen=True)
class Beside:
    """One static fleet beside one policy; its run has no rows."""

    policy: str
    bound: str
    run: Run
    held: Held


@dataclass(frozen=True)
class Equals:
    """All of them: table has columns EQUAL; notes say what could not be replayed."""

    fleets: tuple[Beside, ...] = ()
    table: pl.DataFrame = field(default_factory=pl.DataFrame)
    notes: tuple[str, ...] = ()


def scales(policy: Any) -> bool:
    """Whether its fleet ever changes."""
    return any(hasattr(policy, name) for name in ("plan", "plan_all", "react"))


def counts_around(gpus: Pools, fleet: Fleet) -> list[tuple[int, ...]]:
    """Counts a pool of its own kind: the largest fleet of at most so many GPUs, and the next where that is not CLOSE.

    Each pool has its part, the remainders go to the pools that are furthest below it. A pool that the policy ever ran
    keeps one replica, with which the first fleet may come out above.
    """
    each = [pool.profile.gpus_per_replica for pool in fleet.pools]
    wanted = [max(0.0, share) / size for share, size in zip(_own(gpus, fleet), each, strict=True)]
    least = [max(int(n + 1e-9), 1 if n > 0 else 0) for n in wanted]
    total = sum(n * size for n, size in zip(wanted, each, strict=True))

    def filled(within: bool) -> tuple[tuple[int, ...], float]:
        counts, left = list(least), total - sum(n * size for n, size in zip(least, each, strict=True))
        while left > 1e-9:
            most = left + 1e-9 if within else math.inf
            short = [p for p in range(len(each)) if wanted[p] > counts[p] + 1e-9 and each[p] <= most]
            if not short:
                break
            furthest = max(short, key=lambda p: wanted[p] - counts[p])
            counts[furthest] += 1
            left -= each[furthest]
        return tuple(counts), left

    most, left = filled(within=True)
    return [most, filled(within=False)[0]] if left > CLOSE * total else [most]


def _own(gpus: Pools, fleet: Fleet) -> list[float]:
    """Mean GPUs of each pool of the fleet without its mixed replicas; those of silos come back to their pool."""
    held = dict.fromkeys(((pool.service, pool.region, pool.lane) for pool in fleet.pools), 0.0)
    for (service, region, lane), n in gpus.items():
        key = (service, region, SHARED if lane in SILOS and (service, region, lane) not in held else lane)
        held[key] += n
    mixed = [sum(kind.gpus_per_replica * n for kind, n in pool.mixed) for pool in fleet.pools]
    return [n - beside for n, beside in zip(held.values(), mixed, strict=True)]


def beside_policies(
    named: Sequence[Named],
    runs: Mapping[str, Run],
    ready: Prepared,
    inputs: Inputs,
    jobs: int,
    progress: Callable[[str, float], None],
) -> Equals:
    """The static fleets at the GPU-hours of every policy that ran and scales; equal ones are replayed once."""
    asked: dict[Held, list[tuple[str, str]]] = {}
    for one in named:
        if one.name not in runs or not scales(one.policy):
            continue
        policy, error = one.policy, getattr(one.policy, "length_error", 0.0)
        for bound, counts in zip(
            ("at most", "at least"), counts_around(runs[one.name].gpus, ready.fleet), strict=False
        ):
            held = Held(counts, one.router, policy.lengths, error)
            asked.setdefault(held, []).append((one.name, bound))

    def replay(held: Held) -> Run | str:
        whose, bound = asked[held][0]
        label = f"{whose}, static, {bound} its GPU-hours"
        try:
            found = run_policy(Named(label, held, held.router), ready, inputs, partial(progress, label))
            return replace(found, rows=found.rows.clear())
        except (UserError, ConservationError):  # none of this fleet's
            raise
        except Exception as error:  # the policy's router, say
            return f"{whose}: the static fleet at its GPU-hours could not be replayed: {error}"
        finally:
            progress(label, 1.0)

    with ThreadPoolExecutor(max_workers=jobs) as pool:  # the kernel holds no interpreter lock
        ended = dict(zip(asked, pool.map(replay, asked), strict=True))
    order = {one.name: k for k, one in enumerate(named)}
    found = [
        Beside(name, bound, run, held)
        for held, run in ended.items()
        if isinstance(run, Run)
        for name, bound in asked[held]
    ]
    found.sort(key=lambda one: (order[one.policy], one.bound != "at most"))
    return Equals(
        tuple(found), _table(found, runs, ready.fleet), tuple(w for w in ended.values() if isinstance(w, str))
    )


def _table(found: Sequence[Beside], runs: Mapping[str, Run], fleet: Fleet) -> pl.DataFrame:
    """One row a fleet, columns EQUAL."""
    rows = []
    for one in found:
        spent = runs[one.policy].scores["gpu_hours_provisioned"]
        hours = one.run.scores["gpu_hours_provisioned"]
        rows.append(
            {
                "policy": one.policy,
                "bound": one.bound,
                "foresight": True,
                "replicas": ", ".join(f"{pool} {n}" for pool, n in zip(fleet.pools, one.held.counts, strict=True)),
                "gpu_hours_off": hours / spent - 1 if spent else None,
                **{name: one.run.scores[name] for name in SCORES},
            }
        )
    return pl.DataFrame(rows, schema=EQUAL, orient="row")
