"""Room in the kernel's arrays: made before an order that moves many at once, and more of it where it ran out."""

from .kernel import layout as k
from .kernel.heap import SLOT_BITS
from .kernel.state import longer, more_flights
from .lifecycle import Lifecycle

MOST_IN_FLIGHT = 1 << SLOT_BITS  # requests sent and not ended: more have no number in the kernel's heaps


def make_room(life: Lifecycle) -> None:
    """In one go all in flight may be sent again (agenda), and all that are queued in a pool be rejected (done).

    Starts that are cancelled stay on the agenda until their time comes, so there may be any number of these, too.
    """
    ctl, widest = life.state.ctl, life.state.ends.shape[1]
    while int(ctl.agenda[0] + ctl.in_flight[0]) + 2 * widest + 8 > len(life.state.agenda):
        grow(life, k.AGENDA_FULL)
    rows = int(ctl.out[0] + life.state.pool.queued.max(initial=0)) + widest + 2
    if rows > len(life.state.done):
        life.state = life.state._replace(done=longer(life.state, "done", 2 * rows))


def grow(life: Lifecycle, why: int) -> None:
    """Twice the room for events (AGENDA_FULL) or requests in flight (FLIGHT_FULL; RuntimeError at MOST_IN_FLIGHT)."""
    if why == k.FLIGHT_FULL:
        have = len(life.state.fly)
        if have >= MOST_IN_FLIGHT:  # of this policy's fleet; others may do with less
            raise RuntimeError(
                f"{have:,} requests wait or run at t={float(life.state.ctl.now[0]):g} s, the most a replay can hold; "
                "give this policy more replicas, its clients a timeout, or replay a shorter part of the trace"
            )
        life.state = more_flights(life.state, min(2 * have, MOST_IN_FLIGHT))
    else:
        life.state = life.state._replace(agenda=longer(life.state, "agenda", 2 * len(life.state.agenda)))
