"""Small traces with one known trouble each, and what counterfactual replays of a policy find on them."""

import json

import numpy as np
import polars as pl
from three_hours import PROFILE, stored

from lmaas.policies.full.bench import Bench
from lmaas.policies.full.causes import attributed, changes_of, counterfactuals
from lmaas.policies.full.crew import Crew
from lmaas.policies.full.kept import Kept
from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import prepare
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy
from lmaas.policies.worst import worst_windows

WINDOW_S = 120.0
HALF_S = 2400.0  # learned from, and then as long evaluated


def trace(rate, seed=0, outputs=(60, 0.3), talkative=0.0):
    """One service; rate: requests/s by window since the cut, the first one before it; outputs: median, sigma.

    talkative: share of the requests that are of one session.
    """
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, HALF_S, rng.poisson(rate[0] * HALF_S)))]
    for k in range(round(HALF_S / WINDOW_S)):
        now = rate[k % len(rate)]
        start = HALF_S + k * WINDOW_S
        times.append(start + np.sort(rng.uniform(0, WINDOW_S, rng.poisson(now * WINDOW_S))))
    t = np.concatenate([[0.0], *times, [2 * HALF_S]])
    n = len(t)
    return pl.DataFrame({
        "request_id": [f"r{k}" for k in range(n)], "arrival_s": t, "service": ["chat"] * n, "region": ["eu"] * n,
        "tier": ["interactive-fast"] * n, "session_id": ["s" if x < talkative else None for x in rng.random(n)],
        "input_tokens": np.clip(rng.lognormal(np.log(200), 0.3, n), 1, 2000).astype(np.int64),
        "output_tokens": np.clip(rng.lognormal(np.log(outputs[0]), outputs[1], n), 1, 1500).astype(np.int64),
    })  # fmt: skip


def benched(home, table, name, kept=None, **profile):
    """A bench on a trace and the small profile with these fields otherwise."""
    path = home / f"{name}.json"
    path.write_text(json.dumps({**PROFILE, **profile}))
    asked = {
        "slos": (), "attain": 0.95, "profile": str(path), "fleet": None, "train_fraction": 0.5, "warmup_s": 300.0,
        "window_s": WINDOW_S, "load": 1.0, "seed": 0,
    }  # fmt: skip
    opened = stored(home, table, name)
    ready = prepare(opened, **asked)
    return Bench(opened, asked, Kept(kept, name), ready, Inputs(ready))


def found(bench, text, router=None):
    """(worst windows with their causes by replay, every change of every window)."""
    ready, inputs = bench.base
    named = parse_policy(text, router)
    run = run_policy(named, ready, inputs, lambda share: None)
    worst = worst_windows(run, ready)
    with Crew(bench, 1) as crew:
        done = counterfactuals(changes_of(named, run, worst, ready), crew, lambda share: None)
    return attributed(worst, done), done
