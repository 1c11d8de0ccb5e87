"""What a log says of its engine: replicas, sequences, tokens a batch, KV; and what it cannot say.

Profile likelihood over a grid: a parameter is what the fit is best under, coefficients refitted at every value; where
others do nearly as well it is not identifiable from this log, and a documented default is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .coefficients import Coefficients, Engine
from .fit import Fitted, Objective, fit
from .log import Log
from .prior import prior, shaped

REPLICAS = (1, 2, 4, 8)
SEQS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
BATCH_TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
KV_SHARES = (0.7, 0.8, 0.9, 1.0, 1.15, 1.4)  # of the largest context seen at once
NEAR = ((0.92, 0.96, 1.04, 1.08), (0.98, 0.99, 1.01, 1.02))  # of the best of them, first and second turn
UNLIMITED = 10**9  # KV tokens that are never full
DEFAULTS = {"max_seqs": 256, "max_batch_tokens": 8192}  # those of the shipped profiles
ROOM = 4  # KV where nothing tells it: so many times the largest context seen at once
ALIKE = 1.15  # costs so near the best explain the log as well as it does
CLEARLY = 0.8  # of the simpler answer's cost: more replicas, or a KV that fills, are believed only below it
SHARES = (0.4, 0.6, 0.8, 1.0)  # of the observed TPOT that decoding takes, the rest being others' prefills
FEW, STARTS = 12, 3  # shipped profiles' shapes that are tried as starts where fits are compared, and best of all kept
SHORT, LONG = 3, 12  # steps of a fit that compares, and of one that is kept
NAMES = ("replicas", "max_seqs", "max_batch_tokens", "kv_tokens")


@dataclass(frozen=True)
class Given:
    """What the user knows of the engine; None: to be inferred."""

    max_seqs: int | None = None
    max_batch_tokens: int | None = None
    kv_tokens: int | None = None
    replicas: int | None = None
    block: int = 16
    router: str = "least-requests"


@dataclass(frozen=True)
class Inferred:
    """One parameter: its value, how it was come by (given, inferred, not identifiable), values that do as well."""

    name: str
    value: int
    how: str
    alike: tuple[int, ...] = ()
    about: str = ""


def infer(
    objective: Objective, log: Log, given: Given, progress: Callable[[float], None]
) -> tuple[Fitted, list[Inferred]]:
    """The engine and its coefficients; what is given stays. log: whose observed latencies may be looked at."""
    running, context = peaks(log)
    best, tried = _replicas(objective, given, running, progress)
    each = context / best.engine.replicas
    if given.kv_tokens is None:  # with starts of their own: what fits an endless KV says nothing of a full one
        grid = [int(share * each) for share in KV_SHARES]
        full = min((fitted(objective, replace(best.engine, kv_tokens=kv), SHORT, 1, FEW) for kv in grid), key=_cost)
        best = _believed(objective, best, full)
    progress(0.5)
    grids = {"max_seqs": _seqs(running / best.engine.replicas), "max_batch_tokens": list(BATCH_TOKENS)}
    for turn in range(2):  # full sequences and a full KV look alike until both were tried
        before = best.engine
        if best.engine.kv_tokens < UNLIMITED:
            grids["kv_tokens"] = [int(share * best.engine.kv_tokens) for share in NEAR[turn]]
        for name, grid in grids.items():
            if getattr(given, name) is None:
                best, tried[name] = _along(objective, best, name, grid)
        progress(0.6 + 0.1 * turn)
        if best.engine == before and best.engine.kv_tokens == UNLIMITED:
            break
    again = fitted(objective, best.engine, LONG, STARTS)
    best = min(again, fit(objective, best.engine, best.coefficients, LONG), best, key=_cost)
    if given.kv_tokens is None and best.engine.kv_tokens < UNLIMITED:
        endless = replace(best.engine, kv_tokens=UNLIMITED)
        best = _believed(objective, fitted(objective, endless, SHORT, 1, FEW), best)
    return best, [_told(name, tried.get(name, {}), best, given, each) for name in NAMES]


def fitted(objective: Objective, engine: Engine, steps: int, starts: int, shapes: int | None = None) -> Fitted:
    """The best fit from the `starts` that begin best, of so many of the shipped profiles' shapes (None: all)."""
    known = prior().shapes
    picked = range(len(known)) if shapes is None else np.linspace(0, len(known) - 1, shapes).astype(int)
    running, context, tpot = _typical(objective.log, engine.replicas)
    begins = []
    for number in picked:
        scales = [shaped(known[number], min(running, engine.max_seqs), context, share * tpot) for share in SHARES]
        costs = [objective.cost(objective.residuals(begin, engine)) for begin in scales]
        begins.append((min(costs), scales[int(np.argmin(costs))]))
    begins.sort(key=lambda begin: begin[0])
    return min((fit(objective, engine, begin, steps) for _, begin in begins[:starts]), key=_cost)


def _typical(log: Log, replicas: int) -> tuple[float, float, float]:
    """(requests that decode on a replica at one time, their context, TPOT in seconds): means, and a median."""
    seen = log.seen & (log.output_tokens > 1)
    busy_s = (log.e2e_s - log.ttft_s)[seen]
    done = (log.arrival_s + log.e2e_s)[seen]
    span_s = float(done.max() - (log.arrival_s + log.ttft_s)[seen].min())
    context = float((log.input_tokens + log.output_tokens / 2)[seen].mean())
    return max(1.0, float(busy_s.sum()) / max(span_s, 1e-9) / replicas), context, float(np.median(log.tpot_s[seen]))


def _believed(objective: Objective, simple: Fitted, other: Fitted) -> Fitted:
    """The simpler engine unless the other is clearly better, even than the simple one fitted from its coefficients."""
    if other.cost < CLEARLY * simple.cost:
        simple = min(simple, fit(objective, simple.engine, other.coefficients, LONG), key=_cost)
    return other if other.cost < CLEARLY * simple.cost else simple


def _cost(found: Fitted) -> float:
    return found.cost


def _replicas(
    objective: Objective, given: Given, running: float, progress: Callable[[float], None]
) -> tuple[Fitted, dict[str, dict[int, float]]]:
    """The best fit by replicas, from one on while more of them are clearly better."""
    counts = REPLICAS if given.replicas is None else (given.replicas,)
    costs: dict[int, float] = {}
    best: Fitted | None = None
    for replicas in counts:
        now = fitted(objective, _first(given, replicas, running), SHORT, 2, FEW)
        if best is not None:  # from the coefficients of fewer, too: who says that they are as likely must have looked
            now = min(now, fit(objective, now.engine, best.coefficients, LONG), key=_cost)
        costs[replicas] = now.cost
        believed = now if best is None else _believed(objective, best, now)
        best, fewer = believed, best
        if fewer is not None and believed.engine == fewer.engine:
            break
        progress(0.08 * len(costs))
    assert best is not None
    return best, {"replicas": costs}


def _first(given: Given, replicas: int, running: float) -> Engine:
    seqs = next((s for s in SEQS if s >= 0.98 * running / replicas), SEQS[-1])
    tokens, kv = given.max_batch_tokens or 2048, given.kv_tokens or UNLIMITED
    return Engine(given.max_seqs or seqs, tokens, kv, replicas, given.block, given.router)


def _seqs(running: float) -> list[int]:
    """The most that ran at once, usual sizes from there on, and no limit."""
    return sorted({max(1, round(running)), *[s for s in SEQS if 0.9 * running <= s <= 2.5 * running], SEQS[-1]})


def _along(objective: Objective, best: Fitted, name: str, grid: Sequence[int]) -> tuple[Fitted, dict[int, float]]:
    """The best fit over a parameter's grid, coefficients refitted at each value from where they are."""
    values = {int(getattr(best.engine, name)), *grid}
    engines = {value: _with(best.engine, name, value) for value in sorted(values)}
    tried = {value: fit(objective, engine, best.coefficients, SHORT) for value, engine in engines.items()}
    return min(*tried.values(), best, key=_cost), {value: found.cost for value, found in tried.items()}


def _with(engine: Engine, name: str, value: int) -> Engine:
    changed: dict[str, Any] = {name: value}
    return replace(engine, **changed)


def _told(name: str, costs: dict[int, float], best: Fitted, given: Given, context: float) -> Inferred:
    value = int(getattr(best.engine, name))
    if getattr(given, name) is not None:
        return Inferred(name, value, "given")
    least = min(costs.values(), default=best.cost)
    near = 1 / CLEARLY if name == "replicas" else ALIKE
    alike = tuple(sorted({v for v, cost in costs.items() if cost <= near * least} | {value}))
    sure = "inferred" if len(alike) == 1 else "not identifiable"
    if name == "replicas":
        about = "" if value == 1 else f"requests dealt by {given.router}, as assumed"
        return Inferred(name, value, sure, alike, about)
    if name == "kv_tokens":
        if value < UNLIMITED:
            return Inferred(name, value, "inferred", alike)
        room = int(ROOM * context)
        about = f"never full: at least {context:,.0f}; kept: {ROOM} times that"
        return Inferred(name, room, "not identifiable", (), about)
    if len(alike) == 1:
        return Inferred(name, value, sure, alike)
    default = min(alike, key=lambda v: abs(np.log(v / DEFAULTS[name])))
    return Inferred(name, default, sure, alike, "kept: of these the nearest to the default")


def peaks(log: Log) -> tuple[float, float]:
    """(most requests, most context tokens) that were seen between their first token and their last at one time."""
    seen = log.seen
    first, done = log.arrival_s[seen] + log.ttft_s[seen], log.arrival_s[seen] + log.e2e_s[seen]
    given, made = log.input_tokens[seen].astype(float), log.output_tokens[seen].astype(float)
    order = np.argsort(np.concatenate([first, done]), kind="stable")
    change = np.concatenate([np.ones(len(first)), -np.ones(len(first))])[order]
    running = float(np.cumsum(change).max(initial=1.0))
    most = 0.0
    for t in first[:: max(1, len(first) // 500)]:
        on = (first <= t) & (done > t)
        grown = made[on] * (t - first[on]) / np.maximum(done[on] - first[on], 1e-9)
        most = max(most, float((given[on] + grown).sum()))
    return running, max(most, float((given + made).max()))


def polished(objective: Objective, best: Fitted, replays: int) -> Fitted:
    """The last steps by Nelder and Mead, twice, without slopes: the replay jumps where requests change iterations."""
    from scipy.optimize import minimize

    def total(at: np.ndarray) -> float:
        return objective.total(objective.residuals(Coefficients.of(at), best.engine), at)

    x, cost = best.coefficients.vector(), best.cost
    for width in (0.15, 0.08):
        simplex = np.vstack([x, x + width * np.eye(len(x))])
        options = {"maxfev": replays // 2, "initial_simplex": simplex, "fatol": 1e-5}
        found = minimize(total, x, method="Nelder-Mead", options=options)
        if found.fun < cost:
            x, cost = found.x, float(found.fun)
    return replace(best, coefficients=Coefficients.of(x), cost=cost)
