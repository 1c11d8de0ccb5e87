"""One replay of one policy with one thing changed, and what it leaves missed of the windows it missed most in."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lmaas.analysis.errors import UserError
from lmaas.replay.conservation import ConservationError
from lmaas.replay.routernames import find_router

from ..brought import suited
from ..equal import scales
from ..inputs import Inputs, Varied
from ..prepare import Prepared
from ..registry import Named
from ..runner import evaluated_rows, play
from ..told import TRUE, TRUTH
from ..whatif import AS_IT_WAS, BALANCED, Script, WhatIf
from .bench import Bench
from .kept import Found, known


@dataclass(frozen=True)
class Window:
    """A window to be mended: who arrived in it, as rows of the evaluated part, and to how many it may be levelled."""

    row: Mapping[str, Any]  # columns of `worst`
    who: npt.NDArray[np.int64]
    missed: int
    level: float

    @property
    def key(self) -> list[Any]:
        """Which one it is."""
        return [self.row[name] for name in ("start_s", "length_s", "service", "region", "lane")]


@dataclass(frozen=True, eq=False)
class Change:
    """One replay of one policy with one thing changed: {"left": misses of each window} or {"why": no replay}."""

    named: Named
    change: str
    windows: tuple[Window, ...]
    script: Script

    def __call__(self, bench: Bench) -> Found:
        """The replay, or what is kept of it."""
        return bench.once(self.asked, lambda: self._replayed(*bench.base))

    @property
    def asked(self) -> dict[str, Any] | None:
        """What determines it."""
        whose = known(self.named)
        windows = [[*window.key, window.missed, round(window.level, 6)] for window in self.windows]
        return whose and {**whose, "cause": self.change, "windows": windows}

    def _replayed(self, ready: Prepared, inputs: Inputs) -> Found:
        try:
            return {"left": _left(self, ready, inputs)}
        except Impossible as why:
            return {"why": str(why)}
        except (UserError, ConservationError):  # none of the policy's
            raise
        except Exception as error:
            return {"why": f"the replay failed: {error}"}


class Impossible(Exception):
    """Why there is no such replay."""


def _left(task: Change, ready: Prepared, inputs: Inputs) -> list[float]:
    named, changed, who = task.named, AS_IT_WAS, [window.who for window in task.windows]
    if task.change == "true demand":
        named = told_truth(named)
    elif task.change == "levelled demand":
        return _levelled(task, ready, inputs)
    else:
        changed = what_if(task, ready, inputs)
    played = play(named, ready, inputs, lambda share: None, what_if=changed)
    attained = evaluated_rows(played.ready, played.outcome)["attained"].to_numpy()
    return [float((~attained[rows]).sum()) for rows in who]


def told_truth(named: Named, error: float = 0.0) -> Named:
    """The policy told the true demand, off by `error`; Impossible where it takes no forecaster's word."""
    policy = named.policy
    names = {field.name for field in fields(policy)} if is_dataclass(policy) else set()
    if getattr(policy, "forecaster", None) is None or not {"forecaster", "demand_error"} <= names:
        raise Impossible("it has no forecast")
    if (policy.forecaster, policy.demand_error) == (TRUTH, error):
        raise Impossible("it is told the truth already")
    try:
        return replace(named, policy=replace(policy, forecaster=TRUTH, demand_error=error))
    except ValueError as why:
        raise Impossible(f"it cannot be told the truth: {why}") from None


def what_if(task: Change, ready: Prepared, inputs: Inputs) -> WhatIf:
    """What is changed behind the policy's back; Impossible where nothing would be."""
    policy = task.named.policy
    fitted = suited(ready, policy, inputs)[0]
    router = find_router(task.named.router)
    if task.change == "instant start":
        if not scales(policy) or policy.instant_start:
            raise Impossible("its replicas start at once" if scales(policy) else "none of its replicas has to start")
        if all(p.startup_s.cold == p.startup_s.warm == 0 for pool in fitted.fleet.pools for p in pool.profiles):
            raise Impossible("start-up takes no time here")
        return WhatIf(instant_start=True)
    if task.change == "unlimited KV":
        return WhatIf(unlimited_kv=True)
    if task.change == "balanced router":
        if router.holds or "weights" in router.params:
            raise Impossible("its router holds requests or has weights that the policy sets")
        if (task.named.router, policy.lengths) == (BALANCED, TRUE):
            raise Impossible("its router is that already")
        return WhatIf(balanced=True)
    apart = not task.script or len(fitted.fleet.pools) != len(ready.fleet.pools)
    if apart or router.holds or fitted.fleet.hold is not None or any(pool.mixed for pool in fitted.fleet.pools):
        raise Impossible("requests are held, or pools are mixed or split: its fleet cannot be doubled")
    return WhatIf(script=task.script)


def _levelled(task: Change, ready: Prepared, inputs: Inputs) -> list[float]:
    """Misses with the worst windows levelled, scaled to as many requests as there were."""
    if ready.fleet.sessions == "closed":
        raise Impossible("in closed sessions a request that is left out takes the later ones with it")
    first = int((ready.requests["arrival_s"] < ready.cut_s).sum())
    arrival_s = ready.requests["arrival_s"].to_numpy().copy()
    gone = np.zeros(len(arrival_s), bool)
    rng = np.random.default_rng([ready.seed, 6])
    for window in (w for w in task.windows if w.row["service"] is not None):
        keep = min(len(window.who), max(1, round(window.level)))
        stays = np.sort(rng.permutation(window.who)[:keep]) + first
        gone[window.who + first] = True
        gone[stays] = False
        at = (np.arange(keep) + 0.5) / keep
        arrival_s[stays] = np.minimum(window.row["start_s"] + window.row["length_s"] * at, ready.end_s)
    shift = pl.Series(arrival_s) - ready.requests["arrival_s"]
    moved = ready.requests.with_columns(
        arrival_s=pl.Series(arrival_s), done_s=pl.col("done_s") + shift, _at=pl.int_range(pl.len())
    )
    moved = moved.filter(pl.Series(~gone)).sort("arrival_s", maintain_order=True)
    levelled = replace(ready, requests=moved.drop("_at"))
    played = play(task.named, levelled, Varied(levelled, inputs), lambda share: None)
    attained = np.zeros(len(arrival_s), bool)
    attained[moved.filter(pl.col("arrival_s") >= ready.cut_s)["_at"].to_numpy()] = evaluated_rows(
        played.ready, played.outcome
    )["attained"].to_numpy()
    found = []
    for window in task.windows:
        stayed = window.who[~gone[window.who + first]] + first
        found.append(float((~attained[stayed]).sum()) * len(window.who) / max(1, len(stayed)))
    return found
