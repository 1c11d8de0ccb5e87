"""Aladdin's placement: the fullest replica that still keeps every latency and memory constraint."""

from collections.abc import Sequence

import numpy as np

from .. import columns as c
from ..jit import jit, router
from ..routers import MOST_REFUSED, Range, Router

TTFT_S, ATGT_S, THETA_TTFT, THETA_ATGT, GAMMA, HEARTBEAT_S, REFUSALS, NO_HARM, ROWS, WIDTH, TABLE = range(11)
PARAMETERS: dict[str, float | Sequence[Sequence[float]]] = {
    "ttft_s": 1.0, "atgt_s": 0.1, "theta_ttft": 1.0, "theta_atgt": 1.0, "gamma": 0.5, "heartbeat_s": 1.0,
    "refusals": 256.0, "no_harm": 1.0, "limits": [[0.0, 0.0]],
}  # fmt: skip
# what it remembers of a pool: the last OPEN and how many replicas there were then; those held since the last round
# began, packed onto replicas that are to come: how many of these, requests packed, and what the last of them is given
OPENED_S, HAD, BINS, PACKED, B_UNFILLED, B_REQUESTS, B_CONTEXT, B_TOKENS = range(8)


@jit
def limit(params: np.ndarray, kind: float, tier: float, which: int) -> float:
    """The limit (TTFT_S or ATGT_S) of a kind and tier: of the table, else the one for all."""
    row, pair = min(int(kind), int(params[ROWS]) - 1), min(max(int(tier), 0), int(params[WIDTH]) // 2 - 1)
    value = params[TABLE + row * int(params[WIDTH]) + 2 * pair + which]
    return value if value > 0.0 else params[which]  # type: ignore[no-any-return]


@jit
def peak_fits(request: np.ndarray, replica: np.ndarray, flight: np.ndarray, first: int, there: int) -> bool:
    """(d): whether the KV held when each of them completes, as predicted, fits. O(requests squared)."""
    held = request[c.INPUT_TOKENS] + request[c.GENERATED_TOKENS]
    left = max(request[c.PREDICTED_TOKENS] - request[c.GENERATED_TOKENS], 1.0)
    spare = replica[c.SPARE_TOKENS]
    for e in range(first - 1, first + there):
        steps = left if e < first else max(flight[e, c.F_REMAINING_TOKENS], 1.0)
        tokens = held + steps + spare if left >= steps else 0.0
        for q in range(first, first + there):
            if max(flight[q, c.F_REMAINING_TOKENS], 1.0) >= steps:
                tokens += flight[q, c.F_INPUT_TOKENS] + flight[q, c.F_GENERATED_TOKENS] + steps + spare
        if tokens > replica[c.KV_CAPACITY_TOKENS]:
            return False
    return True


@jit
def prefill_of(request: np.ndarray, replica: np.ndarray) -> float:
    """Seconds to prefill all that waits for it on the replica, with the request's prompt."""
    return replica[c.PREFILL_S] + replica[c.TOKEN_S] * (replica[c.PREFILL_TOKENS] + request[c.UNFILLED_TOKENS])  # type: ignore[no-any-return]


@jit
def decode_of(request: np.ndarray, replica: np.ndarray, gamma: float) -> float:
    """Seconds of an iteration that decodes all on the replica and the request, each at gamma of its answer."""
    inputs = replica[c.EXPECTED_TOKENS] - replica[c.ANSWER_TOKENS] + request[c.INPUT_TOKENS]
    context = inputs + gamma * (replica[c.ANSWER_TOKENS] + request[c.PREDICTED_TOKENS])
    there = replica[c.WAITING] + replica[c.RUNNING] + 1.0
    return replica[c.BASE_S] + replica[c.SEQ_S] * there + replica[c.CONTEXT_S] * context  # type: ignore[no-any-return]


@jit
def context_of(replica: np.ndarray) -> float:
    """Prompts and tokens generated so far of all on the replica."""
    return replica[c.EXPECTED_TOKENS] - replica[c.OUTSTANDING_TOKENS] + replica[c.PREFILL_TOKENS]  # type: ignore[no-any-return]


@jit
def others_kept(
    request: np.ndarray, replica: np.ndarray, flight: np.ndarray, first: int, decode_s: float, params: np.ndarray
) -> bool:
    """(a) to (c) for those that are there already. O(its requests)."""
    lane, kind, now, prefill_s = request[c.LANE], request[c.KIND], request[c.NOW], prefill_of(request, replica)
    harmless = lane == c.SHARED and params[NO_HARM] > 0.0  # (c) is asked for
    for q in range(first, first + int(replica[c.WAITING] + replica[c.RUNNING])):
        row = flight[q]
        atgt_s = limit(params, kind, row[c.F_TIER], ATGT_S)
        if lane != c.PREFILL and decode_s > params[THETA_ATGT] * atgt_s:
            return False
        if lane != c.DECODE and row[c.F_FIRST_S] == np.inf:
            ttft_s = limit(params, kind, row[c.F_TIER], TTFT_S)
            left_s = params[THETA_TTFT] * ttft_s - (now - row[c.F_ARRIVED_S])
            if 0.0 <= left_s < prefill_s:  # one that is late already is not made late
                return False
        elif harmless and prefill_s > atgt_s * row[c.F_GENERATED_TOKENS] - (now - row[c.F_FIRST_S]):
            return False
    return True


@jit
def keeps(
    request: np.ndarray, replica: np.ndarray, flight: np.ndarray, first: int, left_s: float, params: np.ndarray
) -> bool:
    """Whether the replica keeps constraints (a) to (d) with the request too. O(1) where its sums say no."""
    lane, decode_s, exact = request[c.LANE], 0.0, False
    there = int(replica[c.WAITING] + replica[c.RUNNING])
    if lane != c.DECODE and prefill_of(request, replica) > left_s:
        return False
    if lane != c.PREFILL:
        if there >= replica[c.MAX_SEQS]:
            return False
        decode_s = decode_of(request, replica, params[GAMMA])
        if decode_s > params[THETA_ATGT] * limit(params, request[c.KIND], request[c.TIER], ATGT_S):
            return False
        each, own = 1.0 + replica[c.SPARE_TOKENS], request[c.INPUT_TOKENS] + request[c.GENERATED_TOKENS]
        if context_of(replica) + own + each * (there + 1) > replica[c.KV_CAPACITY_TOKENS]:
            return False  # an iteration from now, when nobody has completed
        ends = replica[c.EXPECTED_TOKENS] + request[c.INPUT_TOKENS] + request[c.PREDICTED_TOKENS]
        # a sum of single peaks that fits needs no walk; a prediction that is met counts for one token more
        exact = ends + each * (there + 1) > replica[c.KV_CAPACITY_TOKENS]
    if not others_kept(request, replica, flight, first, decode_s, params):
        return False
    return not exact or peak_fits(request, replica, flight, first, there)


@jit
def fullness(replica: np.ndarray) -> float:
    """Square of the length of (requests / places, context / KV capacity)."""
    seqs = (replica[c.WAITING] + replica[c.RUNNING]) / replica[c.MAX_SEQS]
    share = context_of(replica) / replica[c.KV_CAPACITY_TOKENS]
    return seqs * seqs + share * share  # type: ignore[no-any-return]


@jit
def alone_possible(request: np.ndarray, replica: np.ndarray, params: np.ndarray) -> bool:
    """Whether the replica, were it empty, would keep (b) and (d)."""
    if request[c.LANE] == c.PREFILL:
        return True
    tokens = request[c.INPUT_TOKENS] + request[c.PREDICTED_TOKENS]
    context = request[c.INPUT_TOKENS] + params[GAMMA] * request[c.PREDICTED_TOKENS]
    decode_s = replica[c.BASE_S] + replica[c.SEQ_S] + replica[c.CONTEXT_S] * context
    pace_s = params[THETA_ATGT] * limit(params, request[c.KIND], request[c.TIER], ATGT_S)
    fits = tokens + replica[c.SPARE_TOKENS] <= replica[c.KV_CAPACITY_TOKENS]
    return fits and decode_s <= pace_s  # type: ignore[no-any-return]


@jit
def empty_last(memory: np.ndarray) -> None:
    """Nothing is packed onto the last of the replicas to come."""
    memory[B_UNFILLED], memory[B_REQUESTS], memory[B_CONTEXT], memory[B_TOKENS] = 0.0, 0.0, 0.0, 0.0


@jit
def pack(request: np.ndarray, replica: np.ndarray, params: np.ndarray, memory: np.ndarray) -> None:
    """Put the request, which is held, onto the last of the replicas to come, or onto one more where (a), (b), (d) end.

    replica: an active one, whose profile those to come are taken to have.
    """
    lane, gamma = request[c.LANE], params[GAMMA]
    tokens, context = request[c.INPUT_TOKENS] + request[c.PREDICTED_TOKENS], 0.0
    for again in range(2):
        unfilled = memory[B_UNFILLED] + request[c.UNFILLED_TOKENS]
        requests = memory[B_REQUESTS] + 1.0
        context = memory[B_CONTEXT] + request[c.INPUT_TOKENS] + gamma * request[c.PREDICTED_TOKENS]
        held = memory[B_TOKENS] + tokens + replica[c.SPARE_TOKENS]
        full = False
        if lane != c.DECODE:
            ttft_s = params[THETA_TTFT] * limit(params, request[c.KIND], request[c.TIER], TTFT_S)
            full = replica[c.PREFILL_S] + replica[c.TOKEN_S] * unfilled > ttft_s
        if lane != c.PREFILL:
            pace_s = params[THETA_ATGT] * limit(params, request[c.KIND], request[c.TIER], ATGT_S)
            decode_s = replica[c.BASE_S] + replica[c.SEQ_S] * requests + replica[c.CONTEXT_S] * context
            full = full or decode_s > pace_s or held > replica[c.KV_CAPACITY_TOKENS]
            full = full or requests > replica[c.MAX_SEQS]
        if again == 0 and full and memory[B_REQUESTS] > 0.0:
            memory[BINS] += 1.0
            empty_last(memory)
            continue
        memory[B_UNFILLED], memory[B_REQUESTS] = unfilled, requests
        memory[B_CONTEXT], memory[B_TOKENS] = context, held
        break
    memory[PACKED] += 1.0


@jit
def wait(request: np.ndarray, replicas: np.ndarray, params: np.ndarray, memory: np.ndarray) -> int:
    """HOLD, or OPEN where those held need more replicas than start; not again at an instant that gave none."""
    n, needed = replicas.shape[0], 1.0
    if request[c.DEFERRED] == 0.0 or memory[BINS] < 1.0:
        memory[BINS], memory[PACKED] = 1.0, 0.0
        empty_last(memory)
    if n > 0:
        pack(request, replicas[0], params, memory)
        needed = memory[BINS] * (request[c.DEFERRED] + 1.0) / memory[PACKED]  # those not asked again count, too
    there = n + request[c.STARTING]
    if request[c.STARTING] >= needed or (memory[OPENED_S] == request[c.NOW] and there <= memory[HAD]):
        return c.HOLD
    memory[OPENED_S], memory[HAD] = request[c.NOW], there
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
    heartbeat_s, refusals (Router), no_harm (0: without (c)), limits (by kind, a row, and tier, a pair of ttft_s and
    atgt_s; 0: those for all).
    With prefill = c1 + k1 · tokens to prefill there, decode = c3 + c2 · requests + k2 · (prompts + gamma · predicted)
    of the replica's profile (replay.steplaw), kept are, for the request and all that are there: (a) prefill <=
    theta_ttft · ttft_s - time waited, by all without a token; (b) decode <= theta_atgt · atgt_s; (c) prefill <=
    atgt_s · generated - time since the first token, by all with one; (d) KV when each completes, as predicted, <=
    capacity. A prefill lane keeps (a) alone, a decode lane (b) and (d). Ours: no more requests than places; where no
    empty replica could keep (a) for the request any more, it need not; where none could keep (b) or (d), the emptiest
    takes it; those held are packed onto replicas to come, which says how many are opened (`wait`). O(replicas +
    requests of those tried). Aladdin (arXiv 2405.06856) as others sum it up: no code is public, its formulas are not
    checked against the paper.
    """
    n = replicas.shape[0]
    ttft_s = limit(params, request[c.KIND], request[c.TIER], TTFT_S)
    left_s = params[THETA_TTFT] * ttft_s - (request[c.NOW] - request[c.ARRIVED_S])
    in_time, possible = False, False
    for i in range(n):  # of a pool of one profile the first says it for all
        one = replicas[i]
        in_time = in_time or one[c.PREFILL_S] + one[c.TOKEN_S] * request[c.UNFILLED_TOKENS] <= left_s
        possible = possible or alone_possible(request, one, params)
        if in_time and possible:
            break
    if not in_time:
        left_s = np.inf
    chosen, fullest = -1, -np.inf
    for i in range(n):
        full = fullness(replicas[i]) if possible else -fullness(replicas[i])
        if full > fullest and (not possible or keeps(request, replicas[i], flight, flight_start[i], left_s, params)):
            chosen, fullest = i, full
    return chosen if chosen >= 0 else wait(request, replicas, params, memory)


RANGES = dict.fromkeys(("ttft_s", "atgt_s", "theta_ttft", "theta_atgt"), Range(above=True))
ROUTER = Router(
    aladdin,
    params=PARAMETERS,
    flight=True,
    holds=True,
    heartbeat_s="heartbeat_s",
    refusals="refusals",
    ranges={
        **RANGES,
        "gamma": Range(0, 1),
        "heartbeat_s": Range(),
        "refusals": Range(0, MOST_REFUSED, whole=True),
        "no_harm": Range(0, 1, whole=True),
        "limits": Range(),
    },
)
