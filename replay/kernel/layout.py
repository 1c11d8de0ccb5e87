"""Records and codes the kernel's arrays are made of. One place for every field's meaning."""

import numpy as np


def _record(ints: str, floats: str = "") -> np.dtype:
    return np.dtype([(name, np.int64) for name in ints.split()] + [(name, np.float64) for name in floats.split()])


# one row: where the loop stands, and which features this replay uses (0 or 1), so that others cost nothing
CONTROL = _record(
    "next last"  # next arrival of the chunk, and how many of its rows arrive by themselves
    " free in_flight out"  # unused flight slots, requests somewhere, rows written to `done`
    " idle events agenda"  # entries of these arrays in use
    " receipts"  # requests received by replicas so far: order of receipt
    " nodes"  # head of the unused cache nodes
    " tokens"  # keep predictions current: routers that read tokens, policies that scale
    " look"  # the router reads token columns
    " match"  # the router reads MATCHED_TOKENS
    " deep ahead flight"  # the router reads `ahead`, so many iterations, or `flight`; deep: either
    " anticipated late_tokens late_after"  # iterations of `coming`; with late_share: late requests in it (inflight.py)
    " linear"  # the router's score is a weighted sum of columns: a tournament tree instead of a scan
    " scanned"  # ... except in pools of up to as many rows
    " ranked patient sessions regions holds cached lanes"
    " ghosts"  # 1: queues may hold requests that are gone
    " rule"  # region rule
    " hash_tokens"  # H
    " tries"  # how often a client sends again
    " reroute"  # 1: the router may hold; what it holds is routed again when a replica becomes active
    " beat fruitless most_fruitless"  # 1: a heartbeat is in the agenda; fruitless ones in a row, and how many may be
    " most_refused"  # in a row of those a router is asked for again, after which the others are held unasked
    " answer"  # the router's, where it was bad
    " releases_low releases_mid"  # by a completion: below the lower threshold, and between both
    " wanted",  # 1: the driver is to look at once (OPEN, a replica it waits for is off)
    "now threshold release_below release_low timeout_s backoff_s factor begin_s heartbeat_s late_share",
)

REPLICA = _record(
    "pool state record index profile"
    " row"  # in the view; a pool's active replicas come first, by index
    " at"  # position in the heap of events, -1: none
    " idle"  # 1: in the list of those that may start
    " steps"  # iterations ended so far: the virtual clock of running requests
    " decodes context"  # decoding requests, and the sum of their computed tokens
    " used blocks block max_seqs max_batch"
    " head tail waiting"  # the waiting queue: a list, or (ranked) a heap under head
    " running partial"  # partial: the one request whose prompt is partly prefilled, -1: none
    " stack heap late planned"  # entries of the admission stack, completion heap, outlive heap, plan
    " count"  # iterations in the run in progress; where planned > 0 it is one
    " prefill predicted generated input"  # sums over the requests here: not yet prefilled, predicted output, ...
    " leaving"  # running requests that go at the end of the iteration in progress
    " flight_at flight_room"  # its rows in `flight`
    " looked"  # `steps` as of the driver's last look, those of the run in progress that had ended included
    " surplus"  # output tokens of the requests completed here beyond what was predicted at their arrival
    " transit"  # requests migrating away, whose blocks are still held
    " awaited"  # 1: the driver wants to know when it is off
    " per_hash"  # KV blocks a hash block
    " evictable oldest newest",  # cached blocks without users, and their list by age
    "since first event_s ready_s off_s busy_s"  # run's start, its first duration, its end, ...
    " valid_s",  # the view row's token columns hold until then
)
FREE, STARTING, ACTIVE, DRAINING, ENDED = range(5)  # state; ENDED: off, not yet seen by the driver

FLIGHT = _record(
    "request input output predicted foretold kind tier"  # foretold: the prediction at arrival
    " computed generated"  # while decoding: less the replica's steps
    " next other"  # links of queues: list, or the two children of a heap
    " replica record pool home group origin"  # replica -1: on none; home: the pool given
    " phase place"  # place: position in the admission stack
    " late_key"  # key of the entry in the outlive heap, -1: none
    " receipt gone stage held sends"
    " preemptions restarts tries cached"
    " hash_at hash_n shared"  # its hashes, and how many of them it shares in the cache
    " session follow"  # number of the session's next request, -1: none
    " target target_pool source source_record"  # of a migration: replica number (ANY: of the pool), slot; -1: none
    " prefilled",  # 1 + record of the replica of a prefill lane that it came from, 0: none
    "arrival_s sent_s admitted_s first_s rank network_s hold_s transfer_s since_s",
)
# phase; QUEUED: in a pool's queue, HELD: in its hold queue, TRAVELLING: in the agenda, ELSEWHERE: the slot is free
WAITING, PREFILL, DECODE, QUEUED, HELD, TRAVELLING, ELSEWHERE = range(7)
FREE_OF_HOLD, BY_TIER, RELEASED_ONCE = range(3)  # held: by its tier until released, then no more in this try
NEW, REACHING, RELEASED, AGAIN, MOVED = range(5)  # stage: what an agenda entry means for its request
ANY = 1 << 30  # as a target: the pool's router picks the replica

ARRIVAL = np.dtype(
    [
        ("number", np.int64),
        ("arrival_s", np.float64),
        ("rank", np.float64),
        ("think_s", np.float64),
        ("pool", np.int32),
        ("input", np.int32),
        ("output", np.int32),
        ("predicted", np.int32),
        ("kind", np.int32),
        ("tier", np.int32),
        ("held", np.int32),  # 1: waits in the hold queue until released
        ("group", np.int32),  # row of `choices`, -1: the pool is given
        ("origin", np.int32),
        ("hash_n", np.int32),
        ("hash_at", np.int64),
        ("session", np.int64),
        ("follow", np.int64),
    ]
)

# small, since every request's is written, gathered and read once
_ENDED = "request status pool record preemptions restarts tries prefilled"
_ENDED_S = "arrival_s admitted_s first_s done_s network_s hold_s transfer_s"
DONE = np.dtype(
    [(name, np.int32) for name in _ENDED.split()]
    + [("cached", np.int64)]
    + [(name, np.float64) for name in _ENDED_S.split()]
)

# cumulative counts, for the driver's differences
POOL = _record(
    "first slots"  # its replica slots and view rows
    " active head tail queued"  # queue of requests that found no active replica
    " hold deferred deferrals held"  # hold queue (a heap), list of what the router holds and how many, both together
    " refused"  # of those asked again at this instant, in a row
    " starting"
    " region down tree leaves"  # tree: offset of its tournament tree
    " ended_now"  # completions at this instant that may release held requests
    " opened"  # replicas asked for by OPEN, cumulative
    " lane"  # columns.SHARED, PREFILL or DECODE
    " onward onward_tokens"  # of a prefill lane: row of `choices` with the decode pools, the most these hold; else -1
    " arrived arrived_input completed completed_output rejected"
    " arrived_batch",  # prompt tokens of those of tier batch
    "ttft_s e2e_s",  # sums over the completed, from their arrival
)

# a profile in use; kv_transfer: seconds a token of KV takes to another replica; law_...: made linear (replay.steplaw)
SHAPE = _record(
    "",
    "fixed attn_pair prefix_kv decode_seq decode_kv kv_transfer"
    " law_prefill_s law_token_s law_decode_s law_seq_s law_context_s law_kv_tokens",
)
EVENT = np.dtype([("t", np.float64), ("slot", np.int64)])
ENTRY = np.dtype([("t", np.float64), ("order", np.int64), ("slot", np.int64), ("stamp", np.int64)])
CHUNK = np.dtype([("slot", np.int64), ("tokens", np.int64)])
NODE = _record("hash owner users chain older newer")  # a hash block in a replica's prefix cache

# what an agenda entry is, in the order of one instant; the policy's tick stands between READY and PATIENCE
RELEASE, READY, PATIENCE, ARRIVE = range(4)
PHASE = 1 << 48  # order = phase * PHASE + request (or pool, or slot)
ALL_POOLS = PHASE - 1  # in place of a pool: a heartbeat

# the least of scores that have none
NO_ROW, NO_NUMBER = -(1 << 62), -(1 << 62) - 1

# pools as a policy sees them, f8[:, :]; those from S_ARRIVED on are cumulative
(
    S_ACTIVE,
    S_STARTING,
    S_DRAINING,
    S_QUEUED,
    S_WAITING,
    S_RUNNING,
    S_OUTSTANDING,
    S_KV,
    S_KV_CAPACITY,
    S_HELD,
    S_ARRIVED,
    S_ARRIVED_INPUT,
    S_COMPLETED,
    S_COMPLETED_OUTPUT,
    S_TTFT,
    S_E2E,
    S_ARRIVED_BATCH,
) = range(17)
SEEN_COLUMNS = 17

BATCH = 2  # row of lmaas.analysis.trace.TIERS

# why the kernel returned
DONE_ALL, TICK, MORE, OUT_FULL, FLIGHT_FULL, AGENDA_FULL, BAD_ROUTE, WANTED = range(8)

# what the driver asks of the kernel's one entry
RUN, ACTIVATE, STARTS, DRAIN, LOOK, ARRANGE, LOSE, LOSE_QUEUE, RELEASE_HELD, MIGRATE = range(10)
HOME, THRESHOLD = range(2)  # region rules
