"""The slow, obvious fleet: one iteration at a time, with lists, straight from docs/replay.md.

Kept as the judge of the numba kernel: nothing here is shared with `lmaas.replay` but the profile's numbers.
Routers are plain functions over `Replica` objects. Time order at one instant: iterations end, replicas become
ready, faults strike, the tick's actions, clients give up, arrivals, idle replicas start. A line `# reading:` says how
the text was read where it leaves a choice.
"""

from reference_cache import Blocks
from reference_fleet import Fleet
from reference_model import Latency, Request, Rules, Shape
from reference_replica import Replica

__all__ = ["Blocks", "Fleet", "Latency", "Replica", "Request", "Rules", "Shape"]
