"""What one pool would do in every window with every count of replicas: computed once, read by all settings."""

from dataclasses import dataclass

import numpy as np

from .window_demand import Steps
from .window_response import Response, backlog, smoothed


@dataclass(frozen=True)
class Table:
    """Rows are `levels` (replica counts, rising), columns the windows; each window as if it began without backlog.

    attained: possible requests that attain; attained_late: the same with the window's load met by backlog throughout;
    busy: share of the replicas' time in an iteration; net: work arriving minus what can be served, over the whole
    window; left: backlog at its end; waiting: mean backlog (replica-seconds at μ). requests: f8[windows].
    """

    levels: np.ndarray
    attained: np.ndarray
    attained_late: np.ndarray
    busy: np.ndarray
    net: np.ndarray
    left: np.ndarray
    waiting: np.ndarray
    requests: np.ndarray

    def cell(self, replicas: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Index into the flattened tables."""
        return np.asarray(np.searchsorted(self.levels, replicas) * len(self.requests) + window)


def make_table(
    steps: Steps,
    pool: int,
    response: Response,
    levels: np.ndarray,
    *,
    first: int,
    per_window: int,
    windows: int,
    known: dict[int, tuple[np.ndarray, ...]] | None = None,
) -> Table:
    """The table of one pool: `windows` windows of `per_window` steps from step `first` on (before it: warm-up).

    The last window may be cut short: steps that the scan does not have are empty and serve nothing. known: rows by
    level that were computed before, kept up to date.
    """
    known = {} if known is None else known
    tau, step_s = response.tau_s, steps.step_s
    inflow = smoothed(steps.of["work"][pool], step_s, tau)

    def by_window(values: np.ndarray) -> np.ndarray:
        padded = np.zeros(windows * per_window)
        there = values[first : first + windows * per_window]
        padded[: len(there)] = there
        return padded.reshape(windows, per_window)

    inside = by_window(np.ones(steps.count))
    came, can, rate = by_window(steps.of["requests"][pool]), by_window(steps.of["possible"][pool]), by_window(inflow)
    for n in (int(n) for n in levels if int(n) not in known):
        known[n] = _level(n, can, rate, inside, response, step_s)
    attained, attained_late, busy, net, left, waiting = (
        np.stack(parts) for parts in zip(*(known[int(n)] for n in levels), strict=True)
    )
    return Table(np.asarray(levels), attained, attained_late, busy, net, left, waiting, came.sum(axis=1))


def _level(
    n: int, can: np.ndarray, rate: np.ndarray, inside: np.ndarray, response: Response, step_s: float
) -> tuple[np.ndarray, ...]:
    served = n * response.capacity * step_s * inside
    left = backlog(rate * step_s, served)
    load = (rate + left / response.tau_s) / max(n, 1)
    worst = np.full_like(load, response.load[-1])
    share = response.read(response.attained, load, n) if n else np.zeros_like(load)
    late = response.read(response.attained, worst, n) if n else np.zeros_like(load)
    busy = response.read(response.busy, load, n) if n else np.zeros_like(load)
    length = np.maximum(inside.sum(axis=1), 1)
    return (
        (can * share).sum(axis=1),
        (can * late).sum(axis=1),
        (busy * inside).sum(axis=1) / length,
        (rate * step_s - served).sum(axis=1),
        left[:, -1],
        (left * inside).sum(axis=1) / length,
    )
