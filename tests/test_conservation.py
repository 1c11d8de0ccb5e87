"""Every law of conservation can fail: a replay stopped in the middle, one number changed, and the law is named."""

import numpy as np
import pytest

from lmaas.replay.conservation import ConservationError
from lmaas.replay.engine import Controller, Replay, Requests
from lmaas.replay.fleet import Fleet, Hold, Pool
from lmaas.replay.kernel import layout as k
from lmaas.replay.losses import lose_replica
from lmaas.replay.profile import Latency, Profile
from lmaas.replay.protocol import NOTHING, Actions

PROFILE = Profile(
    name="p", gpu="G", gpus_per_replica=2, kv_tokens=200, block=4, max_batch_tokens=16, max_seqs=2,
    kv_bytes_per_token=1000, latency=Latency(
        base=0.1, token_knots=[0], token_slopes=[0.01], attn_pair=1e-4, prefix_kv=1e-4, decode_seq=1e-3, decode_kv=1e-4
    ),
)  # fmt: skip
BIG, QUEUED, HELD, LATE = 2, 3, 5, 15  # too long for any replica; in a pool without one; held; not there at the pause


def requests():
    n = 16
    arrival = np.array([0.0] * 15 + [90.0])
    tokens = np.array([8, 24, 500, 8, 8, 8, 8, *[24] * 8, 8])
    output = np.array([1, 90, 5, 5, 5, 5, 5, *[90] * 8, 5])
    held = np.isin(np.arange(n), [HELD, HELD + 1])
    pool = np.isin(np.arange(n), [QUEUED, QUEUED + 1, HELD, HELD + 1]).astype(int)
    counts = tokens // 8  # hash blocks of 8 tokens, the same prefix for all
    return Requests(
        arrival, pool, tokens, output, output.astype(float), np.zeros(n, int), held=held,
        hashes=np.concatenate([np.arange(m) for m in counts]).astype(np.uint64), hash_n=counts,
        hash_at=np.cumsum(counts) - counts, hash_tokens=8,
    )  # fmt: skip


def fleet():
    return Fleet(
        (Pool("a", "r", PROFILE), Pool("b", "r", PROFILE, minimum=0)),
        inventory={"r": {"G": 6}},
        kv_bandwidth_gb_s=1e-6,
        hold=Hold(("batch",)),
    )


class Paused(Exception):
    pass


def paused():
    """A replay stopped at 2.5 s: requests everywhere, one of them in transit."""

    def act(t, seen):
        if t < 2.5:
            return Actions(migrate=[(1, 0, 0)])
        raise Paused

    controller = Controller(lambda t: next((x for x in (2.0, 2.5) if x > t), np.inf), act)
    replay = Replay(requests(), fleet(), [2, 0], "least-requests", controller)
    with pytest.raises(Paused):
        replay.run(check=True)
    replay.accounts.check()
    return replay


def slot(replay, phase):
    return int(np.flatnonzero((replay.st.fly.phase == phase) & (replay.st.fly.gone == 0))[0])


def number(replay, field, where=0, by=1, table="rep"):
    getattr(replay.st, table)[field][where] += by


def busy(replay):
    return int(np.argmax(replay.st.rep.waiting))


def source(replay):
    return int(np.argmax(replay.st.rep.transit))


def flight(field, phase, value=None, by=1):
    def change(replay):
        q = slot(replay, phase)
        replay.st.fly[field][q] = replay.st.fly[field][q] + by if value is None else value

    return change


def same_number_twice(replay):
    replay.st.fly.request[slot(replay, k.DECODE)] = replay.st.fly.request[slot(replay, k.WAITING)]


def lose_an_end(replay):
    r = replay.st.fly.replica[slot(replay, k.DECODE)]
    replay.st.rep.heap[r] -= 1


def forget_the_place(replay):
    q = slot(replay, k.DECODE)
    replay.st.stack[replay.st.fly.replica[q], replay.st.fly.place[q]] = -1


def swap_receipts(replay):
    q = replay.st.rep.head[busy(replay)]
    replay.st.fly.receipt[q] += 1000


def cache_overflows(replay):
    r = busy(replay)
    replay.st.rep.evictable[r] = replay.st.rep.blocks[r]


def occupied(replay):
    replay.life.machines.taken["r", "G"] += 1


def fewer_machines(replay):
    replay.fleet.inventory["r"]["G"] = 3


def born_earlier(replay):
    (t, state), *rest = replay.life.lives.log[0]
    replay.life.lives.log[0] = [(t - 1.0, state), *rest]


def off_in_the_log(replay):
    replay.life.lives.log[0][-1] = (replay.life.lives.log[0][-1][0], 2)


def busy_beyond_its_end(replay):
    lose_replica(replay.life, 0, 0, 2.5)
    replay.life.lives.busy_s[0] += 1e6


def count_again(replay):
    replay.accounts.counted = 0


def first_before_admitted(replay):
    replay.accounts.where[replay.st.done.request[:2]] = 1
    replay.accounts.counted = 0
    replay.st.done.first_s[:2] = -1.0


def ends_twice(replay):
    first_before_admitted(replay)
    replay.st.done.request[1] = replay.st.done.request[0]


def never_handed(replay):
    replay.accounts.counted = 0
    replay.st.done.request[0] = 100


def another_slot_on_its_way(replay):
    coming = replay.st.agenda.slot[: int(replay.st.ctl.agenda[0])]
    coming[coming == slot(replay, k.TRAVELLING)] = slot(replay, k.DECODE)


def another_slot_completes(replay):
    replay.st.ends[replay.st.fly.replica[slot(replay, k.DECODE)], 0] += 1000


def user(field, value):
    def change(replay):
        replay.st.node[field][np.argmax(replay.st.node.users)] = value

    return change


def held_twice(replay):
    replay.st.pool.deferred[0] = slot(replay, k.HELD)


LAWS = {
    "requests.*ends of": ends_twice,
    "requests.*without being handed over": never_handed,
    "requests.*ended before": count_again,
    "requests.*first token in time": first_before_admitted,
    "requests.*running without a next iteration": lambda x: number(x, "event_s", busy(x), by=np.inf),
    "requests.*slots on their way": another_slot_on_its_way,
    "requests.*slots with a completion": another_slot_completes,
    "requests.*times in a list held by the router": held_twice,
    "blocks.*of its own": flight("shared", k.DECODE, value=40),
    "blocks.*cached blocks in use": user("users", 0),
    "blocks.*owner of a cached block": user("owner", 7),
    "blocks.*hash of a cached block": user("hash", 12345),
    "requests.*in flight: expected": lambda x: number(x, "in_flight", table="ctl"),
    "requests.*handed over": lambda x: number(x, "last", table="ctl"),
    "requests.*in no place": lambda x: number(x, "free", by=-1, table="ctl"),
    "requests.*times in flight": same_number_twice,
    "requests.*in flight and .2. ended": flight("request", k.WAITING, value=0),
    "requests.*in flight and still to arrive": flight("request", k.WAITING, value=LATE),
    "requests.*queued": lambda x: number(x, "queued", table="pool"),
    "requests.*held": lambda x: number(x, "held", table="pool"),
    "requests.*rejected": lambda x: number(x, "rejected", table="pool"),
    "requests.*arrived": lambda x: number(x, "arrived", table="pool"),
    "tokens.*prompts of arrived": lambda x: number(x, "arrived_input", table="pool"),
    "tokens.*output of completed": lambda x: number(x, "completed_output", table="pool"),
    "requests.*replica . of pool a/r/shared: waiting": lambda x: number(x, "waiting", busy(x)),
    "requests.*running: expected": lambda x: number(x, "running", busy(x)),
    "requests.*decodes": lambda x: number(x, "decodes", busy(x)),
    "requests.*in transit": lambda x: number(x, "transit", source(x)),
    "requests.*on a live replica": flight("replica", k.WAITING, value=3),
    "requests.*next event": lambda x: number(x, "events", by=-1, table="ctl"),
    "requests.*order of admission": forget_the_place,
    "requests.*completions to come": lose_an_end,
    "requests.*in the agenda": lambda x: number(x, "agenda", by=-1, table="ctl"),
    "requests.*times in a waiting queue": lambda x: number(x, "head", busy(x), by=-10_000),
    "requests.*out of order in a waiting queue": swap_receipts,
    "requests.*times in a hold queue": lambda x: number(x, "hold", 1, by=-10_000, table="pool"),
    "requests.*times in a pool's queue": lambda x: number(x, "head", 1, by=-10_000, table="pool"),
    "tokens.*computed within": flight("computed", k.WAITING, value=-1),
    "tokens.*generated within": flight("generated", k.WAITING, value=-1),
    "tokens.*to compute while it decodes": flight("computed", k.DECODE, by=-1),
    "tokens.*with its first one": flight("first_s", k.DECODE, value=np.inf),
    "tokens.*iteration of its completion": flight("output", k.DECODE),
    "tokens.*sum of prefill": lambda x: number(x, "prefill", busy(x)),
    "tokens.*sum of context": lambda x: number(x, "context", busy(x)),
    "tokens.*sum of generated": lambda x: number(x, "generated", busy(x)),
    "tokens.*sum of input": lambda x: number(x, "input", busy(x)),
    "tokens.*sum of predicted": lambda x: number(x, "predicted", busy(x)),
    "blocks.*replica . of pool a/r/shared: held: expected": lambda x: number(x, "used", source(x)),
    "blocks.*held or cached": cache_overflows,
    "blocks.*users of a cached block": user("users", 50),
    "GPUs.*G of region r: occupied": occupied,
    "GPUs.*within its machines": fewer_machines,
    "GPU-seconds.*provisioned": born_earlier,
    "GPU-seconds.*state in its log": off_in_the_log,
    "GPU-seconds.*busy within its life": lambda x: number(x, "busy_s", busy(x), by=1e6),
    "GPU-seconds.*replica 0 of pool a/r/shared: busy within its life, which is over": busy_beyond_its_end,
}


@pytest.mark.parametrize("law", LAWS)
def test_a_broken_law_is_named(law):
    replay = paused()
    LAWS[law](replay)
    with pytest.raises(ConservationError, match=f"conservation of {law}") as error:
        replay.accounts.check()
    assert "at t=2.5 s" in str(error.value)


def test_results_are_the_same():
    plain, checked = (
        Replay(requests(), fleet(), [2, 1], "least-requests", SCALE).run(check) for check in (False, True)
    )
    for name in ("status", "record", "first_s", "done_s", "preemptions", "cached_tokens", "busy_s", "actions_s"):
        assert np.array_equal(getattr(plain, name), getattr(checked, name), equal_nan=True), name
    assert plain.spans.equals(checked.spans)


SCALE = Controller(
    lambda t: t + 1.0 if t < 30 else np.inf, lambda t, seen: Actions({0: 2 + int(t) % 2}) if t > 3 else NOTHING
)
