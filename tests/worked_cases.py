"""Small cases for the slow reference, to be worked out by hand: an iteration lasts 1 s, a block is 1 token."""

from cases_full import play_slow

PLAIN = {
    "base": 1.0, "token_knots": [0], "token_slopes": [0.0], "attn_pair": 0.0, "prefix_kv": 0.0, "decode_seq": 0.0,
    "decode_kv": 0.0,
}  # fmt: skip
NET = {"pool_service": [0, 0], "pool_region": [0, 1], "latency_s": [[0.0, 1.0], [1.0, 0.0]]}


def shape(base=1.0, **more):
    wide = {"kv_tokens": 100, "block": 1, "max_batch_tokens": 1000, "max_seqs": 8}
    return {"latency": {**PLAIN, "base": base}, **wide, **more}


def case_of(requests, shapes=None, counts=(1,), ticks=None, startup=0.0, **more):
    """The case of requests [(arrival, input, output) or (arrival, pool, input, output)]."""
    predicted = more.pop("predicted", [1] * len(requests))
    rows = [
        [float(r[0]), r[1] if len(r) == 4 else 0, r[-2], r[-1], p, 0] for r, p in zip(requests, predicted, strict=True)
    ]
    return {
        "shapes": shapes or [shape() for _ in counts],
        "requests": rows,
        "counts": list(counts),
        "ticks": ticks or {},
        "startup": startup,
        "router": "round-robin",
        **more,
    }


def play(requests, looks=None, **more):
    """(requests, fleet, seen): of the case; looks {time: function of the fleet}, seen what they returned."""
    case = case_of(requests, **more)
    seen = {}

    def look(at, read):
        return lambda fleet: seen.update({at: read(fleet)})

    done, fleet = play_slow(case, {at: look(at, read) for at, read in (looks or {}).items()})
    return done, fleet, seen


def held(fleet, index=0):
    return fleet.replicas[index].held


def cached(fleet):
    return set(fleet.replicas[0].kv.present)


def waiting(fleet):
    return len(fleet.replicas[0].waiting)
