"""Aladdin's placement: the fullest replica that still keeps every latency and memory constraint."""

import math

import numpy as np

from .. import columns as c
from ..jit import jit, router
from ..routers import MOST_REFUSED, Range, Router

TTFT_S, ATGT_S, THETA_TTFT, THETA_ATGT, GAMMA = range(5)
PARAMETERS = {
    "ttft_s": 1.0, "atgt_s": 0.1, "theta_ttft": 1.0, "theta_atgt": 1.0, "gamma": 0.5, "heartbeat_s": 1.0,
    "refusals": 256.0,
}  # fmt: skip


@jit
def peak_fits(request: np.ndarray, flight: np.ndarray, first: int, last: int, room: float) -> bool:
    """(d): whether the KV held when each of them completes, as predicted, is within `room`. O(requests squared)."""
    prompt, answer = request[c.INPUT_TOKENS], request[c.PREDICTED_TOKENS]
    for e in range(first - 1, last):
        steps = answer if e < first else max(flight[e, c.F_REMAINING_TOKENS], 1.0)
        tokens = prompt + steps if answer >= steps else 0.0
        for q in range(first, last):
            if max(flight[q, c.F_REMAINING_TOKENS], 1.0) >= steps:
                tokens += flight[q, c.F_INPUT_TOKENS] + flight[q, c.F_GENERATED_TOKENS] + steps
        if tokens > room:
            return False
    return True


@jit
def keeps(
    request: np.ndarray, replica: np.ndarray, flight: np.ndarray, first: int, ttft_left_s: float, params: np.ndarray
) -> bool:
    """Whether the replica keeps constraints (a) to (d) with the request too. O(its requests), where KV is not short."""
    there = int(replica[c.WAITING] + replica[c.RUNNING])
    prefill_s = replica[c.BASE_S] + replica[c.TOKEN_S] * (replica[c.PREFILL_TOKENS] + request[c.INPUT_TOKENS])
    if prefill_s > ttft_left_s:
        return False
    context = request[c.INPUT_TOKENS] + params[GAMMA] * request[c.PREDICTED_TOKENS]
    tokens = request[c.INPUT_TOKENS] + request[c.PREDICTED_TOKENS]
    for q in range(first, first + there):
        done, left = flight[q, c.F_GENERATED_TOKENS], flight[q, c.F_REMAINING_TOKENS]
        if flight[q, c.F_FIRST_S] < np.inf:
            slack_s = params[ATGT_S] * done - (request[c.NOW] - flight[q, c.F_FIRST_S])
            if prefill_s > slack_s:
                return False
        context += flight[q, c.F_INPUT_TOKENS] + params[GAMMA] * (done + left)
        tokens += flight[q, c.F_INPUT_TOKENS] + done + max(left, 1.0)
    decode_s = replica[c.BASE_S] + replica[c.SEQ_S] * (there + 1) + replica[c.CONTEXT_S] * context
    if decode_s > params[THETA_ATGT] * params[ATGT_S]:
        return False
    room = replica[c.KV_CAPACITY_TOKENS]
    return tokens <= room or peak_fits(request, flight, first, first + there, room)


@jit
def fullness(replica: np.ndarray) -> float:
    """Length of (requests / places, context / KV capacity)."""
    seqs = (replica[c.WAITING] + replica[c.RUNNING]) / replica[c.MAX_SEQS]
    context = replica[c.EXPECTED_TOKENS] - replica[c.OUTSTANDING_TOKENS] + replica[c.PREFILL_TOKENS]
    share = context / replica[c.KV_CAPACITY_TOKENS]
    return math.sqrt(seqs * seqs + share * share)


@jit
def wait(request: np.ndarray, replicas: np.ndarray, memory: np.ndarray) -> int:
    """OPEN where more are held than those that start will take (as many as an active one has), once an instant."""
    n, there = replicas.shape[0], 0.0
    for i in range(n):
        there += replicas[i, c.WAITING] + replicas[i, c.RUNNING]
    coming = request[c.STARTING] * max(there / n, 1.0) if n > 0 else request[c.STARTING] * np.inf
    if memory[0] == request[c.NOW] or (request[c.STARTING] > 0 and coming > request[c.DEFERRED]):
        return c.HOLD
    memory[0] = request[c.NOW]
    return c.OPEN


@router
def aladdin(
    request: np.ndarray,
    replicas: np.ndarray,
    ahead: np.ndarray,
    flight: np.ndarray,
    flight_start: np.ndarray,
    params: np.ndarray,
    memory: np.ndarray,
    scores: np.ndarray,
) -> int:
    """The fullest replica that still keeps TTFT, time per token and KV for all; where none does it waits or opens one.

    params: ttft_s, atgt_s (limits), theta_ttft, theta_atgt (shares of them to plan with), gamma (mean progress),
    heartbeat_s, refusals (Router). With prefill = base + token · (prompts to prefill), decode = base + seq ·
    requests + context · (prompts + gamma · predicted) by the replica's profile, kept are: (a) prefill <= theta_ttft
    · ttft_s - time waited; (b) decode <= theta_atgt · atgt_s; (c) prefill <= atgt_s · generated - time since the
    first token, for every request that has one; (d) KV when each completes, as predicted, <= capacity. Ours: where
    no empty replica could keep (a) any more, (a) is left out; where none could keep (b) or (d), the emptiest takes
    it; when one more is opened (`wait`). O(replicas · tried + requests of those tried). Aladdin (arXiv 2405.06856)
    as others sum it up: no code is public, and its formulas are not checked against the paper.
    """
    n = replicas.shape[0]
    left_s = params[THETA_TTFT] * params[TTFT_S] - (request[c.NOW] - request[c.ARRIVED_S])
    prompt, answer = request[c.INPUT_TOKENS], request[c.PREDICTED_TOKENS]
    in_time, possible, emptiest = False, False, 0
    for i in range(n):
        scores[i] = -fullness(replicas[i])
        emptiest = i if scores[i] > scores[emptiest] else emptiest
        one = replicas[i]
        in_time = in_time or one[c.BASE_S] + one[c.TOKEN_S] * prompt <= left_s
        decode_s = one[c.BASE_S] + one[c.SEQ_S] + one[c.CONTEXT_S] * (prompt + params[GAMMA] * answer)
        fits = prompt + answer <= one[c.KV_CAPACITY_TOKENS]
        possible = possible or (fits and decode_s <= params[THETA_ATGT] * params[ATGT_S])
    if n > 0 and not possible:
        return emptiest
    for _ in range(n):
        fullest = 0
        for i in range(1, n):
            fullest = i if scores[i] < scores[fullest] else fullest
        if keeps(request, replicas[fullest], flight, flight_start[fullest], left_s if in_time else np.inf, params):
            return fullest
        scores[fullest] = np.inf
    return wait(request, replicas, memory)


RANGES = dict.fromkeys(("ttft_s", "atgt_s", "theta_ttft", "theta_atgt"), Range(above=True))
ROUTER = Router(
    aladdin,
    params=PARAMETERS,
    flight=True,
    holds=True,
    heartbeat_s="heartbeat_s",
    refusals="refusals",
    ranges={**RANGES, "gamma": Range(0, 1), "heartbeat_s": Range(), "refusals": Range(0, MOST_REFUSED, whole=True)},
)
