"""Named columns of the arrays routers read, and the codes they answer with; appended to, never renumbered.

A router reads REQUEST and VIEW columns only: true output lengths stand in neither.
"""

# request f8[:], what a router may know of the arriving request
NOW, INPUT_TOKENS, PREDICTED_TOKENS, POOL, KIND, TIER, RANK, SESSION, ORIGIN, TRIES = range(10)
REQUEST_COLUMNS = 10

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
VIEW_COLUMNS = 11

# a router's answer other than a row
SCORES = -1  # take the lowest score, ties to the lowest index
HOLD = -2  # into the pool's hold queue
OPEN = -3  # likewise, and one more replica is asked for

OK, REJECTED, UNSERVED, ABANDONED, NOT_SENT = range(5)  # how a request ended
