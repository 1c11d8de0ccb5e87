"""Named columns of the arrays routers read, and the codes they answer with; appended to, never renumbered.

A router reads REQUEST and VIEW columns only: true output lengths stand in neither.
"""

# request f8[:], what a router may know of the arriving request
NOW, INPUT_TOKENS, PREDICTED_TOKENS, POOL, KIND, TIER, RANK, SESSION, ORIGIN, TRIES = range(10)
ARRIVED_S = 10  # when its client first sent it
STARTING = 11  # replicas of the pool that start
DEFERRED = 12  # requests of the pool that its router holds, this one not
LANE = 13  # of the pool: SHARED, PREFILL or DECODE
GENERATED_TOKENS = 14  # it has emitted already, in a prefill lane or before a migration
UNFILLED_TOKENS = 15  # its tokens to be prefilled where it goes: its prompt, as a rule
REQUEST_COLUMNS = 16
SHARED, PREFILL, DECODE = range(3)

# replicas f8[:, :], one row an active replica of the pool, by replica index
INDEX = 0  # number of the replica within its pool
PROFILE = 1
WAITING = 2  # requests routed here and not yet admitted
RUNNING = 3
PREFILL_TOKENS = 4  # prompt tokens not yet prefilled, tokens to recompute after a preemption included
OUTSTANDING_TOKENS = 5  # PREFILL_TOKENS + predicted remaining output; only where the router asks for tokens
EXPECTED_TOKENS = 6  # sum of prompt + predicted output of all requests here; likewise
KV_TOKENS = 7  # held, in whole blocks, the iteration in progress included; likewise
KV_CAPACITY_TOKENS = 8
MAX_SEQS = 9
MATCHED_TOKENS = 10  # of this request's prompt, in the replica's prefix cache; only where the router asks for it
# an iteration's time by its profile made linear (replay.steplaw): prefill PREFILL_S + TOKEN_S · prompt tokens; decode
# BASE_S + SEQ_S · requests + CONTEXT_S · tokens of theirs
BASE_S = 11
TOKEN_S = 12
SEQ_S = 13
CONTEXT_S = 14
PREFILL_S = 15
SPARE_TOKENS = 16  # KV that a request holds beyond its tokens, on average: what its last block leaves empty
ANSWER_TOKENS = 17  # sum of predicted output of all requests here; only where the router asks for tokens
VIEW_COLUMNS = 18

# ahead f8[:, :], the projected KV map, only where the router asks for it: row by active replica, column j: tokens of KV
# in j iterations, from now (0) on, of the requests that decode now, each until its predicted output is there

# flight f8[:, :], only where the router asks for it: the requests of active replica i are the WAITING + RUNNING rows
# from flight_start[i] on; running ones in order of admission, then waiting ones, the queue's head first
F_INPUT_TOKENS, F_COMPUTED_TOKENS, F_GENERATED_TOKENS = range(3)  # computed: whose KV is there
F_REMAINING_TOKENS = 3  # predicted output to come
F_RANK = 4  # in waiting queues: its deadline, its priority, or 0
F_ARRIVED_S = 5  # when its client first sent it
F_FIRST_S = 6  # when it emitted its first token; inf: not yet
F_RUNNING = 7  # 1: running, 0: waiting
F_TIER = 8  # row of lmaas.analysis.trace.TIERS
FLIGHT_COLUMNS = 9

# a router's answer other than a row
SCORES = -1  # take the lowest score, ties to the lowest index
HOLD = -2  # into the pool's hold queue
OPEN = -3  # likewise, and one more replica is asked for

UNSERVED, OK, REJECTED, ABANDONED, NOT_SENT = range(5)  # how a request ended
