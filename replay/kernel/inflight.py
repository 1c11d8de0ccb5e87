"""What routers see of single requests: the projected KV map and the requests in flight (columns.py).

Written for a replica when somebody looks at it after an iteration ended there: O(its requests + horizon). Policies see
a map of their own (`anticipate`), written when they look.
"""

import math

import numpy as np

from .. import columns as c
from ..jit import jit
from . import layout as k
from .batch import stands_at, waits_for_one_token
from .state import State


@jit
def look_deep(st: State, r: int, steps: int) -> None:
    """Write the replica's rows of `ahead` and `flight` as of its iteration `steps`; predictions are settled."""
    if st.ctl[0].ahead > 0:
        _project(st, r, steps, st.ahead[st.rep[r].row], st.ahead[len(st.ahead) - 1], False)
    if st.ctl[0].flight == 1:
        _list(st, r, steps)


@jit
def anticipate(st: State, r: int, steps: int) -> None:
    """Write the replica's row of `coming`, shares of its KV, as of its iteration `steps`; predictions are settled."""
    rep, tokens = st.rep[r], st.coming[r]
    _project(st, r, steps, tokens, st.coming[len(st.coming) - 1], True)
    for j in range(len(tokens)):
        tokens[j] /= rep.blocks * rep.block


@jit
def _stays(st: State, q: int, generated: int) -> int:
    """Iterations that q stays in a policy's map: its prediction's, and those it is given once it has outlived it.

    Late by `late_after` tokens, it is given a share of its prediction or `late_tokens`, again and again; neither: its
    prediction grows as everywhere. In closed form of the prediction at arrival, so a router's extension plays no part.
    """
    fly, ctl = st.fly[q], st.ctl[0]
    more = math.ceil(ctl.late_share * fly.foretold - 1e-9) if ctl.late_share > 0.0 else ctl.late_tokens
    if more == 0:
        return fly.predicted - generated + 1  # type: ignore[no-any-return]
    late = generated - fly.foretold - ctl.late_after
    given = more * (late // more + 1) if late >= 0 else 0
    return fly.foretold + given - generated + 1  # type: ignore[no-any-return]


@jit
def _project(st: State, r: int, steps: int, tokens: np.ndarray, leaving: np.ndarray, policy: bool) -> None:
    """Tokens of KV by iterations from now; policy: by its rule, and up to the end of a request's last iteration."""
    rep, horizon = st.rep[r], len(tokens)
    tokens[:] = 0.0
    leaving[:] = 0.0
    there, held = 0, 0
    for place in range(rep.stack):
        if not stands_at(st, r, place):
            continue
        q = st.stack[r, place]
        fly = st.fly[q]
        if fly.phase == k.DECODE:
            computed, left = fly.computed + steps, fly.late_key - steps
        elif waits_for_one_token(st, q):
            computed, left = fly.computed, fly.predicted - fly.generated
        else:
            continue
        if policy:
            left = _stays(st, q, fly.generated + (steps if fly.phase == k.DECODE else 0))
            if left <= 0:
                continue
        there += 1
        held += computed
        left = max(left, 1)
        if left < horizon:
            tokens[left] += computed
            leaving[left] += 1
    for j in range(horizon):
        held -= tokens[j]
        there -= leaving[j]
        tokens[j] = held + j * there


@jit
def make_room(st: State, first: int, last: int) -> None:
    """Lay the replicas' stretches of `flight` out anew where one of these slots' is too short, with gaps to grow into.

    There is room: a request in flight has a slot, and `flight` has two rows a slot.
    """
    total, short = 0, False
    for r in range(first, last):
        short = short or st.rep[r].running + st.rep[r].waiting > st.rep[r].flight_room
    if not short:
        return
    for r in range(len(st.rep)):
        total += st.rep[r].running + st.rep[r].waiting
    gap, at = (len(st.flight) - total) // len(st.rep), 0
    for r in range(len(st.rep)):
        rep = st.rep[r]
        rep.flight_at = at
        rep.flight_room = rep.running + rep.waiting + gap
        rep.valid_s = -np.inf
        at += rep.flight_room


@jit
def _list(st: State, r: int, steps: int) -> None:
    rep = st.rep[r]
    if rep.running + rep.waiting > rep.flight_room:
        rep.valid_s = -np.inf  # looked at by somebody else than the router: later
        return
    at = rep.flight_at
    st.flight_start[rep.row] = at
    for place in range(rep.stack):
        if stands_at(st, r, place):
            _note(st, st.stack[r, place], at, steps, 1.0)
            at += 1
    todo, ranked = rep.head, st.ctl[0].ranked == 1
    if todo >= 0:
        st.fly[todo].place = -1  # while they wait, `place` links those yet to be visited
    while todo >= 0:
        q = todo
        fly = st.fly[q]
        todo = fly.place
        if ranked and fly.other >= 0:
            st.fly[fly.other].place = todo
            todo = fly.other
        if fly.next >= 0:
            st.fly[fly.next].place = todo
            todo = fly.next
        if fly.gone == 0:
            _note(st, q, at, steps, 0.0)
            at += 1


@jit
def _note(st: State, q: int, at: int, steps: int, running: float) -> None:
    fly, row = st.fly[q], st.flight[at]
    more = steps if fly.phase == k.DECODE else 0
    row[c.F_INPUT_TOKENS] = fly.input
    row[c.F_COMPUTED_TOKENS] = fly.computed + more
    row[c.F_GENERATED_TOKENS] = fly.generated + more
    row[c.F_REMAINING_TOKENS] = fly.predicted - (fly.generated + more)
    row[c.F_RANK] = fly.rank
    row[c.F_ARRIVED_S] = fly.arrival_s
    row[c.F_FIRST_S] = fly.first_s
    row[c.F_RUNNING] = running
    row[c.F_TIER] = fly.tier
