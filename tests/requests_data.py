"""Request tables for the tests of windows, forecasts and length predictors, and what the future looks like changed."""

import numpy as np
import polars as pl
from hypothesis import strategies as st

COLUMNS = {
    "arrival_s": pl.Float64,
    "service": pl.String,
    "region": pl.String,
    "tier": pl.String,
    "tenant": pl.String,
    "input_tokens": pl.UInt32,
    "output_tokens": pl.UInt32,
    "done_s": pl.Float64,
}


def table(**columns):
    """A request table; what is not given is null, service `chat`, done on arrival."""
    n = len(columns["arrival_s"])
    full = {
        "service": ["chat"] * n,
        "region": [None] * n,
        "tier": [None] * n,
        "tenant": [None] * n,
        "input_tokens": [10] * n,
        "output_tokens": [20] * n,
        "done_s": columns["arrival_s"],
    } | columns
    return pl.DataFrame({name: pl.Series(full[name], dtype=dtype) for name, dtype in COLUMNS.items()})


@st.composite
def small_tables(draw, max_size=40, horizon=20):
    """Few requests at integer and fractional times, with ties, of up to three services and two regions."""
    n = draw(st.integers(0, max_size))
    times = st.one_of(st.integers(0, horizon).map(float), st.floats(0, horizon, allow_nan=False))
    arrival = sorted(draw(st.lists(times, min_size=n, max_size=n)))
    durations = draw(st.lists(st.one_of(st.none(), st.integers(0, 12)), min_size=n, max_size=n))
    pick = lambda values: draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))  # noqa: E731
    return table(
        arrival_s=arrival,
        service=pick(["chat", "code", "<b>"]),
        region=pick(["us", "eu", None]),
        tenant=pick(["a", "b", None]),
        input_tokens=draw(st.lists(st.integers(1, 100), min_size=n, max_size=n)),
        output_tokens=draw(st.lists(st.integers(1, 50), min_size=n, max_size=n)),
        done_s=[None if d is None else a + d for a, d in zip(arrival, durations, strict=True)],
    )


def traffic(rng, *, hours, rate=0.05, daily=0.0, services=("chat", "code"), regions=("us", "eu"), s_per_token=0.3):
    """Poisson arrivals with a daily rhythm, lognormal lengths, outputs that take as long as they are."""
    parts = []
    for k, service in enumerate(services):
        for region in regions:
            n = rng.poisson(rate * (1 + daily) * hours * 3600)
            t = np.sort(rng.random(n) * hours * 3600)
            t = t[rng.random(n) * (1 + daily) < 1 + daily * np.sin(2 * np.pi * t / 86_400)]
            output = np.exp(rng.normal(4 + k, 1, len(t))).astype(int) + 1
            parts.append(
                table(
                    arrival_s=t,
                    service=[service] * len(t),
                    region=[region] * len(t),
                    tenant=rng.choice(["a", "b", "c"], len(t)).tolist(),
                    input_tokens=rng.integers(1, 4000, len(t)),
                    output_tokens=output,
                    done_s=t + 1 + s_per_token * output,
                )
            )
    return pl.concat(parts).sort("arrival_s", maintain_order=True)


def habits(rng, *, hours=2.0, rate=2.0, noise=0.3):
    """Traffic whose outputs depend on service, input and tenant, lognormal around that."""
    n = int(rate * hours * 3600)
    t = np.sort(rng.random(n) * hours * 3600)
    tenant, service = rng.integers(0, 6, n), rng.integers(0, 2, n)
    tokens = np.exp(rng.normal(6, 1, n))
    output = np.exp(2 + 0.4 * np.log(tokens) + 0.4 * tenant + service + rng.normal(0, noise, n)).astype(int) + 1
    return table(
        arrival_s=t,
        service=np.where(service == 1, "chat", "<code>").tolist(),
        tenant=[f"t{i}" for i in tenant],
        tier=rng.choice(["batch", "interactive-fast"], n).tolist(),
        region=rng.choice(["us", "eu"], n).tolist(),
        input_tokens=np.maximum(tokens.astype(int), 1),
        output_tokens=output,
        done_s=t + 0.5 + 0.02 * output,
    )


def scramble(requests, t, rng):
    """Everything that is not known at t, drawn anew: later requests, and the outputs of those still running."""
    n = requests.height
    later = pl.col("arrival_s") >= t
    running = pl.col("done_s").fill_null(np.inf) > t
    end = max(float(requests["arrival_s"].max()), t)
    moved = pl.Series(t + rng.random(n) * (end - t))
    order = pl.Series(rng.permutation(n))
    tokens = [pl.Series(rng.integers(1, 50_000, n), dtype=pl.UInt32) for _ in range(2)]
    finish = pl.max_horizontal(
        pl.when(later).then(moved).otherwise("arrival_s"), t + pl.Series(1e-3 + 1e4 * rng.random(n))
    )
    return requests.with_columns(
        arrival_s=pl.when(later).then(moved).otherwise("arrival_s"),
        service=pl.when(later).then(pl.col("service").gather(order)).otherwise("service"),
        region=pl.when(later).then(pl.col("region").gather(order)).otherwise("region"),
        tenant=pl.when(later).then(pl.col("tenant").gather(order)).otherwise("tenant"),
        input_tokens=pl.when(later).then(tokens[0]).otherwise("input_tokens"),
        output_tokens=pl.when(running).then(tokens[1]).otherwise("output_tokens"),
        done_s=pl.when(running).then(finish).otherwise("done_s"),
    ).sort("arrival_s", maintain_order=True)
