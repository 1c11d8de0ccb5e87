"""The kernel's buffers hold what one event or order moves at once, however many requests that is."""

import os

import numpy as np
import pytest
from cases_full import full_cases
from hypothesis import HealthCheck, given, settings
from test_kernel_full import check

from lmaas.replay import columns as c
from lmaas.replay import engine, world
from lmaas.replay.engine import NEVER, Controller, Replay, Requests
from lmaas.replay.fleet import Fault, Fleet, Pool
from lmaas.replay.kernel.state import zeros
from lmaas.replay.profile import find_profile
from lmaas.replay.protocol import Actions

EXAMPLES = 15 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 60
PROFILE = find_profile("llama-3.1-8b/h100/tp1")


def replay_of(n, input_tokens, profile=PROFILE, replicas=0, controller=NEVER, instant_start=True, faults=()):
    """n requests within ten seconds."""
    zeros = np.zeros(n, np.int64)
    counts = (np.full(n, input_tokens), np.full(n, 50), np.full(n, 50.0))
    fleet = Fleet((Pool("s", "r", profile),), faults=faults)
    requests = Requests(np.linspace(0, 10, n), zeros, *counts, zeros)
    return Replay(requests, fleet, [replicas], controller=controller, instant_start=instant_start)


def test_a_replica_may_be_lost_with_any_number_of_requests_waiting():
    replay = replay_of(4000, 500, replicas=2, faults=(Fault(5.0, pool=0, replica=0),))
    before = len(replay.st.agenda)
    outcome = replay.run(check=True)
    assert (outcome.status == c.OK).all()
    assert outcome.restarts.sum() > before  # more than there was room for


@pytest.mark.parametrize("instant_start", [True, False])
def test_a_queue_of_any_length_may_be_rejected_at_once(monkeypatch, instant_start):
    monkeypatch.setattr(engine, "CHUNK", 256)
    small = PROFILE.model_copy(update={"kv_tokens": 2048})
    at_20_s = Controller(lambda t: 20.0 if t < 20 else np.inf, lambda t, seen: Actions({0: 1}))
    replay = replay_of(5000, 3000, small, controller=at_20_s, instant_start=instant_start)
    before = len(replay.st.done)
    outcome = replay.run(check=True)
    assert (outcome.status == c.REJECTED).all() and len(outcome.status) > before


@pytest.fixture(scope="module")
def cramped():
    """Every replay begins with next to no room. Interpreted, an index beyond an array is an error (`make test`)."""
    with pytest.MonkeyPatch.context() as patch:
        make = world.empty_state

        def least(slots, seqs, block, pools, flights, outputs):
            state = make(slots, seqs, block, pools, 1, outputs)
            return state._replace(agenda=zeros("agenda", 1))

        patch.setattr(engine, "CHUNK", 1)
        patch.setattr(world, "empty_state", least)
        yield


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(full_cases())
def test_replays_that_begin_with_no_room_equal_the_reference(cramped, case):
    check(case)
