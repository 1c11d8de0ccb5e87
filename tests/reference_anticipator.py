"""PreServe's load anticipator as its paper tells it: a ring of slots a replica, walked one iteration at a time.

It watches the slow fleet's replicas and shares nothing with the kernel's closed form.
"""

from collections import defaultdict
from contextlib import contextmanager
from unittest.mock import patch

from reference_replica import Replica


def paper(generated, said, first):
    """What one who generated as much as said is given: a fifth of the first prediction."""
    return -(-first // 5) if generated >= said else 0


def artifact(generated, said, first):
    """Thirty tokens, ten iterations late."""
    return 30 if generated >= said + 10 else 0


class Ring:
    """cells: tokens of KV by iteration since the beginning; head: the iteration that now is slot 0."""

    def __init__(self, rule):
        self.rule, self.head, self.cells = rule, 0, defaultdict(int)
        self.there = {}  # request -> [iteration it joined in, its tokens and generated then, prediction, end]

    def slots(self, horizon):
        return [self.cells[self.head + i] for i in range(horizon)]

    def add(self, request, first, last, sign=1):
        """(P + i) in each of these iterations."""
        joined, tokens, *_ = self.there[request]
        for cell in range(max(first, self.head), last):
            self.cells[cell] += sign * (tokens + cell - joined)

    def prefilled(self, request):
        said, generated = request.own[1], request.generated
        end = self.head + said - generated + 1  # of D slots the first one at the first token
        self.there[request] = [self.head, request.computed, generated, said, end]
        self.add(request, self.head, end)

    def ended(self, request):
        self.add(request, self.head, self.there[request][-1], sign=-1)
        del self.there[request]

    def late(self, request):
        while more := self.rule(request.generated, self.there[request][3], request.own[1]):
            end = self.there[request][4]
            self.add(request, end, end + more)
            self.there[request][3] += more
            self.there[request][4] += more

    def sync(self, replica):
        """Who left (done, preempted, migrated, or sat an iteration out) takes its slots along; who came adds them."""
        decoding = [r for r in replica.running if r.decodes]
        for request in list(self.there):
            joined, _, generated, *_ = self.there[request]
            if request not in decoding or request.generated - generated != self.head - joined:
                self.ended(request)
        for request in decoding:
            if request not in self.there:
                self.prefilled(request)
            self.late(request)


@contextmanager
def anticipators(rule):
    """Rings by replica (as the slow fleet plays), kept up to date at the end of every iteration."""
    rings = defaultdict(lambda: Ring(rule))
    finish = Replica.finish

    def finish_and_walk(self, *given):
        told = finish(self, *given)
        rings[id(self)].head += 1
        rings[id(self)].sync(self)
        return told

    with patch.object(Replica, "finish", finish_and_walk):
        yield rings
