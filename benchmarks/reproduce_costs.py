"""What PreServe's decisions cost, part by part, beside the time that its requests are served in."""

import time
from collections.abc import Callable

from reproduce_replay import readied
from reproduce_rows import Setting

from lmaas.policies.inputs import Inputs
from lmaas.policies.prepare import Prepared
from lmaas.policies.registry import parse_policy
from lmaas.policies.runner import run_policy

ALONE = 200  # requests whose length is predicted one at a time, as a gateway would
TIMES = 5  # of which the least CPU time counts
# the same fleet at every instant: what differs in CPU time is the router, and the anticipator with Tier-2's looks
TURNS, ROUTES = "preserve(tier2=false, router=round-robin)", "preserve(tier2=false)"
LOOKS = "preserve(overload=1000000, scale_in=0)"
PARTS = ("alone", "route", "anticipate", "forecast", "plan")  # what a request costs, its length predicted alone


def costs(setting: Setting) -> dict[str, float]:
    """CPU time a request, s, by part, `batch` (its length among all) for `alone`; `service`: mean time in service."""
    ready, _ = readied(setting)
    policy = parse_policy(ROUTES).policy
    state = policy.start(ready.fleet, ready.history)
    inputs, n = Inputs(ready), ready.replayed.height
    predictor, demand = inputs.predictor("trees"), inputs.demand(policy.forecaster, state.lead_s)
    batch_s = least(lambda: predictor.predict(ready.replayed)) / n
    alone_s = least(lambda: [predictor.predict(ready.replayed[k : k + 1]) for k in range(ALONE)]) / ALONE
    forecast_s = least(lambda: Inputs(ready).demand(policy.forecaster, state.lead_s)) / n  # anew each time
    plan_s = least(lambda: policy.plan_all(demand, state)) / n
    replay_s, service_s = {}, 0.0
    for text in (TURNS, ROUTES, LOOKS):
        replay_s[text], service_s = replay_cost(text, ready, inputs)
    return {
        "alone": alone_s, "batch": batch_s, "forecast": forecast_s, "plan": plan_s, "service": service_s,
        "route": max(replay_s[ROUTES] - replay_s[TURNS], 0.0),
        "anticipate": max(replay_s[LOOKS] - replay_s[ROUTES], 0.0),
    }  # fmt: skip


def replay_cost(text: str, ready: Prepared, inputs: Inputs) -> tuple[float, float]:
    """(CPU time a request of a replay, after one that compiles; mean time in service), s."""
    named = parse_policy(text)
    run = run_policy(named, ready, inputs, lambda share: None)
    replay_s = least(lambda: run_policy(named, ready, inputs, lambda share: None))
    return replay_s / ready.replayed.height, float(run.rows["e2e_s"].mean() or 0.0)  # type: ignore[arg-type]


def overhead(found: dict[str, float], length: str = "alone") -> float:
    """Share of the time in service that all parts of `costs` come to; length: alone or batch, how it is predicted."""
    return sum(found[length if part == "alone" else part] for part in PARTS) / found["service"]


def least(what: Callable[[], object]) -> float:
    """CPU seconds, the least of TIMES."""
    spent = []
    for _ in range(TIMES):
        began = time.process_time()
        what()
        spent.append(time.process_time() - began)
    return min(spent)
