"""The fleet as a policy sees it at a tick: what is there now, and what came since the last look."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import columns as c
from .kernel import layout as k
from .profile import Profile
from .protocol import Seen, SeenReplicas, SeenRequests

STATES = {k.STARTING: "starting", k.ACTIVE: "active", k.DRAINING: "draining"}
WHERE = {
    k.WAITING: "waiting", k.PREFILL: "running", k.DECODE: "running", k.QUEUED: "queued", k.HELD: "held",
    k.TRAVELLING: "travelling",
}  # fmt: skip


class Lookout:
    """Makes Seen of the kernel's cumulative counts, look after look."""

    def __init__(self, begin_s: float) -> None:
        self.so_far: np.ndarray | None = None
        self.t = begin_s

    def look(self, t: float, seen: np.ndarray, donated: np.ndarray, closer: "Close") -> Seen:
        """What is seen at t.

        seen: f8[pools, SEEN_COLUMNS], just filled by the kernel; donated: i8[pools], replicas lent.
        """
        seen = seen.copy()
        so_far = seen[:, k.S_ARRIVED :]
        since = so_far if self.so_far is None else so_far - self.so_far
        completed = np.where(since[:, 2] > 0, since[:, 2], np.nan)
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
            mean_ttft_s=since[:, 4] / completed,
            mean_e2e_s=since[:, 5] / completed,
            arrived_batch_tokens=since[:, 6],
            closer=closer,
        )


class Close:
    """Single replicas and requests, from the kernel's arrays just brought to time t.

    state: gives these arrays as they stand; deadline_s: of all requests, after their arrival (None: none has one).
    """

    def __init__(
        self, state: Callable[[], Any], profiles: tuple[Profile, ...], deadline_s: np.ndarray | None = None
    ) -> None:
        self.state, self.profiles, self.deadline_s, self.over = state, profiles, deadline_s, False

    def replicas(self) -> SeenReplicas:
        """As the fleet stands."""
        st = self._state()
        rep = st.rep.view(np.ndarray)  # by name it is slow
        slots = np.flatnonzero((rep["state"] >= k.STARTING) & (rep["state"] <= k.DRAINING))  # np.isin is slow on so few
        slots = slots[np.lexsort((rep["index"][slots], rep["pool"][slots]))]
        here = rep[slots]
        rows = np.where((here["state"] == k.STARTING)[:, None], 0.0, st.rows[here["row"]])
        ahead = st.coming[slots] if int(st.ctl.anticipated[0]) else np.zeros((len(slots), 0))
        capacity = np.maximum(here["blocks"] * here["block"], 1)
        return SeenReplicas(
            pool=here["pool"].copy(),
            replica=here["index"].copy(),
            state=_named(STATES, here["state"]),
            profile=np.array([p.name for p in self.profiles])[here["profile"]],
            waiting=rows[:, c.WAITING],
            running=rows[:, c.RUNNING],
            outstanding_tokens=rows[:, c.OUTSTANDING_TOKENS],
            kv_fraction=rows[:, c.KV_TOKENS] / capacity,
            ahead=np.where((here["state"] == k.STARTING)[:, None], 0.0, ahead),
            surplus_tokens=here["surplus"].copy(),
        )

    def requests(self) -> SeenRequests:
        """As the fleet stands."""
        st = self._state()
        fly = st.fly.view(np.ndarray)
        there = (fly["phase"] != k.ELSEWHERE) & (fly["gone"] == 0) & (fly["request"] >= 0)
        # a session's next turn and a client that tries again are known to the replay before they are sent
        there &= (fly["phase"] != k.TRAVELLING) | (fly["stage"] != k.NEW)
        number = np.flatnonzero(there)
        here = fly[number[np.argsort(fly["request"][number], kind="stable")]]  # few: a request is 400 bytes
        rep = st.rep.view(np.ndarray)
        index, looked = rep["index"], rep["looked"][np.maximum(here["replica"], 0)]
        steps = np.where(here["phase"] == k.DECODE, looked, 0)
        given_s = np.nan if self.deadline_s is None else self.deadline_s[here["request"]]
        need = here["input"] + here["generated"] - here["computed"]  # while it decodes both are less the same steps
        return SeenRequests(
            request=here["request"].copy(),
            pool=here["pool"].copy(),
            replica=np.where(here["replica"] >= 0, index[np.maximum(here["replica"], 0)], -1),
            where=_named(WHERE, here["phase"]),
            tier=np.maximum(here["tier"], 0),
            arrival_s=here["arrival_s"].copy(),
            input_tokens=here["input"].copy(),
            predicted_tokens=here["predicted"].copy(),
            foretold_tokens=here["foretold"].copy(),
            generated_tokens=here["generated"] + steps,
            unfilled_tokens=np.where((here["first_s"] < np.inf) & (need == 1), 0, need),
            first_s=here["first_s"].copy(),
            due_s=here["arrival_s"] + given_s,
        )

    def close(self) -> None:
        """The tick is over."""
        self.over = True

    def _state(self) -> Any:
        if self.over:
            raise LookupError("single replicas and requests are seen during the tick they were handed at, not later")
        return self.state()


def _named(names: dict[int, str], codes: np.ndarray) -> np.ndarray:
    texts = np.array([names.get(code, "") for code in range(max(names) + 1)])
    named: np.ndarray = texts[codes]
    return named
