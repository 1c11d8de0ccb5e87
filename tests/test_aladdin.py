"""Aladdin's parts: latency model, limits, relation, drift, rebalancing and what it does at a look."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from reference_packing import broken
from scipy.optimize import nnls

from lmaas.policies.aladdin.drift import Mix, Mixes
from lmaas.policies.aladdin.limits import NONE_S, Placement, limits_of
from lmaas.policies.aladdin.policy import Aladdin, State
from lmaas.policies.aladdin.rebalance import Member, Worker, kept, moves, peak
from lmaas.policies.aladdin.relation import Relation, drawn, fitted, relations, used
from lmaas.policies.aladdin.workers import shapes, shapes_of
from lmaas.replay.fleet import Fleet, Pool
from lmaas.replay.profile import Latency, find_profile, profiles
from lmaas.replay.protocol import History, Seen, SeenReplicas, SeenRequests
from lmaas.replay.routernames import find_router
from lmaas.replay.steplaw import decode_steps, prefill_steps, step_law

H100 = find_profile("llama-3.1-8b/h100/tp1")
RATES = pl.DataFrame(
    {
        "service": ["a"], "lane": ["shared"], "requests_s": [9.0], "prompt_tokens_s": [1000.0],
        "output_tokens_s": [100.0], "total_tokens_s": [1100.0], "mean_running": [20.0],
    }
)  # fmt: skip


def known(n=400, seed=0, ttft_s=2.0, tpot_s=0.05):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "service": ["a"] * n,
            "scored_tier": rng.choice(["interactive-fast", "batch"], n),
            "input_tokens": rng.integers(100, 2000, n),
            "output_tokens": rng.integers(10, 400, n),
        }
    ).with_columns(
        limit_ttft_s=pl.when(pl.col("scored_tier") == "batch").then(np.inf).otherwise(ttft_s),
        limit_tpot_s=pl.when(pl.col("scored_tier") == "batch").then(np.inf).otherwise(tpot_s),
    )


FLEET = Fleet((Pool("a", "eu", H100, maximum=30),))
HISTORY = History(0.0, 600.0, 60.0, RATES, pl.DataFrame(), known=known())
PLACEMENT = Placement(1.0, 1.0, 0.5, 1.0, limits_of(FLEET, HISTORY, None, None))


# --- the latency model ---


@pytest.mark.parametrize("name", ["llama-3.1-8b/h100/tp1", "gpt-oss-120b/h100/tp1/mxfp4", "llama-3.1-70b/a100/tp4"])
def test_the_law_is_scipys_least_squares(name):
    """Of relative errors, coefficients from 0 up; and its errors are those over the steps it was fitted to."""
    profile = find_profile(name)
    law, most = step_law(profile), min(profile.max_seqs, profile.max_batch_tokens)
    tokens, prefill_s = prefill_steps(profile.latency, profile.max_batch_tokens)
    seqs, context, decode_s = decode_steps(profile.latency, most, profile.kv_tokens)
    for columns, seconds, mine, error in (
        ([np.ones_like(tokens), tokens], prefill_s, [law.prefill_s, law.token_s], law.prefill_error),
        ([np.ones_like(seqs), seqs, context], decode_s, [law.decode_s, law.seq_s, law.context_s], law.decode_error),
    ):
        table = np.stack(columns, axis=1) / seconds[:, None]
        scale = table.max(axis=0)
        theirs = nnls(table / scale, np.ones(len(seconds)))[0] / scale
        assert mine == pytest.approx(theirs, rel=1e-6)
        assert error == pytest.approx(np.abs(table @ theirs - 1).mean(), rel=1e-6)


def test_steps_are_what_the_profile_says():
    """A prompt of up to a batch alone, by Profile.alone_s; a decode iteration, by the profile's formula."""
    tokens, prefill_s = prefill_steps(H100.latency, H100.max_batch_tokens)
    whole = tokens <= H100.max_batch_tokens
    alone_s, _ = H100.alone_s(tokens[whole], np.ones(int(whole.sum())))
    longest = prefill_s[whole][-1] - alone_s[-1]
    assert longest == pytest.approx(0.0, abs=1e-12)  # the last grid point is one prompt
    assert (prefill_s[whole] <= alone_s + 1e-12).all()  # shorter prompts, the same tokens: less attention
    seqs, context, decode_s = decode_steps(H100.latency, 4, 1000)
    lat = H100.latency
    for n, k, s in zip(seqs, context, decode_s, strict=True):
        assert s == pytest.approx(lat.base + lat.token_s(8)[int(n)] + lat.decode_seq * n + lat.decode_kv * k)


def test_a_linear_profile_is_met_exactly():
    lat = Latency(base=0.02, token_slopes=(1e-4,), decode_seq=1e-4, decode_kv=1e-7)
    law = step_law(H100.model_copy(update={"latency": lat, "block": 1}))
    assert [law.decode_s, law.seq_s, law.context_s] == pytest.approx([0.02, 2e-4, 1e-7])
    assert law.decode_worst < 1e-9
    assert law.kv_tokens == 0


def test_most_dense_shapes_are_within_the_papers_ten_per_cent():
    laws = {name: step_law(find_profile(name)) for name in profiles()["name"]}
    dense = [law for name, law in laws.items() if name.startswith(("llama", "qwen3-8b", "qwen3-32b"))]
    assert max(law.decode_error for law in dense) < 0.1
    assert np.mean([law.prefill_error < 0.1 for law in dense]) > 0.85
    assert max(law.decode_error for law in laws.values()) > 0.2  # and of the others it is said


# --- limits ---


def test_limits_are_the_slos_by_tier():
    fast, normal, batch = PLACEMENT.limits["a"]
    assert fast == (2.0, 0.05)
    assert normal == (2.0, 0.05)  # a tier that nobody had: the tightest
    assert batch == (NONE_S, NONE_S)
    assert limits_of(FLEET, HISTORY, 3.0, None)["a"][0] == (3.0, 0.05)
    router = find_router(PLACEMENT.router)
    assert router.params["limits"] == [[2.0, 0.05, 2.0, 0.05, NONE_S, NONE_S]]
    half = Aladdin(headroom=1.0).placement(FLEET, HISTORY)
    assert (half.theta_ttft, half.theta_atgt) == (0.5, 0.5)


# --- the relation ---


def test_a_relation_by_hand():
    one = fitted([1.0, 2.0, 4.0], [3.0, 5.0, 9.0])
    assert (one.k5, one.c5, one.off) == pytest.approx((2.0, 1.0, 0.0), abs=1e-9)
    assert [one.workers(r) for r in (0, 0.01, 1, 1.4, 1.51)] == [0, 2, 3, 4, 5]
    assert fitted([1.0, 2.0], [4.0, 3.0]).k5 > 0  # more load never asks for less


def test_workers_in_use_are_counted_at_every_look():
    """Two workers of pool 0: [0, 4) and [1, 3), [9, 10); looks from the second request's arrival on."""
    replicas = pl.DataFrame({"record": [0, 1], "pool": [0, 0]})
    out = SimpleNamespace(
        arrival_s=np.array([0.0, 1.0, 5.0, 9.0, 11.0]), done_s=np.array([4.0, 3.0, 6.0, 10.0, 12.0]),
        hold_s=np.zeros(5),
        record=np.array([0, 1, 0, 1, 0]), prefilled=np.zeros(5, int), first_s=np.zeros(5), transfer_s=np.zeros(5),
        replicas=replicas,
    )  # fmt: skip
    assert used(out, [None], 1.0) == [2.0]
    assert used(out, [None], 0.5) == [1.0]
    assert used(out, [None], 0.01) == [0.0]


def test_more_load_takes_more_workers_and_longer_requests_do():
    pools = list(FLEET.pools)
    (one,) = relations(FLEET, pools, known(), PLACEMENT, 9.0, 20.0, 0.95)
    (long,) = relations(
        FLEET, pools, known().with_columns(pl.col("output_tokens") * 3), PLACEMENT, 9.0, 20.0, 0.95
    )  # fmt: skip
    assert list(one.counts) == sorted(one.counts)
    assert one.counts[-1] > 5
    assert long.k5 > 1.3 * one.k5
    assert one.off < 0.1 * one.counts[-1]
    (again,) = relations(FLEET, pools, known(), PLACEMENT, 9.0, 20.0, 0.95)
    assert again == one


def test_drawn_lengths_are_the_known_ones():
    few = known(30)
    sample = drawn(few, 100, 0)
    assert sample.height == 100
    pairs = set(few.select("input_tokens", "output_tokens").iter_rows())
    assert set(sample.select("input_tokens", "output_tokens").iter_rows()) <= pairs
    assert sample["predicted"].std() < sample["output_tokens"].std()  # a mean of bins


# --- drift ---


def look(t, requests=0.0, inputs=0.0, completions=0.0, outputs=0.0, closer=None, **pool):
    names = [n for n in Seen.__dataclass_fields__ if n not in ("t", "interval_s", "closer")]
    columns = {name: np.zeros(1) for name in names} | {"active": np.ones(1)}
    given = {"arrivals": requests, "arrived_input_tokens": inputs, "completions": completions} | pool
    given["completed_output_tokens"] = outputs
    columns |= {name: np.array([float(value)]) for name, value in given.items()}
    return Seen(t=t, interval_s=5.0, closer=closer, **columns)


def test_lengths_that_drift_are_fitted_anew():
    mean_in, mean_out = float(known()["input_tokens"].mean()), float(known()["output_tokens"].mean())
    mixes = Mixes.of(FLEET, HISTORY, PLACEMENT, 0.95, 0.25)
    mixes.fit()
    before = mixes.relations["a", "shared"]
    for t, times in ((5.0, 1.2), (10.0, 1.2)):  # within 25 %
        mixes.look(t, look(t, 600, 600 * mean_in, 600, 600 * mean_out * times))
        mixes.refit()
    assert mixes.relations["a", "shared"] is before
    mixes.look(15.0, look(15.0, 400, 400 * mean_in, 400, 400 * mean_out * 3))
    mixes.refit()
    assert mixes.relations["a", "shared"] is before  # too few to say so
    mixes.look(20.0, look(20.0, 400, 400 * mean_in, 400, 400 * mean_out * 3))
    mixes.look(20.0, look(20.0, 400, 400 * mean_in, 400, 400 * mean_out * 9))  # the same instant, seen before
    mixes.refit()
    after, mix = mixes.relations["a", "shared"], mixes.of_service["a"]
    assert after.k5 > 1.3 * before.k5
    assert mix.times_out == pytest.approx(3.0)
    assert mix.times_in == pytest.approx(1.0)
    assert mix.fits == 2
    assert float(mix.lengths()["output_tokens"].mean()) == pytest.approx(3 * mean_out, rel=1e-3)


def test_few_known_requests_give_no_relation():
    few = History(0.0, 600.0, 60.0, RATES, pl.DataFrame(), known=known(10))
    mixes = Mixes.of(FLEET, few, PLACEMENT, 0.95, 0.25)
    mixes.fit()
    assert mixes.workers(0, 100.0) == 0
    assert isinstance(mixes.of_service, dict)
    assert Mix(known(), 1.0, 1.0).drifted(0.25) is None


# --- rebalancing ---


def member(rng, number, waits):
    """A request at t = 100, whose TTFT has ended up to 50 ms ago or ends within 300 ms."""
    generated, ttft_s = 0 if waits else int(rng.integers(1, 40)), float(rng.uniform(1, 20))
    return Member(
        number, int(rng.integers(1, 500)), generated + int(rng.integers(1, 60)), generated,
        int(rng.integers(1, 500)) if waits else 0, 100.0 - ttft_s + float(rng.uniform(-0.05, 0.3)),
        np.inf if waits else float(rng.uniform(90, 100)), (ttft_s, float(rng.uniform(0.01, 3.0))), waits,
    )  # fmt: skip


@pytest.mark.parametrize("lane", ["shared", "prefill"])
def test_what_a_worker_keeps_is_what_the_reference_says(lane):
    """(a) to (d) on drawn workers, beside the check of every placement; both answers occur."""
    rng, said = np.random.default_rng(1), []
    for _ in range(600):
        law, room = step_law(H100), int(rng.integers(500, 4000))
        members = [member(rng, k, bool(rng.random() < 0.2)) for k in range(int(rng.integers(0, 8)))]
        more = member(rng, 99, True)
        worker = Worker(0, law, room, 99, members)
        rows = [
            SimpleNamespace(
                input=m.input, predicted=m.predicted, generated=m.generated, arrival=m.arrival_s, limits=m.limits,
                first=None if m.first_s == np.inf else m.first_s,
                computed=m.input + m.generated - 1 if m.unfilled == 0 else m.input + m.generated - m.unfilled,
            )
            for m in [*members, more]
        ]  # fmt: skip
        given = {"theta_ttft": 1.0, "theta_atgt": 1.0, "gamma": 0.5}
        wrong = broken(rows, law, room, 100.0, lane, lambda r: r.limits, given)
        assert kept(worker, more, 100.0, lane, PLACEMENT) == (not wrong)
        said.append(bool(wrong))
    assert 0.05 < np.mean(said) < 0.95


def test_the_peak_is_that_of_every_step():
    rng = np.random.default_rng(2)
    for _ in range(200):
        members = [member(rng, k, False) for k in range(int(rng.integers(1, 10)))]
        rows = [(max(m.predicted - m.generated, 1), m.input + m.generated) for m in members]
        steps = range(1, max(left for left, _ in rows) + 1)
        wanted = max(sum(held + s + 7.5 for left, held in rows if left >= s) for s in steps)
        assert peak(members, 7.5) == pytest.approx(wanted)


def light(number, predicted, waits=True):
    return Member(number, 10, predicted, 0, 10, 100.0, np.inf, (50.0, 5.0), waits)


def worker(number, off, *members):
    return Worker(number, step_law(H100), 400_000, 10, list(members), off)


def test_placements_move_from_the_most_underestimated_worker():
    """300 tokens lie between 1 and 0: the request nearest to half of that goes; then 120 between 1 and 2."""
    crowd = [light(7, 140), light(8, 290), light(9, 20)]
    workers = [worker(0, -100.0), worker(1, 200.0, *crowd), worker(2, 0.0, light(5, 10))]
    assert moves(workers, 100.0, "shared", PLACEMENT) == [(7, 0), (9, 2)]
    assert [w.off for w in workers] == [40.0, 40.0, 20.0]


def test_what_has_begun_or_breaks_a_limit_stays():
    begun = Member(7, 10, 140, 3, 0, 90.0, 99.0, (50.0, 5.0), False)
    assert moves([worker(0, -100.0), worker(1, 200.0, begun)], 100.0, "shared", PLACEMENT) == []
    tight = Member(8, 2000, 100, 0, 2000, 0.0, np.inf, (100.01, 5.0), True)  # 10 ms are left of its TTFT
    assert moves([worker(0, -100.0), worker(1, 200.0, tight)], 100.0, "shared", PLACEMENT) == []
    assert moves([worker(1, 200.0, light(7, 140))], 100.0, "shared", PLACEMENT) == []


# --- at a look ---


class Shown:
    """Workers of one pool: requests that wait and run on each; single requests where given."""

    def __init__(self, waiting, running, surplus=None, requests=()):
        n = len(waiting)
        zeros = np.zeros(n)
        self.found = SeenReplicas(
            np.zeros(n, int), np.arange(n), np.full(n, "active"), np.full(n, H100.name), np.array(waiting, float),
            np.array(running, float), zeros, zeros, np.zeros((n, 0)), np.array(surplus or [0] * n),
        )  # fmt: skip
        number, replica, where, predicted, first = zip(*requests, strict=True) if requests else [()] * 5
        begun, m = np.array(first, float) < np.inf, len(number)
        self.shown = SeenRequests(
            np.array(number, int), np.zeros(m, int), np.array(replica, int), np.array(where, "U10"), np.zeros(m, int),
            np.full(m, 99.9), np.full(m, 10), np.array(predicted, int), np.array(predicted, int), 100 * begun,
            np.where(begun, 0, 10), np.array(first, float),
        )  # fmt: skip

    def replicas(self):
        return self.found

    def requests(self):
        return self.shown


def state_of(policy, floor=0):
    state = policy.start(FLEET, HISTORY)
    assert isinstance(state, State)
    state.floor[0] = floor
    return state


@pytest.mark.parametrize(
    ("seen", "floor", "wanted"),
    [
        ({"active": 4}, 0, 2),  # two of four are empty
        ({"active": 4}, 3, 3),  # the relation wants three
        ({"active": 4}, 5, None),  # not even more go
        ({"active": 4, "starting": 1}, 0, None),
        ({"active": 4, "held": 1}, 0, None),
    ],
)
def test_empty_workers_go(seen, floor, wanted):
    policy = Aladdin(ahead=False)
    said = policy.react(5.0, look(5.0, closer=Shown([0, 0, 1, 0], [3, 0, 0, 0]), **seen), state_of(policy, floor))
    assert said.replicas == ({} if wanted is None else {0: wanted})


def test_a_worker_lingers():
    policy = Aladdin(ahead=False, linger_s=10.0)
    state, said = state_of(policy), []
    for t, busy in ((5.0, 0), (10.0, 3), (15.0, 0), (20.0, 0), (25.0, 0)):
        shown = Shown([0, 0], [2, busy])
        said.append(dict(policy.react(t, look(t, closer=shown, active=2), state).replicas))
    assert said == [{}, {}, {}, {}, {0: 1}]


def test_a_look_moves_what_waits():
    policy = Aladdin(ahead=False)
    state = state_of(policy)
    rows = [(3, 1, "waiting", 120, np.inf), (4, 1, "running", 200, 99.5), (6, 0, "running", 200, 99.5)]
    shown = Shown([0, 1], [1, 1], [-150, 100], rows)
    said = policy.react(100.0, look(100.0, closer=shown, active=2, waiting=1), state)
    assert list(said.migrate) == [(3, 0, 0)]
    again = policy.react(105.0, look(105.0, closer=shown, active=2, waiting=1), state)
    assert list(again.migrate) == []  # nothing completed since
    off = Aladdin(ahead=False, rebalance=False)
    assert not off.react(100.0, look(100.0, closer=shown, active=2, waiting=1), state_of(off)).migrate


def test_the_relation_is_planned_on():
    policy = Aladdin(lead_s=60.0)
    state = state_of(policy)
    state.mixes.relations["a", "shared"] = Relation(2.0, 1.0, 0.0, (1.0,), (3.0,))
    row = {"issued_s": 540.0, "length_s": 60.0, "service": "a", "origin": "eu", "metric": "requests", "quantile": None}
    demand = pl.DataFrame(
        [row | {"start_s": start, "value": 60.0 * r} for start, r in ((600.0, 1.0), (660.0, 4.0), (720.0, 9.0))],
        schema_overrides={"quantile": pl.Float64},
    )
    assert policy.plan(600.0, demand, look(600.0, active=2), state).replicas == {0: 9}  # up to 660: 2 · 4 + 1
    assert policy.plan(600.0, demand, look(600.0, active=20), state).replicas == {}  # the spare go once they are empty
    assert policy.plan(720.0, demand, look(720.0, active=2), state).replicas == {0: 19}
    more = Aladdin(lead_s=60.0, headroom=1.0)
    assert more.plan(600.0, demand, look(600.0, active=2), state).replicas == {0: 17}


# --- GPUs per worker ---


def test_shapes_are_of_one_model_gpu_and_type():
    found = shapes_of(find_profile("llama-3.1-70b/h100/tp2/fp8"))
    assert [p.name for p in found] == [f"llama-3.1-70b/h100/tp{n}/fp8" for n in (2, 4, 8)]
    assert len({p.usd_per_gpu_hour for p in found}) == 1


def test_the_best_shape_serves_the_most_per_gpu():
    fleet = Fleet((Pool("a", "eu", find_profile("llama-3.1-8b/h100/tp2")),), inventory={"eu": {"H100-SXM-80GB": 1}})
    assert [s.profile.tp for s in shapes(fleet, "a", known(), PLACEMENT)] == [1]  # the region has one GPU
    found = shapes(Fleet((Pool("a", "eu", H100),)), "a", known(), PLACEMENT)
    rates = {s.profile.tp: s.per_gpu for s in found}
    assert rates.keys() == {1, 2}
    assert rates[1] == pytest.approx(1 / found[0].relation.k5)
    assert rates[1] > rates[2]  # a small model: splitting it costs more than it brings
