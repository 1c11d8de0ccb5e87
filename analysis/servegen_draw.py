"""Requests drawn from ServeGen's client statistics, with a seed: every client has a random stream of its own.

A client's requests in a window are Poisson in number with its mean rate, where ServeGen rounds the number up, which
would multiply the load of clients that hardly ask. Their gaps have the fitted distribution's shape and are laid on a
circle of the window's length. Input and output tokens are drawn independently: the statistics do not say how they go
together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl

from .errors import Exit, UserError
from .servegen import Client
from .synth_spec import DAY_S, MAX_ROWS

F8 = npt.NDArray[np.float64]
LONGEST = 1e200  # a gap, before it is scaled: what a Weibull of small shape draws may be endless
SHORTEST = 1e-9


@dataclass(frozen=True)
class Asked:
    """Windows of one client that are drawn, and the mean number of requests of each."""

    client: Client
    start_s: F8
    window_s: F8
    mean: F8


def draw_clients(
    clients: Sequence[Client], seed: int, days: float | None = None, requests_per_s: float | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """The requests of the first `days` (None: of all), sorted by arrival, and what there is to say about them.

    `requests_per_s`: mean of all clients together over that time, None: as recorded. Columns arrival_s (rounded to
    1 ms), service, tenant, input_tokens, output_tokens. UserError (exit 5) for too many rows, or none.
    """
    asked = [_asked(client, (days or np.inf) * DAY_S) for client in clients]
    span_s = min(max(client.end_s for client in clients), (days or np.inf) * DAY_S)
    expected = sum(float(part.mean.sum()) for part in asked)
    scale = requests_per_s * span_s / expected if requests_per_s and expected else 1.0
    if not 0 < expected * scale <= MAX_ROWS:
        raise UserError(
            f"about {expected * scale:,.0f} requests expected in {span_s / DAY_S:g} days; up to {MAX_ROWS:,} can "
            "be drawn; change --days or --requests-per-s",
            Exit.CONFIG,
        )
    lenders = _lenders(clients, seed)
    parts = [frame for part in asked for frame in _requests(part, lenders[part.client.place], scale, seed)]
    table = pl.concat(parts).sort("arrival_s", maintain_order=True) if parts else pl.DataFrame()
    if table.is_empty():
        raise UserError(f"no request drawn in {span_s / DAY_S:g} days; raise --days or --requests-per-s", Exit.CONFIG)
    notes = [f"{expected * scale / span_s:,.3g} requests/s on average, {scale:.3g} times what was recorded"]
    silent = [part for part in asked if not part.client.lengths]
    if silent:
        share = sum(float(part.mean.sum()) for part in silent) / expected
        notes.append(f"clients without lengths have another client's: {len(silent)}, {share:.1%} of the requests")
    return table, notes


def _lenders(clients: Sequence[Client], seed: int) -> dict[tuple[str, str], Client]:
    """Whose lengths each client has: its own, else those of another of its service, drawn for it."""
    known: dict[str, list[Client]] = {client.service: [] for client in clients}
    for client in clients:
        known[client.service] += [client] if client.lengths else []
    for service, some in known.items():
        if not some:
            raise UserError(f"{service}: no client has lengths in its dataset.json; there is nothing to draw from")
    return {
        client.place: client if client.lengths else known[client.service][_draw_lender(client, known, seed)]
        for client in clients
    }


def _draw_lender(client: Client, known: dict[str, list[Client]], seed: int) -> int:
    return int(_stream(client, seed, "lender").integers(len(known[client.service])))


def _stream(client: Client, seed: int, *what: str) -> np.random.Generator:
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in (*client.place, *what))])


def _asked(client: Client, end_s: float) -> Asked:
    here = client.start_s < end_s
    start = client.start_s[here]
    window = np.minimum(client.window_s[here], end_s - start)
    return Asked(client, start, window, client.rate[here] * window)


def _requests(part: Asked, lender: Client, scale: float, seed: int) -> Iterator[pl.DataFrame]:
    client = part.client
    rng = _stream(client, seed)
    counts = rng.poisson(part.mean * scale)
    times = np.round(_times(part, counts, rng), 3)
    if not len(times):
        return
    chances = rng.random((2, len(times)))
    inputs, outputs = np.empty(len(times), np.uint32), np.empty(len(times), np.uint32)
    starts = np.array(list(lender.lengths))
    # the lengths of the last window before, as ServeGen does; before the first there are only those of the first
    window = np.repeat(np.maximum(np.searchsorted(starts, part.start_s, side="right") - 1, 0), counts)
    for k in np.unique(window):
        here = window == k
        asked, given = lender.at(float(starts[k]))
        inputs[here], outputs[here] = asked.draw(chances[0, here]), given.draw(chances[1, here])
    yield pl.DataFrame(
        {
            "arrival_s": times,
            "service": pl.repeat(client.service, len(times), dtype=pl.String, eager=True),
            "tenant": pl.repeat(client.name, len(times), dtype=pl.String, eager=True),
            "input_tokens": inputs,
            "output_tokens": outputs,
        }
    )


def _times(part: Asked, counts: npt.NDArray[np.int64], rng: np.random.Generator) -> F8:
    """Arrivals, window by window: gaps of the fitted shape around a circle, begun anywhere on it."""
    row = np.repeat(np.arange(len(counts)), counts)
    shape, weibull = part.client.shape[row], part.client.weibull[row]
    gaps = np.minimum(np.where(weibull, rng.weibull(shape), rng.gamma(shape)), LONGEST) + SHORTEST
    busy = counts[counts > 0]
    if not len(busy):
        return gaps
    window = np.repeat(np.arange(len(busy)), busy)
    share = gaps / np.add.reduceat(gaps, np.cumsum(busy) - busy)[window]  # of the circle: 1 in each window
    around = np.cumsum(share) - window + rng.random(len(counts))[row]
    return part.start_s[row] + part.window_s[row] * (around % 1.0)
