"""The fleet as a policy sees it at a tick: what is there now, and what came since the last look."""

import numpy as np

from .kernel import layout as k
from .protocol import Seen


class Lookout:
    """Makes Seen of the kernel's cumulative counts, look after look."""

    def __init__(self, begin_s: float) -> None:
        self.so_far: np.ndarray | None = None
        self.t = begin_s

    def look(self, t: float, seen: np.ndarray, donated: np.ndarray) -> Seen:
        """What is seen at t.

        seen: f8[pools, SEEN_COLUMNS], just filled by the kernel; donated: i8[pools], replicas lent.
        """
        seen = seen.copy()
        so_far = seen[:, k.S_ARRIVED :]
        since = so_far if self.so_far is None else so_far - self.so_far
        interval_s, self.so_far, self.t = t - self.t, so_far, t
        return Seen(
            t=t,
            interval_s=interval_s,
            active=seen[:, k.S_ACTIVE],
            starting=seen[:, k.S_STARTING],
            draining=seen[:, k.S_DRAINING],
            donated=donated.astype(np.float64),
            queued=seen[:, k.S_QUEUED],
            held=seen[:, k.S_HELD],
            waiting=seen[:, k.S_WAITING],
            running=seen[:, k.S_RUNNING],
            outstanding_tokens=seen[:, k.S_OUTSTANDING],
            kv_fraction=seen[:, k.S_KV] / np.maximum(seen[:, k.S_KV_CAPACITY], 1.0),
            arrivals=since[:, 0],
            arrived_input_tokens=since[:, 1],
            completions=since[:, 2],
            completed_output_tokens=since[:, 3],
        )
