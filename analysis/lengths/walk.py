"""One pass over arrivals and completions in order of time, compiled: what had happened by each arrival."""

import numpy as np

from ..compiled import kept

# measured on a million rows of three hundred tenants: 0.1 µs a row, where joins as of a time take 0.6 µs


@kept
def recent_outputs(
    arrival_s: np.ndarray,
    key: np.ndarray,
    done_s: np.ndarray,
    done_key: np.ndarray,
    tokens: np.ndarray,
    first: np.ndarray,
    totals: np.ndarray,
    counts: np.ndarray,
    window: int,
    mean: np.ndarray,
    last: np.ndarray,
) -> None:
    """Mean of the last `window` outputs of each arrival's key that were done before it, and the last of them.

    Both in order of time. `first[k]` is where key k's running totals begin in `totals` (zeros, one more than it has
    completions); `counts` are zeros by key. What is done as a request arrives (a duration of 0) is its own answer,
    and does not count. Keys without completions leave `mean` and `last` as they are.
    """
    done = 0
    for i in range(len(arrival_s)):
        while done < len(done_s) and done_s[done] < arrival_s[i]:
            k = done_key[done]
            at = first[k] + counts[k]
            totals[at + 1] = totals[at] + tokens[done]
            counts[k] += 1
            done += 1
        n = counts[key[i]]
        if n:
            end = first[key[i]] + n
            of = min(n, window)
            mean[i] = (totals[end] - totals[end - of]) / of
            last[i] = totals[end] - totals[end - 1]


@kept
def turns_so_far(
    arrival_s: np.ndarray,
    key: np.ndarray,
    event_s: np.ndarray,
    event_key: np.ndarray,
    input_tokens: np.ndarray,
    count: np.ndarray,
    latest_s: np.ndarray,
    latest_tokens: np.ndarray,
    turn: np.ndarray,
    gap_s: np.ndarray,
    previous: np.ndarray,
) -> None:
    """How many requests of its key (-1: none) came before each arrival, how long ago the last was, and its input.

    Both in order of time. `count`, `latest_s` and `latest_tokens` are zeros by key; of two at one instant the longer
    input counts, so that their order does not matter.
    """
    event = 0
    for i in range(len(arrival_s)):
        while event < len(event_s) and event_s[event] < arrival_s[i]:
            k = event_key[event]
            if k >= 0:
                again = count[k] > 0 and latest_s[k] == event_s[event]
                latest_tokens[k] = max(latest_tokens[k], input_tokens[event]) if again else input_tokens[event]
                latest_s[k] = event_s[event]
                count[k] += 1
            event += 1
        k = key[i]
        if k >= 0:
            turn[i] = count[k]
            if count[k] > 0:
                gap_s[i] = arrival_s[i] - latest_s[k]
                previous[i] = latest_tokens[k]
