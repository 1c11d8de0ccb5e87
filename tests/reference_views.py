"""What routers see of single requests, from the slow fleet's replicas: the plain twins of `ahead` and `flight`."""

import math


def ahead(replica, horizon):
    """Tokens of KV in j iterations of the requests that decode now, each until its predicted output is there."""
    rows = [r for r in replica.running if r.decodes]
    return [
        sum(r.computed + j for r in rows if j < max(1, r.predicted - r.generated))  # those still there
        for j in range(horizon)
    ]


def row(request, running):
    first = math.inf if request.first is None else request.first
    remaining = request.predicted - request.generated
    tokens = [request.input, request.computed, request.generated, remaining]
    return [*tokens, request.rank, request.arrival, first, float(running), float(getattr(request, "tier", 0))]


def flight(replica):
    return [row(r, True) for r in replica.running], [row(r, False) for r in replica.waiting]
